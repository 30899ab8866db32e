//! DEL and GC: written down, forgotten, released, and only then struck off.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use felix_api::cni::{self as api, Attachment, Collected, Del, Gc, code, tombstone};
use ipam::Held;
use tokio::time::timeout;

use super::record::{handle, remove};
use super::start::Search;
use super::{Server, checked_names, failure, host_failure, lock};

/// How long a deletion waits for an addition of the same container, and for the datastore.
const PATIENCE: Duration = Duration::from_secs(4);

/// A file that has been unfinished for so long is nobody's any more.
const UNFINISHED: Duration = Duration::from_secs(60);

impl Server {
    pub(super) async fn del(&self, del: Del) -> Result<(), api::Error> {
        checked_names(&del.container_id, &del.ifname)?;
        self.bury(&del).map_err(host_failure)?;
        let exclusive = timeout(PATIENCE, self.exclusive(&del.container_id)).await;
        let Ok(_exclusive) = exclusive else {
            tracing::warn!(container = del.container_id, "busy, deleted later");
            return Ok(());
        };
        self.forget(&del).await.map_err(host_failure)?;
        match timeout(PATIENCE, self.release(&del)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    container = del.container_id,
                    error = error.message,
                    error.details,
                    "released later"
                );
            }
            Err(_) => tracing::warn!(
                container = del.container_id,
                "slow datastore, released later"
            ),
        }
        self.count();
        Ok(())
    }

    /// Finishes a deletion of the attachment that is still written down, before it is added.
    pub(super) async fn finish_deletion(&self, attachment: &Attachment) -> Result<(), api::Error> {
        let path = self.tombstone(attachment);
        if !path.exists() {
            return Ok(());
        }
        let del = read(&path).map_err(host_failure)?;
        self.forget(&del).await.map_err(host_failure)?;
        self.release(&del).await
    }

    /// Serves every deletion that is written down. Returns whether all are done.
    pub async fn settle(&self) -> bool {
        self.clear_unfinished();
        let mut all = true;
        for path in self.tombstones() {
            let del = match read(&path) {
                Ok(del) => del,
                // Served meanwhile by the request that wrote it.
                Err(_) if !path.exists() => continue,
                Err(error) => {
                    // Written to another name and renamed, so it is not about to become whole.
                    tracing::warn!("deletion dropped: {error:#}");
                    let _next_time = remove(&path);
                    continue;
                }
            };
            let _exclusive = self.exclusive(&del.container_id).await;
            if !path.exists() {
                continue;
            }
            let forgotten = self.forget(&del).await.map_err(host_failure);
            let done = match forgotten {
                Ok(()) => self.release(&del).await,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::debug!(
                    container = del.container_id,
                    error = error.message,
                    error.details,
                    "not settled"
                );
                all = false;
            }
        }
        self.count();
        all
    }

    pub(super) async fn gc(&self, gc: Gc) -> Result<Collected, api::Error> {
        let dead: Vec<Del> = self
            .records()
            .iter()
            .filter(|r| r.network == gc.network && !gc.valid.contains(&r.attachment()))
            .map(|r| Del {
                network: r.network.clone(),
                container_id: r.container_id.clone(),
                ifname: r.ifname.clone(),
                namespace: r.namespace.clone(),
                pod: r.pod.clone(),
            })
            .collect();
        for del in dead {
            tracing::info!(container = del.container_id, "collected");
            self.del(del).await?;
        }
        let extra = gc
            .valid
            .iter()
            .map(|a| handle(&gc.network, &a.container_id))
            .collect();
        let reclaimed = async {
            let held = self.search(Search::Own).await?;
            self.reclaim(held, Some(&gc.network), extra).await
        };
        if let Err(error) = reclaimed.await {
            return Err(failure(
                code::TRY_AGAIN,
                "leaked addresses are not released",
                error,
            ));
        }
        let remaining = self
            .records()
            .iter()
            .map(super::record::Record::attachment)
            .collect();
        Ok(Collected { remaining })
    }

    /// Removes records and endpoints of all deletions that are written down.
    pub(super) async fn forget_buried(&self) -> Result<()> {
        for path in self.tombstones() {
            // One that cannot be read is dropped when it is to be settled.
            if let Ok(del) = read(&path) {
                self.forget(&del).await?;
            }
        }
        Ok(())
    }

    pub(super) fn buried_attachments(&self) -> BTreeSet<Attachment> {
        let whole = self
            .tombstones()
            .into_iter()
            .filter_map(|path| read(&path).ok());
        whole
            .map(|del| Attachment {
                container_id: del.container_id,
                ifname: del.ifname,
            })
            .collect()
    }

    /// Writes a deletion down.
    pub(super) fn bury(&self, del: &Del) -> Result<()> {
        let text = serde_json::to_vec(del).context("encode a deletion")?;
        let Del {
            container_id,
            ifname,
            ..
        } = del;
        let path = tombstone::path(&self.settings.state_dir, container_id, ifname);
        self.workbench.replace(&path, &text)
    }

    /// Removes record and endpoint.
    async fn forget(&self, del: &Del) -> Result<()> {
        let attachment = Attachment {
            container_id: del.container_id.clone(),
            ifname: del.ifname.clone(),
        };
        let removed = self.records().remove(&attachment)?;
        if let Some(record) = removed {
            self.tell(record.endpoint_id()).await;
        }
        Ok(())
    }

    /// Releases the addresses and strikes the deletion off.
    async fn release(&self, del: &Del) -> Result<(), api::Error> {
        let handle = handle(&del.network, &del.container_id);
        let released = self.ipam.release_handle(&handle).await.map_err(|error| {
            failure(
                code::TRY_AGAIN,
                format!("the addresses of {handle} are held"),
                error.to_string(),
            )
        })?;
        if !released.is_empty() {
            tracing::info!(handle, ?released, "addresses released");
        }
        let attachment = Attachment {
            container_id: del.container_id.clone(),
            ifname: del.ifname.clone(),
        };
        remove(&self.tombstone(&attachment)).map_err(host_failure)
    }

    fn tombstone(&self, attachment: &Attachment) -> PathBuf {
        let Attachment {
            container_id,
            ifname,
        } = attachment;
        tombstone::path(&self.settings.state_dir, container_id, ifname)
    }

    /// Everything in the directory of deletions.
    fn buried(&self) -> Vec<PathBuf> {
        let directory = tombstone::directory(&self.settings.state_dir);
        let listing = std::fs::read_dir(directory).into_iter().flatten();
        listing
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect()
    }

    pub(super) fn tombstones(&self) -> Vec<PathBuf> {
        self.buried()
            .into_iter()
            .filter(|path| is_whole(path))
            .collect()
    }

    /// Removes what a plugin that was killed has not finished writing.
    fn clear_unfinished(&self) {
        for path in self.buried().into_iter().filter(|path| !is_whole(path)) {
            let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > UNFINISHED) {
                let _next_time = remove(&path);
            }
        }
    }

    /// Releases those of these addresses of this node whose container is unknown here.
    ///
    /// Alive are: containers with a record, those being added at this moment, those with a
    /// deletion still to be served, those whose veth is there, and `extra`.
    pub(super) async fn reclaim(
        &self,
        held: Vec<Held>,
        network: Option<&str>,
        mut extra: ipam::LiveHandles,
    ) -> Result<(), String> {
        let veths = super::start::veths(&self.settings.interface_prefix)
            .map_err(|error| format!("{error:#}"))?;
        let suffixes: Vec<String> = veths
            .iter()
            .map(|veth| format!(".{}", veth.attachment.container_id.to_lowercase()))
            .collect();
        let with_veth = held
            .iter()
            .filter_map(|held| held.handle.clone())
            .filter(|handle| {
                let handle = handle.to_lowercase();
                suffixes.iter().any(|suffix| handle.ends_with(suffix))
            });
        extra.extend(with_veth);
        extra.extend(lock(&self.in_flight).iter().cloned());
        extra.extend(self.records().iter().map(super::record::Record::handle));
        let buried = self
            .tombstones()
            .into_iter()
            .filter_map(|path| read(&path).ok());
        extra.extend(buried.map(|del| handle(&del.network, &del.container_id)));
        let freed = self
            .ipam
            .release_dead(held, network, extra)
            .await
            .map_err(|e| e.to_string())?;
        if !freed.is_empty() {
            tracing::info!(?freed, "leaked addresses released");
        }
        Ok(())
    }
}

/// Not one that is being written.
fn is_whole(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden
        && path
            .extension()
            .is_some_and(|extension| extension == "json")
}

fn read(path: &Path) -> Result<Del> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let del: Del =
        serde_json::from_slice(&text).with_context(|| format!("decode {}", path.display()))?;
    super::record::check_name(&del.container_id)?;
    super::record::check_name(&del.ifname)?;
    Ok(del)
}
