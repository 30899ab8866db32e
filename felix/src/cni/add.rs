//! ADD: addresses and a record; then Activate: the endpoint, and patience until the kernel has it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crds::core::time_text;
use crds::ipam_block::attribute;
use felix_api::cni::{self as api, Activate, Add, Added, Attachment, code};
use ipam::{Assign, AutoAssign, Prepared, Release};
use sha1::{Digest, Sha1};
use tokio::time::{Instant, timeout_at};

use super::record::{Record, handle, workload};
use super::wishes::{self, Wishes};
use super::{Server, checked_names, failure, host_failure, lock, pod};

/// How long the kernel may take; the plugin waits a little longer.
const ACTIVATION: Duration = Duration::from_secs(10);
/// How long the agent may take to know its tunnels.
const OVERLAY: Duration = Duration::from_secs(5);
/// MTU when neither the network configuration nor the host says one.
const DEFAULT_MTU: u32 = 1500;

impl Server {
    pub(super) async fn add(&self, add: Add) -> Result<Added, api::Error> {
        checked_names(&add.container_id, &add.ifname)?;
        let _exclusive = self.exclusive(&add.container_id).await;
        let attachment = Attachment {
            container_id: add.container_id.clone(),
            ifname: add.ifname.clone(),
        };
        self.finish_deletion(&attachment).await?;
        if let Some(record) = self.records().get(&attachment) {
            return Ok(record.added());
        }
        self.refuse_second_interface(&attachment)?;
        self.refuse_shared_name(&add)?;
        let mtu = self.mtu(&add).await?;
        let handle = handle(&add.network, &add.container_id);
        lock(&self.in_flight).insert(handle.to_lowercase());
        let result = self.allocate_and_record(&add, mtu, &handle).await;
        lock(&self.in_flight).remove(&handle.to_lowercase());
        self.count();
        result
    }

    async fn allocate_and_record(
        &self,
        add: &Add,
        mtu: u32,
        handle: &str,
    ) -> Result<Added, api::Error> {
        // On a busy host each answer of an API server takes its time: what can be is asked at once.
        let wishes = wishes::read(&*self.store, add);
        let (wishes, prepared) = tokio::try_join!(wishes, self.prepare(handle))?;
        let addresses = if wishes.addresses.is_empty() {
            self.allocate(add, &wishes, handle, prepared).await?
        } else {
            self.allocate_exactly(add, &wishes.addresses, handle, prepared)
                .await?
        };
        let record = self.record(add, &wishes, mtu, addresses);
        let added = record.added();
        let written = self.records().put(record);
        if let Err(error) = written {
            self.give_back(handle).await;
            return Err(host_failure(error));
        }
        tracing::info!(handle, addresses = ?added.addresses, "addresses given");
        Ok(added)
    }

