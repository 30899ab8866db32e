//! Namespaces and links of one lab.
//!
//! Every namespace is called `<lab>-<name>`, so that one prefix finds all of
//! them: a lab that was killed is removed by the next one of the same name.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::command::{feed, ip, output, run};

/// One network namespace, addressed by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Name as `ip netns` shows it.
    pub name: String,
}

impl Namespace {
    /// Path that a CNI runtime would pass as `CNI_NETNS`.
    pub fn path(&self) -> PathBuf {
        Path::new("/var/run/netns").join(&self.name)
    }

    /// A command that will run inside this namespace. The process it starts is
    /// the program itself, so signals reach it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `line` (split at spaces) inside and returns its standard output.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("empty command")?;
        let output = output(self.command(program).args(words))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`Namespace::run`], with `input` on standard input.
    pub fn feed(&self, line: &str, input: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("empty command")?;
        feed(self.command(program).args(words), input)
    }

    /// Runs `ip -j` inside.
    pub fn ip_json(&self, arguments: &str) -> Result<serde_json::Value> {
        crate::command::ip_json(&format!("-n {} {arguments}", self.name))
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// Calls `work` on a thread that lives in this namespace. Sockets that it
    /// opens stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.path();
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    let file =
                        File::open(&path).with_context(|| format!("open {}", path.display()))?;
                    setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
                    work()
                })
                .join()
                .map_err(|_| anyhow!("the thread in {} panicked", self.name))?
        })
    }
}

/// A set of namespaces around one Ethernet segment, and a folder for files.
#[derive(Debug)]
pub struct Lab {
    name: String,
    folder: PathBuf,
    keep: bool,
}

impl Lab {
    /// Makes an empty lab: removes what an earlier one of this name left, then
    /// creates the folder and the switch.
    pub fn new(name: &str) -> Result<Self> {
        remove(name)?;
        let folder = folder(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let lab = Self {
            name: name.to_owned(),
            folder,
            keep: false,
        };
        let switch = lab.namespace("switch")?;
        switch.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0")?;
        switch.ip("link set br0 up")?;
        Ok(lab)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Folder for this lab's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves everything running when the lab goes out of scope.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Makes a namespace with its loopback up.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        let namespace = Namespace {
            name: format!("{}-{name}", self.name),
        };
        ip(&format!("netns add {}", namespace.name))?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Removes one namespace and whatever runs in it.
    pub fn remove_namespace(&self, namespace: &Namespace) -> Result<()> {
        remove_namespace(&namespace.name)
    }

    /// Plugs a namespace into the switch as `eth0` with these addresses.
    pub fn plug(&self, namespace: &Namespace, port: &str, addresses: &[&str]) -> Result<()> {
        let switch = &format!("{}-switch", self.name);
        ip(&format!(
            "link add {port} netns {switch} mtu 1500 type veth peer name eth0 netns {} mtu 1500",
            namespace.name
        ))?;
        ip(&format!("-n {switch} link set {port} master br0 up"))?;
        // Duplicate address detection would delay the first session by a second.
        namespace.run("sysctl -qw net.ipv6.conf.eth0.accept_dad=0")?;
        for address in addresses {
            namespace.ip(&format!("address add {address} dev eth0"))?;
        }
        namespace.ip("link set eth0 up")?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = remove(&self.name)
        {
            eprintln!("lab {} is not removed: {error:#}", self.name);
        }
    }
}

/// Removes the lab of this name: processes, namespaces, files. Nothing there is fine.
pub fn remove(name: &str) -> Result<()> {
    let list = run("ip", &["netns", "list"])?;
    let prefix = format!("{name}-");
    let mut failures = Vec::new();
    for namespace in list.lines().filter_map(|line| line.split(' ').next()) {
        if namespace.starts_with(&prefix)
            && let Err(error) = remove_namespace(namespace)
        {
            failures.push(format!("{error:#}"));
        }
    }
    let folder = folder(name);
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        failures.push(format!("{}: {error}", folder.display()));
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(failures.join("; "))),
    }
}

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tortie-{name}"))
}

fn remove_namespace(name: &str) -> Result<()> {
    for pid in ip(&format!("netns pids {name}"))?.split_whitespace() {
        // A process may be gone already; the namespace goes with the last one.
        let _ = run("kill", &["-9", pid]);
    }
    ip(&format!("netns delete {name}"))?;
    Ok(())
}
