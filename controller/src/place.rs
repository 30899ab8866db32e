//! Where desired state lives.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use crds::Kind;
use datastore::Datastore;
use datastore::file::FileStore;
use datastore::kubernetes::{KubernetesStore, Settings};

/// How it is named.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlaceFlags {
    /// Where desired state lives: file:DIR or kubernetes
    #[arg(
        long,
        value_name = "WHERE",
        env = "TORTIE_DATASTORE",
        default_value = "file:/etc/tortie/manifests"
    )]
    datastore: String,
    /// With --datastore kubernetes: how to reach the API server [default: as the pod's service account]
    #[arg(long, value_name = "FILE", env = "TORTIE_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

/// Where desired state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory of manifests.
    Directory(PathBuf),
    /// A Kubernetes API server.
    Cluster {
        /// Kubeconfig; the service account of the pod when absent.
        kubeconfig: Option<PathBuf>,
    },
}

impl PlaceFlags {
    /// # Errors
    /// When the value has the wrong form.
    pub(crate) fn resolve(self) -> Result<Place> {
        match self.datastore.split_once(':') {
            None if self.datastore == "kubernetes" => Ok(Place::Cluster {
                kubeconfig: self.kubeconfig,
            }),
            Some(("file", directory)) if !directory.is_empty() => {
                Ok(Place::Directory(directory.into()))
            }
            Some(_) | None => bail!(
                "--datastore: {:?} is neither file:DIR nor kubernetes",
                self.datastore
            ),
        }
    }
}

impl Place {
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Place::Cluster { .. })
    }

    /// Opens it; `manager` is the name under which fields are owned in an API server.
    ///
    /// # Errors
    /// When it cannot be used; an API server need not be there yet.
    pub(crate) async fn open(&self, manager: &str) -> Result<Arc<dyn Datastore>> {
        match self {
            Place::Directory(directory) => {
                // A directory made here by mistake would look like a cluster that lost everything.
                if !directory.is_dir() {
                    bail!("--datastore: {} is not a directory", directory.display());
                }
                let store = FileStore::open(directory)
                    .with_context(|| format!("open the datastore {}", directory.display()))?;
                Ok(Arc::new(store))
            }
            Place::Cluster { kubeconfig } => {
                let settings = settings(kubeconfig.clone(), manager);
                Ok(Arc::new(KubernetesStore::connect(settings).await?))
            }
        }
    }
}

/// Of Nodes nothing but the metadata is followed: kubelets write the rest all the time.
pub(crate) fn settings(kubeconfig: Option<PathBuf>, manager: &str) -> Settings {
    Settings {
        kubeconfig,
        metadata_only: [Kind::Node].into(),
        ..Settings::new(manager)
    }
}