    /// That of the network configuration or of the settings, else what fits into the tunnels in
    /// use; a pod keeps it for life, so it is not guessed.
    async fn mtu(&self, add: &Add) -> Result<u32, api::Error> {
        let set = [add.mtu, self.settings.mtu];
        if let Some(mtu) = set.into_iter().find(|mtu| *mtu > 0) {
            return Ok(mtu);
        }
        let deadline = Instant::now() + OVERLAY;
        let mut calc = self.board.calc.subscribe();
        let known = timeout_at(deadline, calc.wait_for(|view| view.overlay.is_some())).await;
        let overlay = match known {
            Ok(Ok(view)) => view.overlay.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(overlay) = overlay else {
            return Err(failure(
                code::TRY_AGAIN,
                "the MTU of the pod is not known yet",
                "the agent waits for its datastore or the host's network",
            ));
        };
        let from_node = Some(self.board.node.borrow().mtu).filter(|mtu| *mtu > 0);
        Ok(overlay.pod_mtu.or(from_node).unwrap_or(DEFAULT_MTU))
    }

    fn record(&self, add: &Add, wishes: &Wishes, mtu: u32, addresses: Vec<IpAddr>) -> Record {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Record {
            network: add.network.clone(),
            container_id: add.container_id.clone(),
            ifname: add.ifname.clone(),
            netns: add.netns.clone(),
            namespace: add.namespace.clone(),
            pod: add.pod.clone(),
            host_interface: host_interface(&self.settings.interface_prefix, add),
            addresses,
            mtu,
            pod_mac: wishes.pod_mac.clone(),
            active: false,
            boot: self.settings.boot.clone(),
            created: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// The handle of a container covers all its interfaces, and the name of the host interface
    /// comes from the pod: there can be one only (Calico behaviour).
    fn refuse_second_interface(&self, attachment: &Attachment) -> Result<(), api::Error> {
        let records = self.records();
        let other = records
            .iter()
            .find(|r| r.container_id == attachment.container_id);
        other.map_or(Ok(()), |other| {
            Err(failure(
                code::INVALID_CONFIG,
                format!(
                    "container {} has interface {} already, a second one is not supported",
                    other.container_id, other.ifname
                ),
                "attach further interfaces by another plugin",
            ))
        })
    }

    /// Two workloads whose names are cut to the same host interface; a new container of the same
    /// workload takes the interface over.
    fn refuse_shared_name(&self, add: &Add) -> Result<(), api::Error> {
        let interface = host_interface(&self.settings.interface_prefix, add);
        let pod = (add.namespace.as_deref(), add.pod.as_deref());
        let name = workload(pod.0, pod.1, &add.container_id);
        let records = self.records();
        let mut others = records.iter();
        let other =
            others.find(|r| r.host_interface == interface && r.endpoint_id().workload != name);
        other.map_or(Ok(()), |other| {
            Err(failure(
                code::INVALID_CONFIG,
                format!(
                    "host interface {interface} of {name} is that of {} already",
                    other.endpoint_id().workload
                ),
                "both names give the same interface name: use another container id or pod name",
            ))
        })
    }

    async fn prepare(&self, handle: &str) -> Result<Prepared, api::Error> {
        let prepared = self.ipam.prepare(&self.settings.node, handle).await;
        prepared.map_err(no_address)
    }

    /// Any addresses: of every wanted family, or none at all.
    async fn allocate(
        &self,
        add: &Add,
        wishes: &Wishes,
        handle: &str,
        mut prepared: Prepared,
    ) -> Result<Vec<IpAddr>, api::Error> {
        let held = prepared.held();
        let count = |v4: bool| {
            held.iter()
                .filter(|address| address.is_ipv4() == v4)
                .count()
        };
        if (count(true), count(false)) == (usize::from(add.ipv4), usize::from(add.ipv6)) {
            // An earlier ADD got as far as this and no further.
            return Ok(held.to_vec());
        }
        if !held.is_empty() {
            drop(prepared);
            self.ipam.release_handle(handle).await.map_err(no_address)?;
            prepared = self.prepare(handle).await?;
        }
        let request = AutoAssign {
            node: self.settings.node.clone(),
            handle: handle.to_owned(),
            attributes: attributes(add),
            v4: u32::from(add.ipv4),
            v6: u32::from(add.ipv6),
            pools_v4: wishes.pools_v4.clone(),
            pools_v6: wishes.pools_v6.clone(),
            namespace_labels: wishes.namespace_labels.clone(),
            ..AutoAssign::default()
        };
        let assigned = match self.ipam.auto_assign_prepared(prepared, &request).await {
            Ok(assigned) => assigned,
            Err(error) => {
                self.give_back(handle).await;
                return Err(no_address(error));
            }
        };
        if let Some(shortfall) = assigned.shortfall {
            self.give_back(handle).await;
            return Err(failure(
                code::NO_ADDRESS,
                "no address for the pod",
                shortfall.to_string(),
            ));
        }
        Ok(assigned.v4.into_iter().chain(assigned.v6).collect())
    }

    /// Exactly these addresses, which an earlier container of the same pod may still hold.
    async fn allocate_exactly(
        &self,
        add: &Add,
        wanted: &[IpAddr],
        handle: &str,
        prepared: Prepared,
    ) -> Result<Vec<IpAddr>, api::Error> {
        let mut sorted = wanted.to_vec();
        sorted.sort();
        if prepared.held() == sorted {
            return Ok(wanted.to_vec());
        }
        drop(prepared);
        self.ipam.release_handle(handle).await.map_err(no_address)?;
        let earlier = self.releases_of_earlier(add, wanted);
        if !earlier.is_empty() {
            self.ipam.release(&earlier).await.map_err(no_address)?;
        }
        for address in wanted {
            let request = Assign {
                addr: *address,
                node: self.settings.node.clone(),
                handle: handle.to_owned(),
                attributes: attributes(add),
            };
            if let Err(error) = self.ipam.assign(&request).await {
                self.give_back(handle).await;
                return Err(no_address(error));
            }
        }
        Ok(wanted.to_vec())
    }

    fn releases_of_earlier(&self, add: &Add, wanted: &[IpAddr]) -> Vec<Release> {
        let name = workload(
            add.namespace.as_deref(),
            add.pod.as_deref(),
            &add.container_id,
        );
        let records = self.records();
        let earlier = records.iter().filter(|r| r.endpoint_id().workload == name);
        earlier
            .flat_map(|r| r.addresses.iter().map(|address| (*address, r.handle())))
            .filter(|(address, _)| wanted.contains(address))
            .map(|(addr, handle)| Release {
                addr,
                handle: Some(handle),
                sequence: None,
            })
            .collect()
    }

    /// Best effort: what stays is found as leaked.
    async fn give_back(&self, handle: &str) {
        if let Err(error) = self.ipam.release_handle(handle).await {
            tracing::warn!(handle, %error, "addresses are not given back yet");
        }
    }

    pub(super) async fn activate(&self, activate: Activate) -> Result<(), api::Error> {
        checked_names(&activate.container_id, &activate.ifname)?;
        let deadline = Instant::now() + ACTIVATION;
        let record = {
            let _exclusive = self.exclusive(&activate.container_id).await;
            let record = self.mark_active(&activate)?;
            self.tell(record.endpoint_id()).await;
            record
        };
        self.wait_for_kernel(&record, deadline).await?;
        // A full queue or a pod without object is no reason to fail.
        let _best_effort = self.pods.try_send(pod::Note::of(&record));
        Ok(())
    }

    fn mark_active(&self, activate: &Activate) -> Result<Record, api::Error> {
        let attachment = Attachment {
            container_id: activate.container_id.clone(),
            ifname: activate.ifname.clone(),
        };
        let mut records = self.records();
        let Some(record) = records.get(&attachment) else {
            return Err(failure(
                code::UNKNOWN_CONTAINER,
                format!("container {} has no addresses here", activate.container_id),
                "it was deleted meanwhile, or ADD did not come before",
            ));
        };
        if record.host_interface != activate.host_interface {
            return Err(failure(
                code::INVALID_CONFIG,
                format!(
                    "the host interface should be {}, not {}",
                    record.host_interface, activate.host_interface
                ),
                "",
            ));
        }
        let record = Record {
            active: true,
            pod_mac: Some(activate.pod_mac.clone()),
            ..record.clone()
        };
        records.put(record.clone()).map_err(host_failure)?;
        Ok(record)
    }

    /// First the calculation must know this very container, then the kernel what follows.
    async fn wait_for_kernel(&self, record: &Record, deadline: Instant) -> Result<(), api::Error> {
        let interface: Arc<str> = Arc::from(record.host_interface.as_str());
        let mut calc = self.board.calc.subscribe();
        let known = calc.wait_for(|view| {
            view.endpoints
                .interfaces
                .get(&interface)
                .is_some_and(|endpoint| {
                    endpoint.container_id == record.container_id
                        && record
                            .addresses
                            .iter()
                            .all(|a| endpoint.addresses.contains(a))
                })
        });
        let generation = match timeout_at(deadline, known).await {
            Ok(Ok(view)) => view.generation,
            Ok(Err(_)) | Err(_) => return Err(self.too_slow(record)),
        };
        let mut dataplane = self.board.dataplane.subscribe();
        let programmed = dataplane
            .wait_for(|view| view.generation >= generation && view.ready.contains(&interface));
        match timeout_at(deadline, programmed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.too_slow(record)),
        }
    }

    fn too_slow(&self, record: &Record) -> api::Error {
        let mut reasons = self.board.not_ready();
        let failures = self.board.dataplane.borrow().failures.clone();
        reasons.extend(failures.iter().map(ToString::to_string));
        let id = format!("WorkloadEndpoint/{}", record.endpoint_id());
        let problems = self.board.calc.borrow().problems.clone();
        reasons.extend(
            problems
                .iter()
                .filter(|p| p.object == id)
                .map(ToString::to_string),
        );
        let what = format!(
            "the routes of {} are not in the kernel after {} s",
            record.host_interface,
            ACTIVATION.as_secs()
        );
        failure(code::TRY_AGAIN, what, reasons.join("; "))
    }
}

fn no_address(error: ipam::Error) -> api::Error {
    let code = match &error {
        ipam::Error::Datastore(_) | ipam::Error::TooManyConflicts { .. } => code::TRY_AGAIN,
        _ => code::NO_ADDRESS,
    };
    failure(code, "no address for the pod", error.to_string())
}

/// What Calico keeps with an address.
fn attributes(add: &Add) -> BTreeMap<String, String> {
    let entries = [
        (attribute::NAMESPACE, add.namespace.clone()),
        (attribute::POD, add.pod.clone()),
        (attribute::TIMESTAMP, Some(time_text(SystemTime::now()))),
    ];
    entries
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

/// Prefix and the first 11 hex digits of SHA-1 of `<namespace>.<pod>`; outside Kubernetes the
/// first 11 characters of the container id (Calico behaviour).
fn host_interface(prefix: &str, add: &Add) -> String {
    match (&add.namespace, &add.pod) {
        (Some(namespace), Some(pod)) => pod_interface(prefix, namespace, pod),
        (Some(_) | None, Some(_) | None) => {
            let rest = add.container_id.chars().take(11);
            prefix.chars().chain(rest).collect()
        }
    }
}

/// Name of the host interface of a pod (Calico behaviour).
pub(super) fn pod_interface(prefix: &str, namespace: &str, pod: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{pod}"));
    let digits = digest
        .iter()
        .flat_map(|byte| format!("{byte:02x}").into_bytes())
        .map(char::from);
    prefix.chars().chain(digits.take(11)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(namespace: Option<&str>, pod: Option<&str>) -> Add {
        Add {
            network: "net".to_owned(),
            container_id: "0123456789abcdef".to_owned(),
            ifname: "eth0".to_owned(),
            netns: String::new(),
            namespace: namespace.map(str::to_owned),
            pod: pod.map(str::to_owned),
            uid: None,
            ipv4: true,
            ipv6: false,
            ipv4_pools: Vec::new(),
            ipv6_pools: Vec::new(),
            addresses: Vec::new(),
            mtu: 0,
        }
    }

    #[test]
    fn host_interfaces_are_named_as_calico_names_them() {
        // printf default.web | sha1sum
        let pod = host_interface("cali", &add(Some("default"), Some("web")));
        assert_eq!(pod, "cali68caf03a5f4");
        assert_eq!(host_interface("cali", &add(None, None)), "cali0123456789a");
    }
}
