//! A Kubernetes API server with its etcd, and kubectl: the programs of `e2e/kubernetes/get-tools`.
//!
//! It lives on loopback, or in a namespace of a lab, and ends with its value: processes, files.
//! There is no controller and no kubelet: nothing happens to an object but what a test does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::command::{feed, output, run};
use crate::lab::Namespace;
use crate::wait;

pub mod bulk;
mod certificates;

use certificates::Authority;

/// A cold API server under load.
const START: Duration = Duration::from_secs(120);
/// What it is to finish when asked to end.
const STOP: Duration = Duration::from_secs(20);

/// Who asks for what is noted for those who come with the rights of a service account.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ['system:serviceaccounts']}
  - {level: None}
";

/// What an API server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Objects: nothing happens to them but what a test does.
    Objects,
    /// A cluster: controllers, kubelets and pods use it.
    Cluster,
}

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    purpose: Purpose,
    folder: PathBuf,
    namespace: Option<Namespace>,
    address: SocketAddr,
    etcd_ports: [u16; 2],
    authority: Authority,
    tools: PathBuf,
    etcd: Option<Child>,
    server: Option<Child>,
}

impl ApiServer {
    /// Starts one on loopback, at ports that are free, with its files in this folder.
    pub fn on_loopback(folder: &Path) -> Result<Self> {
        let [api, client, peer] = free_ports()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, api));
        Self::start(Purpose::Objects, folder, None, address, [client, peer])
    }

    /// Starts one in a namespace that has this address, at port 6443.
    pub fn inside(folder: &Path, namespace: &Namespace, address: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(address, 6443);
        let ports = [2379, 2380];
        Self::start(
            Purpose::Objects,
            folder,
            Some(namespace.clone()),
            address,
            ports,
        )
    }

    /// As [`ApiServer::inside`], for controllers, kubelets and pods.
    pub fn of_cluster(folder: &Path, namespace: &Namespace, address: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(address, 6443);
        let ports = [2379, 2380];
        Self::start(
            Purpose::Cluster,
            folder,
            Some(namespace.clone()),
            address,
            ports,
        )
    }

    fn start(
        purpose: Purpose,
        folder: &Path,
        namespace: Option<Namespace>,
        address: SocketAddr,
        etcd_ports: [u16; 2],
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut server = Self {
            purpose,
            authority: Authority::new(folder)?,
            tools: tools(purpose)?,
            folder: folder.to_owned(),
            namespace,
            address,
            etcd_ports,
            etcd: None,
            server: None,
        };
        let names = format!("IP:{}, IP:127.0.0.1, IP:10.96.0.1", address.ip());
        server
            .authority
            .issue("server", "kube-apiserver", &[], &names)?;
        server.authority.key("service-accounts")?;
        server.kubeconfig("admin", &["system:masters"])?;
        fs::write(server.folder.join("audit.yaml"), AUDIT)?;
        server.start_etcd()?;
        server.start_server()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Folder with kubectl of its release.
    pub fn tools(&self) -> &Path {
        &self.tools
    }

    /// File of this name among those of the API server.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Certificate by which clients know it.
    pub fn certificate_authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    /// Makes a kubeconfig for a user of these groups and returns its path.
    pub fn kubeconfig(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let (certificate, key) = self.authority.issue(user, user, groups, "DNS:client")?;
        let path = self.folder.join(format!("{user}.kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: lab, cluster: {{server: \"{}\", certificate-authority: \"{}\"}}}}]\n\
             users: [{{name: user, user: {{client-certificate: \"{}\", client-key: \"{}\"}}}}]\n\
             contexts: [{{name: lab, context: {{cluster: lab, user: user}}}}]\n\
             current-context: lab\n",
            self.url(),
            self.certificate_authority().display(),
            certificate.display(),
            key.display(),
        );
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Makes a kubeconfig with the rights of a service account.
    pub fn kubeconfig_of_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        self.kubeconfig(&user, &["system:serviceaccounts"])
    }

    /// What a service account has asked for and was granted: verbs and resources (`pods`, `pods/status`).
    pub fn granted(&self, namespace: &str, name: &str) -> Result<BTreeSet<(String, String)>> {
        self.asked(namespace, name, "allow")
    }

    /// As [`ApiServer::granted`], what was refused for lack of a right.
    pub fn refused(&self, namespace: &str, name: &str) -> Result<BTreeSet<(String, String)>> {
        self.asked(namespace, name, "forbid")
    }

    fn asked(
        &self,
        namespace: &str,
        name: &str,
        decision: &str,
    ) -> Result<BTreeSet<(String, String)>> {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let mut asked = BTreeSet::new();
        for line in fs::read_to_string(self.folder.join("audit.log"))?.lines() {
            // The last line may be half-written.
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let decided = &event["annotations"]["authorization.k8s.io/decision"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            if event["user"]["username"] == *user && decided == decision && object.is_object() {
                let resource = match &object["subresource"] {
                    Value::String(sub) => format!("{}/{sub}", text(&object["resource"])),
                    _ => text(&object["resource"]),
                };
                asked.insert((text(&event["verb"]), resource));
            }
        }
        Ok(asked)
    }

    /// Runs kubectl as an administrator; `line` is split at spaces.
    pub fn kubectl(&self, line: &str) -> Result<String> {
        let output = output(self.kubectl_command().args(line.split_whitespace()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`ApiServer::kubectl`], with `-o json`, parsed.
    pub fn kubectl_json(&self, line: &str) -> Result<Value> {
        let text = self.kubectl(&format!("{line} -o json"))?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {line} printed no JSON"))
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let mut command = self.kubectl_command();
        feed(command.args(["apply", "-f", "-"]), manifests).map(drop)
    }

    /// Applies the CRDs of this project and waits until they are served.
    pub fn apply_crds(&self) -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        let mut command = self.kubectl_command();
        output(command.args(["apply", "--server-side", "-f"]).arg(&folder))?;
        self.kubectl("wait --for=condition=Established crd --all --timeout=60s")
            .map(drop)
    }

    /// kubectl as an administrator.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.command(&self.tools.join("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.folder.join("admin.kubeconfig"))
            // The user's own configuration and caches stay out of it.
            .env("HOME", &self.folder);
        command
    }

    /// Ends the API server, and etcd stays: as an outage.
    pub fn stop(&mut self, signal: Signal) -> Result<()> {
        let mut child = self.server.take().context("the API server does not run")?;
        end(&mut child, signal)
    }

    /// Starts it again after [`ApiServer::stop`].
    pub fn start_server(&mut self) -> Result<()> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let address = self.address.ip();
        let arguments = [
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_ports[0]),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            format!("--secure-port={}", self.address.port()),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!(
                "--service-account-key-file={}",
                file("service-accounts.key")
            ),
            format!(
                "--service-account-signing-key-file={}",
                file("service-accounts.key")
            ),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--profiling=false".to_owned(),
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
        ];
        let purpose = match self.purpose {
            Purpose::Objects => vec![
                // Nobody makes the accounts that pods would need.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
            ],
            Purpose::Cluster => vec![
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                // Names of nodes are in no DNS here.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                format!("--kubelet-client-certificate={}", file("admin.crt")),
                format!("--kubelet-client-key={}", file("admin.key")),
            ],
        };
        let arguments = [&arguments[..], &purpose].concat();
        let program = self.tools.join("kube-apiserver");
        let child = self.spawn(&program, &arguments, "kube-apiserver.log")?;
        self.server = Some(child);
        let (ended, took) = wait::until("the API server to be ready", START, || {
            if let Some(status) = self
                .server
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                return Ok(Some(Some(status)));
            }
            let ready = self.kubectl("get --raw /readyz --request-timeout=5s")? == "ok";
            Ok(ready.then_some(None))
        })?;
        if let Some(status) = ended {
            bail!(
                "kube-apiserver ended, {status}:\n{}",
                self.end_of_log("kube-apiserver.log")
            );
        }
        eprintln!("API server ready after {:.1} s", took.as_secs_f32());
        Ok(())
    }

    fn start_etcd(&mut self) -> Result<()> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let [client, peer] = self.etcd_ports.map(url);
        let arguments = [
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        let child = self.spawn(Path::new("etcd"), &arguments, "etcd.log");
        let child = child.context("etcd is Debian's package etcd-server")?;
        self.etcd = Some(child);
        Ok(())
    }

    /// Starts another program beside it, in its namespace, with a log among its files.
    pub fn spawn(&self, program: &Path, arguments: &[String], log: &str) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(log))?;
        let errors = log.try_clone()?;
        self.command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {}", program.display()))
    }

    /// In the namespace. Outside of one nobody finds what a killed test leaves, so the kernel ends it with the test.
    fn command(&self, program: &Path) -> Command {
        match &self.namespace {
            Some(namespace) => namespace.command(program),
            None => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
        }
    }

    fn end_of_log(&self, name: &str) -> String {
        let log = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.etcd] {
            if let Some(mut child) = child.take()
                && let Err(error) = end(&mut child, Signal::SIGKILL)
            {
                eprintln!("a process of the API server is not ended: {error:#}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} is not removed: {error}", self.folder.display());
        }
    }
}

/// Ends a process and waits until it is gone; one that does not end when asked is killed.
pub(crate) fn end(child: &mut Child, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
    let ended = wait::until("the process to end", STOP, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until the last is found, so that they differ.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// The folder with the programs that are needed; builds what is missing there.
fn tools(purpose: Purpose) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/get-tools");
    let script = script.display().to_string();
    let mut programs = vec!["kube-apiserver", "kubectl"];
    if purpose == Purpose::Cluster {
        programs.extend([
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        ]);
    }
    let printed = run(&script, &programs)?;
    let folder = printed
        .lines()
        .last()
        .context("get-tools printed no folder")?;
    Ok(folder.into())
}
