//! One node of a real cluster: containerd, kubelet and kube-proxy in namespaces of their own.
//!
//! Its first process holds a mount, a PID and a network namespace. Every process of the node and
//! of its pods ends with that one, and what was mounted goes with the last of them; nothing of it
//! is seen outside. `/etc`, `/opt`, `/run`, `/var/lib` and `/var/log` are its own, so everything
//! is where it is on a real node, and other daemons of this machine are not disturbed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::apiserver::ApiServer;
use crate::command::{output, run};
use crate::lab::{Lab, Namespace};
use crate::wait;

/// What the first process does.
const INIT: &str = include_str!("node-init");
/// A command to a daemon of the node may take this long.
const LIMIT: Duration = Duration::from_secs(60);
/// What a real node has from its distribution.
const PLUGINS: &str = "/usr/lib/cni";

/// The daemons of a node, in the order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// The container runtime.
    Containerd,
    /// The node agent of Kubernetes.
    Kubelet,
    /// Service addresses.
    KubeProxy,
}

impl Daemon {
    /// Name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
        }
    }
}

/// A node with its daemons.
#[derive(Debug)]
pub struct Machine {
    /// Name of the Node object.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its network.
    pub namespace: Namespace,
    folder: PathBuf,
    tools: PathBuf,
    init: Child,
    pid: u32,
    daemons: BTreeMap<Daemon, Child>,
}

