//! Kernel settings of the host and of workload interfaces.
//!
//! Values are read first and written only if they differ: writing some of them has effects even
//! when nothing changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A setting that should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// Below `/proc/sys`.
    pub(crate) path: String,
    pub(crate) value: String,
    /// Whether pods are cut off or at risk without it.
    pub(crate) required: bool,
}

/// Something to do about a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Write(Sysctl),
    /// It cannot be read, for this reason.
    Unreadable(Sysctl, String),
}

/// Forwarding as a whole. IPv6 only where it is used: it stops the host from listening to routers.
pub(crate) fn global(ipv6: bool) -> Vec<Sysctl> {
    let mut list = vec![required("net/ipv4/ip_forward", "1")];
    if ipv6 {
        list.push(required("net/ipv6/conf/all/forwarding", "1"));
    }
    list
}

/// Settings of a workload interface (Calico behaviour: the same set, in its order).
///
/// `accept_dad` and `disable_ipv6` are the CNI plugin's to set; they are only held to.
pub(crate) fn interface(name: &str, ipv4: bool, ipv6: bool, rp_filter: &str) -> Vec<Sysctl> {
    let mut list = Vec::new();
    if ipv4 {
        let conf = |setting: &str| format!("net/ipv4/conf/{name}/{setting}");
        list.push(required(conf("route_localnet"), "1"));
        // The kernel would wait before it answers ARP for others.
        list.push(wanted(format!("net/ipv4/neigh/{name}/proxy_delay"), "0"));
        list.push(required(conf("proxy_arp"), "1"));
        list.push(required(conf("forwarding"), "1"));
        list.push(required(conf("rp_filter"), rp_filter));
    }
    let conf = |setting: &str| format!("net/ipv6/conf/{name}/{setting}");
    if ipv6 {
        list.push(required(conf("disable_ipv6"), "0"));
        list.push(wanted(conf("accept_dad"), "0"));
        list.push(required(conf("forwarding"), "1"));
    }
    // No pod may act as the host's router, whether we use IPv6 or not.
    list.push(wanted(conf("accept_ra"), "0"));
    list
}

fn required(path: impl Into<String>, value: &str) -> Sysctl {
    Sysctl {
        path: path.into(),
        value: value.to_owned(),
        required: true,
    }
}

fn wanted(path: impl Into<String>, value: &str) -> Sysctl {
    Sysctl {
        required: false,
        ..required(path, value)
    }
}

/// What to do so that all settings hold.
pub(crate) fn plan(desired: Vec<Sysctl>, read: impl Fn(&str) -> io::Result<String>) -> Vec<Op> {
    desired
        .into_iter()
        .filter_map(|sysctl| match read(&sysctl.path) {
            Ok(value) if value.trim() == sysctl.value => None,
            Ok(_) => Some(Op::Write(sysctl)),
            // A kernel without IPv6, or an interface that is gone already.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !sysctl.required => None,
            Err(error) => Some(Op::Unreadable(sysctl, error.to_string())),
        })
        .collect()
}

/// `/proc/sys`, or a directory like it.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

/// What came of a set of settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) written: u64,
    /// Path and problem of each setting that does not hold although it is required.
    pub(crate) failures: Vec<(String, String)>,
    /// The same for those one can live without.
    pub(crate) warnings: Vec<(String, String)>,
}

impl Tree {
    pub(crate) fn new(root: &Path) -> Tree {
        Tree {
            root: root.to_owned(),
        }
    }

    pub(crate) fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.root.join(path))
    }

    /// Makes the settings hold.
    pub(crate) fn apply(&self, desired: Vec<Sysctl>) -> Outcome {
        let mut outcome = Outcome::default();
        for op in plan(desired, |path| self.read(path)) {
            let (sysctl, problem) = match op {
                Op::Write(sysctl) => match fs::write(self.root.join(&sysctl.path), &sysctl.value) {
                    Ok(()) => {
                        outcome.written += 1;
                        continue;
                    }
                    Err(error) => (sysctl, error.to_string()),
                },
                Op::Unreadable(sysctl, problem) => (sysctl, problem),
            };
            let problem = format!("cannot be set to {}: {problem}", sysctl.value);
            if sysctl.required {
                outcome.failures.push((sysctl.path, problem));
            } else {
                outcome.warnings.push((sysctl.path, problem));
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let ops = plan(interface("cali1", true, false, "1"), |path| {
            Ok(match path.rsplit('/').next() {
                Some("proxy_arp") => "0\n",
                Some("proxy_delay") => "80\n",
                Some("accept_ra") => "0\n",
                _ => "1\n",
            }
            .to_owned())
        });
        assert_eq!(
            ops,
            [
                Op::Write(wanted("net/ipv4/neigh/cali1/proxy_delay", "0")),
                Op::Write(required("net/ipv4/conf/cali1/proxy_arp", "1")),
            ]
        );
    }

    #[test]
    fn a_kernel_without_ipv6_is_no_failure_for_an_ipv4_pod() {
        let missing = |path: &str| {
            if path.contains("ipv6") {
                Err(io::ErrorKind::NotFound.into())
            } else {
                Ok("1".to_owned())
            }
        };
        let ops = plan(interface("cali1", true, false, "1"), missing);
        assert!(ops.iter().all(|op| matches!(op, Op::Write(_))), "{ops:?}");
        let ops = plan(interface("cali1", false, true, "1"), missing);
        assert!(matches!(&ops[0], Op::Unreadable(s, _) if s.path.ends_with("disable_ipv6")));
    }

    #[test]
    fn router_advertisements_are_refused_from_every_pod() {
        let list = interface("cali1", true, false, "1");
        assert!(list.contains(&wanted("net/ipv6/conf/cali1/accept_ra", "0")));
    }

    #[test]
    fn a_refused_write_is_reported_with_its_path() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        fs::create_dir_all(root.path().join("net/ipv4")).unwrap();
        fs::write(root.path().join("net/ipv4/ip_forward"), "0").unwrap();
        let outcome = tree.apply(global(true));
        assert_eq!(outcome.written, 1);
        assert_eq!(tree.read("net/ipv4/ip_forward").unwrap(), "1");
        assert_eq!(outcome.failures[0].0, "net/ipv6/conf/all/forwarding");
        assert_eq!(tree.apply(global(false)), Outcome::default());
    }
}
