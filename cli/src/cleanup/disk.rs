//! What the installer of the plugin and the agent wrote on the disk of the node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use felix_api::cni::install::{Network, PLUGIN, is_configuration};
use felix_api::cni::{ENDPOINTS, tombstone};

use super::running::sockets;

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) bin_dir: PathBuf,
    pub(super) conf_dir: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) run_dir: PathBuf,
}

/// A file or a folder of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Configuration(PathBuf),
    Plugin(PathBuf),
    /// With all that is in it.
    State(PathBuf),
    Socket(PathBuf),
    /// Only when nothing is in it.
    Folder(PathBuf),
}

/// With why it stays if it does.
type Found = Vec<(Place, Option<&'static str>)>;

impl Place {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Place::Configuration(_) => "CNI configuration",
            Place::Plugin(_) => "CNI plugin",
            Place::State(_) => "state",
            Place::Socket(_) => "socket",
            Place::Folder(_) => "folder",
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Place::Configuration(path)
            | Place::Plugin(path)
            | Place::State(path)
            | Place::Socket(path)
            | Place::Folder(path) => path,
        }
    }

    /// Removes it; that it is gone already is fine.
    pub(super) fn remove(&self) -> Result<(), String> {
        let done = match self {
            Place::Configuration(path) | Place::Plugin(path) | Place::Socket(path) => {
                fs::remove_file(path)
            }
            Place::State(path) => fs::remove_dir_all(path),
            Place::Folder(path) => fs::remove_dir(path),
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

impl Disk {
    /// Refuses a folder of state that would take others with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let state = &self.state_dir;
        let others = [&self.bin_dir, &self.conf_dir, &self.run_dir];
        if others.into_iter().any(|other| other.starts_with(state)) {
            return Err(format!(
                "--state-dir {}: nothing of others may be in it; name the agent's own folder",
                state.display()
            ));
        }
        Ok(())
    }

    /// What goes first, so that no new pod comes, and what goes last; in the order of removal.
    /// While there are pods, what the runtime needs to take them down stays.
    pub(super) fn find(&self, has_pods: bool) -> Result<(Found, Found), String> {
        let (ours, others) = self.configurations()?;
        let stays = (has_pods && others == 0)
            .then_some("without any configuration the runtime cannot take pods down");
        let first = ours
            .into_iter()
            .map(|path| (Place::Configuration(path), stays))
            .collect();
        let stays = has_pods.then_some("the runtime takes pods down by it");
        let mut last = Vec::new();
        let plugin = self.bin_dir.join(PLUGIN);
        if plugin.is_file() {
            last.push((Place::Plugin(plugin), stays));
        }
        // Agent and plugin make these; a folder with neither is somebody else's.
        let records = self.state_dir.join(ENDPOINTS);
        if records.is_dir() || tombstone::directory(&self.state_dir).is_dir() {
            let stays = has_pods.then_some("it says which pods there are");
            last.push((Place::State(self.state_dir.clone()), stays));
        }
        let sockets = sockets(&self.run_dir);
        let is_ours_alone = || {
            let entries = fs::read_dir(&self.run_dir);
            entries.is_ok_and(|entries| entries.count() == sockets.len())
        };
        let folder = is_ours_alone().then(|| Place::Folder(self.run_dir.clone()));
        last.extend(sockets.into_iter().map(|path| (Place::Socket(path), None)));
        last.extend(folder.map(|folder| (folder, None)));
        Ok((first, last))
    }

    /// Files that our installer wrote, and how many of others there are.
    fn configurations(&self) -> Result<(Vec<PathBuf>, usize), String> {
        let entries = match fs::read_dir(&self.conf_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            Err(error) => return Err(format!("{}: {error}", self.conf_dir.display())),
        };
        let (mut ours, mut others) = (Vec::new(), 0);
        for entry in entries.flatten() {
            if !is_configuration(&entry.file_name().to_string_lossy()) {
                continue;
            }
            // Without a version somebody else wrote it.
            let content = fs::read(entry.path()).unwrap_or_default();
            let own = Network::parse(&content).and_then(Network::own);
            match own.and_then(|plugin| plugin.version) {
                Some(_) => ours.push(entry.path()),
                None => others += 1,
            }
        }
        ours.sort();
        Ok((ours, others))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const OURS: &str = r#"{"plugins": [{"type": "tortie-cni", "version": "0.1.0"}]}"#;

    fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, Disk) {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["bin", "conf", "state/endpoints", "run"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for (path, content) in files {
            fs::write(at(path), content).unwrap();
        }
        let disk = Disk {
            bin_dir: at("bin"),
            conf_dir: at("conf"),
            state_dir: at("state"),
            run_dir: at("run"),
        };
        (root, disk)
    }

    /// Paths below the root, of what goes and of what stays.
    fn found(disk: &Disk, has_pods: bool) -> [Vec<String>; 2] {
        let (first, last) = disk.find(has_pods).unwrap();
        let root = disk.bin_dir.parent().unwrap();
        let path = |place: &Place| {
            let path = place.path().strip_prefix(root).unwrap();
            path.display().to_string()
        };
        let all: Vec<_> = first.iter().chain(&last).collect();
        [false, true].map(|stays| {
            let matching = all.iter().filter(|(_, why)| why.is_some() == stays);
            matching.map(|(place, _)| path(place)).collect()
        })
    }

    #[test]
    fn what_we_wrote_is_found_and_what_others_wrote_is_not() {
        let (_root, disk) = node(&[
            ("bin/tortie-cni", ""),
            ("bin/bridge", ""),
            ("conf/10-tortie.conflist", OURS),
            ("conf/10-calico.conflist", OURS),
            (
                "conf/05-hand.conflist",
                r#"{"plugins": [{"type": "tortie-cni"}]}"#,
            ),
            ("conf/20-flannel.conflist", "{"),
            ("conf/readme", OURS),
        ]);
        drop(UnixListener::bind(disk.run_dir.join("cni.sock")).unwrap());
        let all = [
            "conf/10-calico.conflist",
            "conf/10-tortie.conflist",
            "bin/tortie-cni",
            "state",
            "run/cni.sock",
            "run",
        ];
        assert_eq!(
            found(&disk, false),
            [all.map(str::to_owned).to_vec(), vec![]]
        );
        let (first, last) = disk.find(false).unwrap();
        for (place, _) in first.iter().chain(&last) {
            place.remove().unwrap();
            place.remove().unwrap();
        }
        assert_eq!(found(&disk, false), [[""; 0]; 2]);
        for kept in ["05-hand.conflist", "20-flannel.conflist", "readme"] {
            assert!(disk.conf_dir.join(kept).exists(), "{kept}");
        }
        assert!(disk.bin_dir.join("bridge").exists());
    }

    #[test]
    fn pods_keep_what_takes_them_down() {
        let files = [("bin/tortie-cni", ""), ("conf/10-tortie.conflist", OURS)];
        let (_root, disk) = node(&files);
        let [goes, stays] = found(&disk, true);
        assert_eq!(goes, ["run"]);
        assert_eq!(
            stays,
            ["conf/10-tortie.conflist", "bin/tortie-cni", "state"]
        );
        // Another one is there: new pods are to be its.
        fs::write(disk.conf_dir.join("20-other.conf"), "{}").unwrap();
        let [goes, stays] = found(&disk, true);
        assert_eq!(goes, ["conf/10-tortie.conflist", "run"]);
        assert_eq!(stays, ["bin/tortie-cni", "state"]);
    }

    #[test]
    fn a_folder_of_sockets_with_something_else_in_it_stays() {
        let (_root, disk) = node(&[("run/felix.log", "")]);
        drop(UnixListener::bind(disk.run_dir.join("cni.sock")).unwrap());
        assert_eq!(found(&disk, false)[0], ["state", "run/cni.sock"]);
    }

    #[test]
    fn a_folder_that_is_not_the_agents_is_no_state() {
        let (_root, disk) = node(&[]);
        assert_eq!(disk.check(), Ok(()));
        let around = Disk {
            state_dir: disk.bin_dir.parent().unwrap().to_owned(),
            ..disk.clone()
        };
        assert!(around.check().unwrap_err().contains("--state-dir"));
        fs::remove_dir(disk.state_dir.join(ENDPOINTS)).unwrap();
        fs::write(disk.state_dir.join("mail"), "").unwrap();
        assert_eq!(found(&disk, false)[0], ["run"]);
    }
}
