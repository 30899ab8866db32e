//! CRDs: what Helm makes once and never touches again is brought to this version here.

use crds::Kind;
use datastore::kubernetes::KubernetesStore;

/// Applies the CRDs of this version.
///
/// # Errors
/// The first that is not taken; call again.
pub(crate) async fn apply(store: &KubernetesStore) -> Result<(), datastore::Error> {
    for definition in Kind::ALL.into_iter().filter_map(crds::manifest::crd) {
        store.apply_definition(&definition).await?;
    }
    Ok(())
}
