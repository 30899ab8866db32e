//! CHECK and STATUS.

use std::sync::Arc;

use felix_api::cni::{self as api, Attachment, Check, Checked, code};

use super::{Server, checked_names, failure};

impl Server {
    pub(super) async fn check(&self, check: Check) -> Result<Checked, api::Error> {
        checked_names(&check.container_id, &check.ifname)?;
        let attachment = Attachment {
            container_id: check.container_id.clone(),
            ifname: check.ifname.clone(),
        };
        let record = self.records().get(&attachment).cloned();
        let record = record.ok_or_else(|| {
            let what = format!("container {} has no addresses here", check.container_id);
            failure(
                code::UNKNOWN_CONTAINER,
                what,
                "it was never added, or deleted since",
            )
        })?;
        let mut problems = Vec::new();
        let interface: Arc<str> = Arc::from(record.host_interface.as_str());
        let endpoints = self.board.calc.borrow().endpoints.clone();
        let owner = endpoints.interfaces.get(&interface);
        if owner.is_none_or(|endpoint| endpoint.container_id != record.container_id) {
            problems.push(format!(
                "interface {interface} is not set up for this container"
            ));
        } else if !self.board.dataplane.borrow().ready.contains(&interface) {
            problems.push(format!(
                "routes or settings of {interface} are not in the kernel"
            ));
        }
        match self.ipam.addresses_of_handle(&record.handle()).await {
            Ok(held) => {
                for address in record
                    .addresses
                    .iter()
                    .filter(|address| !held.contains(address))
                {
                    problems.push(format!(
                        "address {address} is not allocated to this container"
                    ));
                }
            }
            Err(error) => {
                let what = "the allocation cannot be checked";
                return Err(failure(code::TRY_AGAIN, what, error.to_string()));
            }
        }
        Ok(Checked {
            record: record.added(),
            problems,
        })
    }

    /// An ADD would be served as soon as the first state is in the kernel.
    pub(super) fn status(&self) -> Result<(), api::Error> {
        let mut reasons = self.board.calc.borrow().waiting_for.clone();
        if self.board.dataplane.borrow().generation == 0 {
            reasons.push("the first state in the kernel".to_owned());
        }
        if reasons.is_empty() {
            return Ok(());
        }
        let what = format!("the agent waits for {}", reasons.join(", "));
        Err(failure(
            code::NOT_AVAILABLE,
            what,
            "it has just started, or lacks its datastore",
        ))
    }
}
