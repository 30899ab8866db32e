//! Our image and our chart in a real cluster.
//!
//! `make e2e-kubernetes` runs it; `cargo test` does not, because it needs the programs of
//! Kubernetes, which `e2e/kubernetes/get-tools` builds.

use std::sync::Mutex;

use anyhow::Result;
use e2e::kubernetes::{Kubernetes, diagnostics};

mod install;

/// One cluster at a time: each has eleven daemons.
static MACHINE: Mutex<()> = Mutex::new(());

/// Runs one test in a cluster of its own, with our chart. A failure carries the state of everything.
fn scenario(
    name: &str,
    values: &str,
    test: impl FnOnce(&mut Kubernetes) -> Result<()>,
) -> Result<()> {
    let _only = MACHINE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut cluster = Kubernetes::start(name)?;
    let outcome = cluster.deploy("install", values).map(drop);
    outcome.and_then(|()| test(&mut cluster)).map_err(|error| {
        let state = diagnostics::collect(&cluster);
        error.context(format!("{state}\n{name} failed"))
    })
}