impl Machine {
    /// Makes a node with this address, given with the length of its subnet; starts no daemon.
    pub fn new(lab: &Lab, name: &str, address: &str, gateway: &str) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        lab.plug(&namespace, name, &[address])?;
        namespace.ip(&format!("route add default via {gateway}"))?;
        let folder = lab.folder().join(name);
        fs::create_dir_all(&folder)?;
        let script = folder.join("init");
        fs::write(&script, INIT)?;
        let log = File::create(folder.join("init.log"))?;
        let cgroup = format!("{}/{name}", super::cgroup(lab.name()));
        let init = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "nsenter"])
            .arg(format!("--net={}", namespace.path().display()))
            .args(["--", "unshare", "--mount", "--pid", "--fork"])
            .args(["--kill-child=KILL", "--mount-proc", "--", "sh"])
            .args([&script, &folder])
            .arg(cgroup)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start the first process of a node")?;
        let mut machine = Self {
            name: name.to_owned(),
            address: address.split('/').next().unwrap_or(address).to_owned(),
            namespace,
            folder,
            tools: PathBuf::new(),
            init,
            pid: 0,
            daemons: BTreeMap::new(),
        };
        wait::until("the file systems of a node", LIMIT, || {
            let log = fs::read_to_string(machine.folder.join("init.log"))?;
            ensure!(machine.init.try_wait()?.is_none(), "it ended: {log}");
            Ok(machine.folder.join("ready").exists().then_some(()))
        })?;
        let parent = machine.init.id().to_string();
        machine.pid = run("pgrep", &["-P", &parent])?.trim().parse()?;
        machine.install_plugins()?;
        Ok(machine)
    }

    /// The plugins that a runtime and chains need, where the node looks for them.
    fn install_plugins(&self) -> Result<()> {
        for name in ["loopback", "portmap", "bandwidth"] {
            let to = self.path("/opt/cni/bin").join(name);
            fs::copy(Path::new(PLUGINS).join(name), to)
                .context("plugins are Debian's package containernetworking-plugins")?;
        }
        Ok(())
    }

    /// Starts the daemons. Images, as OCI archives, are there before the kubelet asks for them.
    pub fn start(&mut self, api: &ApiServer, images: &[PathBuf]) -> Result<()> {
        self.tools = api.tools().to_owned();
        self.configure(api)?;
        self.start_daemon(Daemon::Containerd)?;
        for image in images {
            self.run(&format!(
                "ctr --namespace k8s.io images import {}",
                image.display()
            ))?;
        }
        self.start_daemon(Daemon::Kubelet)?;
        self.start_daemon(Daemon::KubeProxy)
    }

    fn configure(&self, api: &ApiServer) -> Result<()> {
        fs::write(self.folder.join("containerd.toml"), CONTAINERD)?;
        let user = format!("system:node:{}", self.name);
        let kubeconfig = api.kubeconfig(&user, &["system:nodes"])?;
        fs::copy(kubeconfig, self.folder.join("kubelet.kubeconfig"))?;
        let text = KUBELET.replace(
            "AUTHORITY",
            &api.certificate_authority().display().to_string(),
        );
        fs::write(self.folder.join("kubelet.yaml"), text)?;
        let kubeconfig = api.kubeconfig("system:kube-proxy", &[])?;
        fs::copy(kubeconfig, self.folder.join("kube-proxy.kubeconfig"))?;
        Ok(())
    }

    /// Starts a daemon, which must not run, and waits until it works; its log is appended to.
    pub fn start_daemon(&mut self, daemon: Daemon) -> Result<()> {
        self.spawn(daemon)?;
        let what = format!("{} of {} to work", daemon.program(), self.name);
        wait::until(&what, LIMIT, || match daemon {
            Daemon::Containerd => self.run("ctr version").map(Some),
            Daemon::Kubelet => self
                .run("busybox wget -qO- http://127.0.0.1:10248/healthz")
                .map(Some),
            Daemon::KubeProxy => self
                .run("busybox wget -qO- http://127.0.0.1:10256/livez")
                .map(Some),
        })
        .map(drop)
    }

    /// Lets the runtime, from its next start on, look for plugins in this folder of the node.
    pub fn use_plugins_of(&self, folder: &str) -> Result<()> {
        let cni = "[plugins.\"io.containerd.grpc.v1.cri\".cni]";
        let text = format!("{CONTAINERD}{cni}\nbin_dir = \"{folder}\"\n");
        Ok(fs::write(self.folder.join("containerd.toml"), text)?)
    }

    fn spawn(&mut self, daemon: Daemon) -> Result<()> {
        let own = |name: &str| self.folder.join(name).display().to_string();
        let (program, arguments) = match daemon {
            Daemon::Containerd => (
                PathBuf::from("containerd"),
                vec!["--config".to_owned(), own("containerd.toml")],
            ),
            Daemon::Kubelet => (
                self.tools.join("kubelet"),
                vec![
                    format!("--config={}", own("kubelet.yaml")),
                    format!("--kubeconfig={}", own("kubelet.kubeconfig")),
                    format!("--hostname-override={}", self.name),
                    format!("--node-ip={}", self.address),
                ],
            ),
            Daemon::KubeProxy => (
                self.tools.join("kube-proxy"),
                vec![
                    format!("--kubeconfig={}", own("kube-proxy.kubeconfig")),
                    format!("--hostname-override={}", self.name),
                    "--proxy-mode=nftables".to_owned(),
                    // These belong to the whole machine.
                    "--conntrack-max-per-core=0".to_owned(),
                    "--conntrack-tcp-timeout-established=0s".to_owned(),
                    "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
                ],
            ),
        };
        let name = daemon.program();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(daemon))?;
        let child = self
            .command("sh")
            // Its number in the node is what signals are sent to.
            .args(["-c", "echo $$ >\"$0\"; exec \"$@\""])
            .arg(format!("/run/{name}.pid"))
            .arg(program)
            .args(arguments)
            .env("TMPDIR", self.folder.join("tmp"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name} of {}", self.name))?;
        self.daemons.insert(daemon, child);
        Ok(())
    }

    /// Ends a daemon and waits until it is gone; containers stay.
    pub fn stop_daemon(&mut self, daemon: Daemon, signal: Signal) -> Result<()> {
        let name = daemon.program();
        let mut child = self
            .daemons
            .remove(&daemon)
            .with_context(|| format!("{name} does not run"))?;
        let pid = fs::read_to_string(self.path(&format!("/run/{name}.pid")))?;
        self.run(&format!("kill -{} {}", signal.as_str(), pid.trim()))?;
        let what = format!("{name} of {} to end", self.name);
        wait::until(&what, LIMIT, || Ok(child.try_wait()?))?;
        Ok(())
    }

    /// Where a daemon logs to.
    pub fn log(&self, daemon: Daemon) -> PathBuf {
        self.folder.join(format!("{}.log", daemon.program()))
    }

    /// Where a file of the node is on this machine. What is mounted later on is not seen there.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// A command that will run on the node. A signal to it does not reach what it starts.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid.to_string()])
            .args(["--mount", "--pid", "--net", "--"])
            .arg(program);
        command
    }

    /// Runs `line` (split at spaces) on the node and returns its standard output.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("empty command")?;
        let output = output(self.command(program).args(words))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Network namespaces of pods, by the inode that tells them apart.
    pub fn sandboxes(&self) -> Result<Vec<u64>> {
        let mut inodes = Vec::new();
        for entry in fs::read_dir(self.path("/run/netns"))? {
            // One that goes in this very moment is gone.
            if let Ok(metadata) = fs::metadata(entry?.path()) {
                inodes.push(metadata.ino());
            }
        }
        Ok(inodes)
    }

    /// Ends every process of the node, as a power cut.
    pub fn power_off(&mut self) -> Result<()> {
        self.init.kill()?;
        self.init.wait()?;
        for (_, mut child) in std::mem::take(&mut self.daemons) {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.power_off() {
            eprintln!("{} is not switched off: {error:#}", self.name);
        }
    }
}

/// Without CAP_SYS_RESOURCE and AppArmor; all else is what it is on any node.
const CONTAINERD: &str = r#"version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#;

/// AUTHORITY is the certificate by which the API server is known. It never evicts and never collects images.
const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: 'AUTHORITY'}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
cgroupsPerQOS: true
enforceNodeAllocatable: []
resolvConf: ''
evictionHard: {nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
";
