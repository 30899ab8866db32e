//! `tortie-cni install`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::lab::lab;

fn install(directory: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tortie-cni"))
        .arg("install")
        .arg("--bin-dir")
        .arg(directory.join("bin"))
        .arg("--conf-dir")
        .arg(directory.join("conf"))
        .args(more)
        .output()
        .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn plugin_and_configuration_are_whole_and_nothing_else_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (bin, conf) = (directory.path().join("bin"), directory.path().join("conf"));
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("portmap"), "").unwrap();
    // The second time everything is replaced while it may be in use.
    for mtu in ["0", "1400"] {
        let output = install(directory.path(), &["--mtu", mtu]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("without bandwidth"), "{said}");
    }
    assert_eq!(
        fs::read(bin.join("tortie-cni")).unwrap(),
        fs::read(env!("CARGO_BIN_EXE_tortie-cni")).unwrap()
    );
    let conflist = conf.join("10-tortie.conflist");
    assert_eq!(
        (mode(&bin.join("tortie-cni")), mode(&conflist)),
        (0o755, 0o600)
    );
    assert_eq!(fs::read_dir(&conf).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&bin).unwrap().count(), 2);
    let conflist: Value = serde_json::from_slice(&fs::read(conflist).unwrap()).unwrap();
    assert_eq!(conflist["plugins"][0]["mtu"], 1400);
    assert_eq!(conflist["plugins"][1]["type"], "portmap");
    assert_eq!(conflist["plugins"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_in_place_is_not_written_again_and_versions_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let said = |output: Output| {
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let conflist = directory.path().join("conf/10-tortie.conflist");
    let own = env!("CARGO_PKG_VERSION");
    let first = said(install(directory.path(), &[]));
    assert!(
        first.contains(&format!("installed version {own}")),
        "{first}"
    );
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&conflist);
    let again = said(install(directory.path(), &[]));
    assert!(again.contains("in place already"), "{again}");
    assert_eq!(inode(&conflist), before);
    // What an older release left.
    let text = fs::read_to_string(&conflist).unwrap();
    fs::write(&conflist, text.replace(own, "0.0.9")).unwrap();
    let upgraded = said(install(directory.path(), &[]));
    assert!(upgraded.contains("there was 0.0.9"), "{upgraded}");
    // A link in its place, perhaps to the file of somebody else, is replaced and not followed.
    let foreign = directory.path().join("foreign");
    fs::rename(&conflist, &foreign).unwrap();
    std::os::unix::fs::symlink(&foreign, &conflist).unwrap();
    said(install(directory.path(), &["--mtu", "1400"]));
    assert!(fs::symlink_metadata(&conflist).unwrap().is_file());
    assert!(!fs::read_to_string(&foreign).unwrap().contains("1400"));
}

#[test]
fn a_configuration_that_comes_first_by_name_stays_and_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("conf");
    fs::create_dir(&conf).unwrap();
    let calico = conf.join("10-calico.conflist");
    fs::write(&calico, "{\"plugins\": [{\"type\": \"calico\"}]}").unwrap();
    let output = install(directory.path(), &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("WARNING: runtimes use 10-calico.conflist (calico)"),
        "{said}"
    );
    assert!(calico.exists() && conf.join("10-tortie.conflist").exists());
    let output = install(directory.path(), &["--conf-name", "05-tortie.conflist"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("runtimes use 05-tortie.conflist"), "{said}");
}

#[test]
fn installers_that_run_at_a_time_leave_one_whole_result() {
    let directory = tempfile::tempdir().unwrap();
    let conflist = directory.path().join("conf/10-tortie.conflist");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let done = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done() {
                // What a runtime sees at any moment.
                if let Ok(text) = fs::read(&conflist) {
                    let conf: Value = serde_json::from_slice(&text).expect("a whole file");
                    assert_eq!(conf["plugins"][0]["type"], "tortie-cni");
                    let plugin = directory.path().join("bin/tortie-cni");
                    assert_eq!(mode(&plugin), 0o755, "the plugin comes first");
                }
            }
        });
        let installers: Vec<_> = (0..8)
            .map(|number| {
                let mtu = (1400 + number).to_string();
                let path = directory.path();
                scope.spawn(move || install(path, &["--mtu", &mtu]))
            })
            .collect();
        let outputs: Vec<Output> = installers
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
        for output in outputs {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
    });
    for folder in ["bin", "conf"] {
        let count = fs::read_dir(directory.path().join(folder)).unwrap().count();
        assert_eq!(count, 1, "{folder} holds nothing else");
    }
}

#[test]
fn without_a_plugin_there_is_no_configuration() {
    let directory = tempfile::tempdir().unwrap();
    // A directory in the plugin's place cannot be replaced.
    fs::create_dir_all(directory.path().join("bin/tortie-cni/occupied")).unwrap();
    let output = install(directory.path(), &[]);
    assert!(!output.status.success());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("bin/tortie-cni")
    );
    assert!(!directory.path().join("conf/10-tortie.conflist").exists());
}

#[test]
fn wrong_options_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = install(directory.path(), &["--mut", "1400"]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("--mut"));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn what_was_installed_attaches_pods() {
    let Some(lab) = lab() else { return };
    let directory = tempfile::tempdir().unwrap();
    let socket = lab.directory.path().join("cni.sock");
    let more = [
        "--socket",
        socket.to_str().unwrap(),
        "--cni-version",
        "1.1.0",
    ];
    assert!(install(directory.path(), &more).status.success());
    let conflist = fs::read(directory.path().join("conf/10-tortie.conflist")).unwrap();
    let conflist: Value = serde_json::from_slice(&conflist).unwrap();
    let mut conf = conflist["plugins"][0].clone();
    conf["name"] = conflist["name"].clone();
    conf["cniVersion"] = conflist["cniVersion"].clone();
    let pod = lab.pod();
    let program = directory.path().join("bin/tortie-cni");
    let result = lab.pod_call("ADD", &pod, &conf).program(program).succeed();
    assert_eq!(result["ips"][0]["address"], json!("10.65.0.1/32"));
    lab.assert_attached(&pod);
}
