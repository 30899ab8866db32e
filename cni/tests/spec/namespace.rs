//! Network namespaces without a name, gone with the process that holds them.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use netlink::netns::NetNs;
use serde_json::Value;

/// A network namespace, held by a process that ends with the test.
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    pub(crate) fn new() -> Namespace {
        let mut holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What `cat` echoes was read after the namespace was made.
        holder.stdin.as_mut().unwrap().write_all(b"!").unwrap();
        let mut echo = [0];
        holder
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut echo)
            .expect("no new namespace: not root?");
        let namespace = Namespace { holder };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// A program to be run in this namespace; it keeps the id of the process started.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs a program here and returns its output.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `ip -j -d <arguments>` answers; null when it says nothing.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["-j", "-d"];
        all.extend(arguments);
        serde_json::from_str(&self.run("ip", &all)).unwrap_or_default()
    }

    /// The interfaces of kind veth, as `ip` describes them.
    pub(crate) fn veths(&self) -> Vec<Value> {
        self.ip(&["address", "show", "type", "veth"])
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Writes a value below `/proc/sys/net`.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        self.run(
            "sh",
            &["-c", &format!("echo {value} > /proc/sys/net/{name}")],
        );
    }

    /// Reads a value below `/proc/sys/net`.
    pub(crate) fn read_sysctl(&self, name: &str) -> String {
        self.run("cat", &[&format!("/proc/sys/net/{name}")])
            .trim()
            .to_owned()
    }

    /// Runs code here, e.g. to open sockets.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        NetNs::open(self.path()).unwrap().run(work).unwrap()
    }

    /// Whether three seconds are enough for one echo from here.
    pub(crate) fn reaches(&self, address: &str) -> bool {
        let mut ping = self.command("ping");
        ping.args(["-c", "1", "-W", "3", address]);
        ping.stdout(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Failing here means that the holder is gone, which is what is wanted.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
