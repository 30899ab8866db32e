//! Annotations of pods: addresses and container, best effort (Calico behaviour).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use crds::Kind;
use crds::names::annotation;
use datastore::{Datastore, Key};
use ipnet::IpNet;
use tokio::sync::mpsc;

use super::record::Record;

/// What is to be noted on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    key: Option<Key>,
    annotations: BTreeMap<String, Option<String>>,
}

impl Note {
    pub(super) fn of(record: &Record) -> Note {
        let key = record.namespace.as_ref().zip(record.pod.as_ref());
        let addresses: Vec<String> = record
            .addresses
            .iter()
            .map(|address| IpNet::from(*address).to_string())
            .collect();
        let annotations = [
            (
                annotation::POD_IP,
                addresses.first().cloned().unwrap_or_default(),
            ),
            (annotation::POD_IPS, addresses.join(",")),
            (annotation::POD_CONTAINER_ID, record.container_id.clone()),
        ];
        Note {
            key: key.map(|(namespace, pod)| Key::namespaced(Kind::Pod, namespace, pod)),
            annotations: annotations
                .map(|(name, text)| (name.to_owned(), Some(text)))
                .into(),
        }
    }
}

/// Writes notes until nobody makes them any more.
///
/// # Errors
/// None: a note that cannot be written is logged.
pub async fn run(store: Arc<dyn Datastore>, mut notes: mpsc::Receiver<Note>) -> Result<()> {
    while let Some(note) = notes.recv().await {
        let Some(key) = note.key else { continue };
        match store.patch_annotations(&key, note.annotations).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => tracing::info!(%key, %error, "addresses are not noted on the pod"),
        }
    }
    Ok(())
}
