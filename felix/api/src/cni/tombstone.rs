//! Where the plugin leaves deletions for an agent that is away.
//!
//! A tombstone is a file with a [`Del`](super::Del) as JSON, written to a temporary name that
//! starts with a dot and renamed. The plugin writes it when the agent does not answer, the agent
//! before it serves a `Del`; the agent alone removes it, once the addresses are released. An
//! answered `Del` may still wait for the datastore there.
//! The agent serves tombstones before it listens, and afterwards from time to time, because
//! one can be written while the agent starts. It serves one under the attachment's lock and
//! looks again whether the file is still there, so that a container added meanwhile is safe.

use std::path::{Path, PathBuf};

/// The directory of tombstones below a state directory.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("cni").join("deleted")
}

/// The file of an attachment's tombstone below a state directory.
pub fn path(state_dir: &Path, container_id: &str, ifname: &str) -> PathBuf {
    directory(state_dir).join(format!("{container_id}.{ifname}.json"))
}
