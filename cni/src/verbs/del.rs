//! DEL: veth first, address afterwards; what the agent cannot take now waits in a file.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use felix_api::cni::{alias, tombstone};

use super::Attachment;
use crate::conf::Conf;
use crate::environment::Environment;
use crate::error::Error;
use crate::{file, host, pod};

/// Detaches the container; what is gone already is fine.
///
/// # Errors
/// When an interface cannot be removed, or neither the agent nor the disk takes the deletion.
pub(crate) fn del(conf: &Conf, environment: &Environment) -> Result<(), Error> {
    remove_interfaces(environment)?;
    settle(&Attachment { conf, environment })
}

fn remove_interfaces(environment: &Environment) -> Result<(), Error> {
    let mut socket = host::socket()?;
    let alias = alias(&environment.container_id, &environment.ifname);
    host::remove_marked(&mut socket, &alias)?;
    // A pod that was attached by another release, or half, has no mark on its host interface.
    // Whatever cannot be entered as a pod's namespace has nothing of ours in it.
    let Ok(netns) = pod::open(&environment.netns) else {
        return Ok(());
    };
    let links = host::links(&mut socket)?;
    let foreign = |index| {
        links
            .iter()
            .any(|link| link.index == index && host::belongs_to_another(link, &alias))
    };
    pod::remove(&netns, &environment.ifname, foreign)
}

/// Tells the agent that an attachment is gone, or leaves a tombstone for it.
pub(super) fn settle(attachment: &Attachment<'_>) -> Result<(), Error> {
    let keys = &attachment.conf.keys;
    let deletion = attachment.deletion();
    match attachment.forget() {
        // It may have written down what it does later, in the same file.
        Ok(()) => Ok(()),
        // Not only when the agent is away: no answer of it may keep a pod from going.
        Err(_) => {
            create_directory(&tombstone::directory(&keys.state_dir))?;
            let path = tombstone::path(&keys.state_dir, &deletion.container_id, &deletion.ifname);
            let content = felix_api::cni::to_line(&deletion)
                .map_err(|error| Error::file("writing", &path, &error.into()))?;
            file::replace(&path, &content, 0o600)
        }
    }
}

fn create_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::file("creating", path, &error))
}
