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
