//! Network configurations of others on the same node: which one runtimes use, and what to do.
//!
//! Runtimes take the first file in the order of names. None of another is ever changed here: it may
//! be what pods of this node are attached by.

use std::fs;
use std::path::Path;

use felix_api::cni::install::is_configuration;
use serde_json::Value;

/// A configuration of somebody else.
#[derive(Debug, PartialEq, Eq)]
struct Other {
    file: String,
    /// Names of its plugins, as far as it can be read.
    plugins: Vec<String>,
}

/// What is to be said about them, if there are any.
pub(super) fn report(directory: &Path, own: &str) -> Option<String> {
    let mut others = Vec::new();
    // A folder that cannot be listed was written to a moment ago; there is nothing to say then.
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if file != own && is_configuration(&file) {
            let plugins = plugins(&fs::read(entry.path()).unwrap_or_default());
            others.push(Other { file, plugins });
        }
    }
    others.sort_by(|one, other| one.file.cmp(&other.file));
    said(&others, own)
}

fn said(others: &[Other], own: &str) -> Option<String> {
    let names = |some: &[&Other]| -> String {
        let names = some.iter().map(|other| match other.plugins.is_empty() {
            true => format!("{} (cannot be read)", other.file),
            false => format!("{} ({})", other.file, other.plugins.join(",")),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let (before, after): (Vec<&Other>, Vec<&Other>) =
        others.iter().partition(|other| other.file.as_str() < own);
    if let Some(first) = before.first() {
        return Some(format!(
            "WARNING: runtimes use {} and not {own}, because its name comes first; pods get their \
             network from it until it is removed, or until --conf-name comes before it. Also there: {}",
            names(&[first]),
            names(&others.iter().collect::<Vec<_>>()),
        ));
    }
    if after.is_empty() {
        return None;
    }
    Some(format!(
        "runtimes use {own}; also there, and used if it goes: {}",
        names(&after)
    ))
}

/// Types of the plugins of a list, or the one of a single configuration.
fn plugins(content: &[u8]) -> Vec<String> {
    let conf: Value = serde_json::from_slice(content).unwrap_or_default();
    let list = conf["plugins"].as_array().into_iter().flatten();
    let types = list
        .chain([&conf])
        .filter_map(|plugin| plugin["type"].as_str());
    types.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "10-tortie.conflist";

    fn others(files: &[(&str, &str)]) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        report(directory.path(), OWN)
    }

    #[test]
    fn alone_there_is_nothing_to_say() {
        assert_eq!(others(&[]), None);
        let not_read = [
            (OWN, "{}"),
            (".10-tortie.conflist.tmp", "{}"),
            ("00-old.bak", ""),
            ("calico-kubeconfig", ""),
        ];
        assert_eq!(others(&not_read), None);
    }

    #[test]
    fn one_that_comes_first_wins_and_that_is_a_warning() {
        let calico = "{\"plugins\": [{\"type\": \"calico\"}, {\"type\": \"portmap\"}]}";
        let said = others(&[
            ("10-calico.conflist", calico),
            (OWN, "{}"),
            ("99-loopback.conf", "{\"type\": \"loopback\"}"),
        ])
        .unwrap();
        assert!(
            said.starts_with("WARNING: runtimes use 10-calico.conflist (calico,portmap) and not"),
            "{said}"
        );
        assert!(said.contains("99-loopback.conf (loopback)"), "{said}");
    }

    #[test]
    fn one_that_comes_later_is_named() {
        let said = others(&[("20-flannel.conflist", "no JSON"), (OWN, "{}")]).unwrap();
        assert!(
            said.starts_with("runtimes use 10-tortie.conflist"),
            "{said}"
        );
        assert!(
            said.contains("20-flannel.conflist (cannot be read)"),
            "{said}"
        );
    }
}
