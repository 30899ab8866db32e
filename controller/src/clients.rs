//! Beside a reflector (`tortie-bgp`): writes who its clients are into its file, and again when Nodes come, go or move.
//!
//! The speaker knows nothing of clusters; it takes up a file that changed. While the datastore is away the file stays
//! as it is. It is replaced as a whole, by renaming.

mod render;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::core::Node;
use crds::{BgpConfiguration, BgpConfigurationSpec, Kind, names};
use datastore::{Datastore, Event, Typed, Watch};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use render::Reflector;

use crate::clients::render::Client;
use crate::place::Place;

/// Nodes that come together are written together.
const TOGETHER: Duration = Duration::from_millis(500);
/// How soon a datastore that cannot be followed is asked again.
const RETRY: Duration = Duration::from_secs(5);

/// What to write and where.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) place: Place,
    pub(crate) reflector: Reflector,
    pub(crate) output: std::path::PathBuf,
    /// End when there is a file, be it one of before.
    pub(crate) once: bool,
}

/// Writes until it is told to end.
///
/// # Errors
/// When the datastore cannot be used at all, or the file cannot be written.
pub(crate) async fn run(config: &Config) -> Result<()> {
    if config.once && config.output.exists() {
        tracing::info!(file = %config.output.display(), "there is a file already");
        return Ok(());
    }
    let store = config.place.open("tortie-clients").await?;
    let mut terminate = signal(SignalKind::terminate()).context("receive SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("receive SIGINT")?;
    tokio::select! {
        ended = follow(config, &*store) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn follow(config: &Config, store: &dyn Datastore) -> Result<()> {
    let mut nodes = watch(store, Kind::Node).await;
    let mut settings = watch(store, Kind::BgpConfiguration).await;
    let mut known = Known::default();
    let mut left_out = Vec::new();
    loop {
        let next = tokio::select! {
            event = nodes.next() => event,
            event = settings.next() => event,
            // Both have told all there is, and nothing more for a while.
            () = tokio::time::sleep(TOGETHER), if known.in_sync == 2 && known.is_changed => {
                known.is_changed = false;
                let (text, missing) = config.reflector.file(known.settings.as_number(), &known.nodes);
                for problem in missing.iter().filter(|problem| !left_out.contains(*problem)) {
                    tracing::warn!(problem, "left out");
                }
                left_out = missing;
                write(&config.output, &text)?;
                if config.once {
                    return Ok(());
                }
                continue;
            }
        };
        match next {
            Some(event) => known.take(event),
            None => bail!("the datastore has ended"),
        }
    }
}

async fn watch(store: &dyn Datastore, kind: Kind) -> Watch {
    loop {
        match store.watch(kind).await {
            Ok(watch) => return watch,
            Err(error) => tracing::warn!(%error, "cannot follow, trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What the datastore has told.
#[derive(Default)]
struct Known {
    nodes: BTreeMap<String, Client>,
    settings: BgpConfigurationSpec,
    in_sync: u8,
    is_changed: bool,
}

impl Known {
    /// Of an object that cannot be read the last good state stays.
    fn take(&mut self, event: Event) {
        match event {
            Event::Upsert(object) if object.key.kind == Kind::Node => {
                let name = object.key.name.clone();
                if let Ok(node) = Typed::<Node>::from_object(object) {
                    let client = Client::of(&node.resource);
                    let before = self.nodes.insert(name, client.clone());
                    self.is_changed |= before != Some(client);
                }
            }
            Event::Upsert(object) if object.key.name == names::DEFAULT => {
                if let Ok(settings) = Typed::<BgpConfiguration>::from_object(object) {
                    self.is_changed |= settings.resource.spec != self.settings;
                    self.settings = settings.resource.spec;
                }
            }
            Event::Delete(key) if key.kind == Kind::Node => {
                self.is_changed |= self.nodes.remove(&key.name).is_some();
            }
            Event::Delete(key) if key.name == names::DEFAULT => {
                self.is_changed = true;
                self.settings = BgpConfigurationSpec::default();
            }
            Event::InSync => {
                self.in_sync += 1;
                self.is_changed = true;
            }
            Event::Upsert(_) | Event::Delete(_) | Event::Mended { .. } => {}
            Event::Broken(broken) => {
                tracing::warn!(place = broken.place, problem = broken.problem, "unusable");
            }
        }
    }
}

/// Replaces the file, if it says something else.
fn write(path: &Path, text: &str) -> Result<()> {
    let what = || format!("write {}", path.display());
    match fs::read_to_string(path) {
        Ok(before) if before == text => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(what);
        }
        Ok(_) | Err(_) => {}
    }
    let new = path.with_extension("new");
    fs::write(&new, text).with_context(what)?;
    fs::rename(&new, path).with_context(what)?;
    tracing::info!(file = %path.display(), "clients written");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_only_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bgp.yaml");
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
        write(&path, "one").unwrap();
        let first = fs::File::open(&path).unwrap();
        let before = inode();
        write(&path, "one").unwrap();
        assert_eq!(inode(), before);
        write(&path, "two").unwrap();
        assert_ne!(inode(), before);
        assert_eq!(io::read_to_string(first).unwrap(), "one");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    }
}
