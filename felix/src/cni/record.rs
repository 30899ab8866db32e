//! Endpoint records: what the agent remembers of each attachment over its own restarts.
//!
//! One file per attachment, replaced as a whole. Not synced to disk: after a power cut no
//! container is alive, so a lost record is found as a leaked address and settled.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use felix_api::cni::{self as api, Added, Attachment};
use felix_calc::{EndpointId, WorkloadEndpoint};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Name of the CNI network.
    pub network: String,
    /// Container id.
    pub container_id: String,
    /// Interface inside the pod.
    pub ifname: String,
    /// Path of the pod's network namespace.
    pub netns: String,
    /// Namespace of the pod; absent outside Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the pod; absent outside Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Host side interface.
    pub host_interface: String,
    /// Addresses of the pod.
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends.
    pub mtu: u32,
    /// MAC address the pod side must have, or has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_mac: Option<String>,
    /// The veth was complete once.
    pub active: bool,
    /// Boot the record was written in.
    pub boot: String,
    /// When it was first written, in nanoseconds since 1970: of two containers of one pod the
    /// younger one is its endpoint.
    pub created: u64,
}

impl Record {
    /// The attachment.
    pub fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }

    /// The endpoint, which a younger container of the same pod takes over.
    pub fn endpoint_id(&self) -> EndpointId {
        EndpointId {
            workload: workload(
                self.namespace.as_deref(),
                self.pod.as_deref(),
                &self.container_id,
            ),
            endpoint: self.ifname.clone(),
        }
    }

    /// The IPAM handle (Calico behaviour).
    pub fn handle(&self) -> String {
        handle(&self.network, &self.container_id)
    }

    /// What the calculation is told.
    pub fn endpoint(&self) -> WorkloadEndpoint {
        WorkloadEndpoint {
            container_id: self.container_id.clone(),
            interface: Arc::from(self.host_interface.as_str()),
            addresses: self.addresses.clone(),
            pod_mac: self.pod_mac.as_deref().and_then(parse_mac),
        }
    }

    /// What the plugin is told.
    pub fn added(&self) -> Added {
        Added {
            host_interface: self.host_interface.clone(),
            host_mac: format_mac(api::HOST_MAC),
            pod_mac: self.pod_mac.clone(),
            addresses: self
                .addresses
                .iter()
                .map(|address| IpNet::from(*address))
                .collect(),
            mtu: self.mtu,
            alias: api::alias(&self.container_id, &self.ifname),
        }
    }
}

/// `<namespace>/<pod>`, or the container id outside Kubernetes.
pub fn workload(namespace: Option<&str>, pod: Option<&str>, container_id: &str) -> String {
    match (namespace, pod) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
        (Some(_) | None, Some(_) | None) => container_id.to_owned(),
    }
}

/// The IPAM handle of a container (Calico behaviour).
pub fn handle(network: &str, container_id: &str) -> String {
    format!("{network}.{container_id}")
}

/// Reads `ee:ee:ee:ee:ee:ee`.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// All records of this node, on disk and in memory.
#[derive(Debug)]
pub struct Records {
    directory: PathBuf,
    workbench: Workbench,
    records: BTreeMap<Attachment, Record>,
}

impl Records {
    /// Reads all records; one that cannot be read is set aside and logged, because nobody can
    /// say which addresses it had: they are found as leaked.
    ///
    /// # Errors
    /// When the directory cannot be made or listed.
    pub fn load(state_dir: &Path, workbench: Workbench) -> Result<Records> {
        let directory = state_dir.join(api::ENDPOINTS);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let mut records = BTreeMap::new();
        let listing = std::fs::read_dir(&directory)
            .with_context(|| format!("list {}", directory.display()))?;
        for entry in listing {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(record) => {
                    records.insert(record.attachment(), record);
                }
                Err(error) => {
                    tracing::warn!("endpoint record set aside: {error:#}");
                    let aside = path.with_extension("broken");
                    std::fs::rename(&path, &aside)
                        .with_context(|| format!("rename {}", path.display()))?;
                }
            }
        }
        Ok(Records {
            directory,
            workbench,
            records,
        })
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True without any record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record of an attachment.
    pub fn get(&self, attachment: &Attachment) -> Option<&Record> {
        self.records.get(attachment)
    }

    /// The active record that is the endpoint at present, the youngest.
    pub fn current(&self, id: &EndpointId) -> Option<&Record> {
        let of_endpoint = self
            .records
            .values()
            .filter(|r| r.active && r.endpoint_id() == *id);
        of_endpoint.max_by_key(|record| record.created)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// When the disk refuses; the old record, if any, is then still in place.
    pub fn put(&mut self, record: Record) -> Result<()> {
        let text = serde_json::to_vec_pretty(&record).context("encode an endpoint record")?;
        self.workbench
            .replace(&self.path(&record.attachment()), &text)?;
        self.records.insert(record.attachment(), record);
        Ok(())
    }

    /// Forgets a record; none is fine.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&mut self, attachment: &Attachment) -> Result<Option<Record>> {
        remove(&self.path(attachment))?;
        Ok(self.records.remove(attachment))
    }

    fn path(&self, attachment: &Attachment) -> PathBuf {
        let Attachment {
            container_id,
            ifname,
        } = attachment;
        self.directory.join(format!("{container_id}.{ifname}.json"))
    }
}

fn read(path: &Path) -> Result<Record> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let record: Record =
        serde_json::from_slice(&text).with_context(|| format!("decode {}", path.display()))?;
    check_name(&record.container_id)?;
    check_name(&record.ifname)?;
    Ok(record)
}

/// A directory for files that are being written, on the file system of their destination.
///
/// Apart from the destinations, so that what a killed agent left is nobody else's.
#[derive(Clone, Debug)]
pub struct Workbench(PathBuf);

impl Workbench {
    /// Makes the directory and clears what an earlier agent left in it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(state_dir: &Path) -> Result<Workbench> {
        let directory = state_dir.join("unfinished");
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::remove_dir_all(&directory))
            .and_then(|()| std::fs::create_dir(&directory))
            .with_context(|| format!("clear {}", directory.display()))?;
        Ok(Workbench(directory))
    }

    /// Replaces a file as a whole.
    ///
    /// # Errors
    /// When the disk refuses; the old file is then still in place.
    pub fn replace(&self, path: &Path, content: &[u8]) -> Result<()> {
        let unfinished = self.0.join(path.file_name().unwrap_or_default());
        let written = std::fs::File::create(&unfinished)
            .and_then(|mut file| file.write_all(content))
            .and_then(|()| std::fs::rename(&unfinished, path));
        written.with_context(|| format!("write {}", path.display()))
    }
}

/// Removes a file; none is fine.
///
/// # Errors
/// When the disk refuses.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Container ids and interface names become names of files.
///
/// # Errors
/// When the name could leave its directory or hide.
pub fn check_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts || name.len() > 200 || !name.chars().all(legal) {
        bail!("{name:?} is not a name: letters, digits, '-', '_', '.' and '@' are");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
