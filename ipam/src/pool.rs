//! Which pools a request may take addresses from. Pure.
//!
//! Pools the request names are used whatever their selectors say (Calico behaviour); otherwise every pool that is enabled,
//! assigned automatically, and selects the node and the namespace. A disabled pool is never used for new addresses.

use std::collections::BTreeMap;

use crds::ip_pool::AssignmentMode;
use crds::selector::Selector;
use crds::{Cidr, IpPool, IpPoolSpec, Resource};

use crate::error::Error;
use crate::request::{Family, IntendedUse};
use crate::shortfall::PassedOver;

#[cfg(test)]
mod tests;

/// A decoded pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    /// Its name.
    pub(crate) name: String,
    /// Its addresses.
    pub(crate) cidr: Cidr,
    /// Prefix length of its blocks.
    pub(crate) block_size: u8,
    /// Why nobody may use it: it is disabled, being deleted or broken.
    unusable: Option<PassedOver>,
    manual: bool,
    node_selector: Selector,
    namespace_selector: Selector,
    spec: IpPoolSpec,
}

/// What a request says about pools.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    /// The family it needs.
    pub(crate) family: Family,
    /// Names or CIDRs; empty = automatic.
    pub(crate) requested: &'a [String],
    /// What for.
    pub(crate) intended_use: IntendedUse,
    /// Labels of the node.
    pub(crate) node_labels: &'a BTreeMap<String, String>,
    /// Labels of the namespace.
    pub(crate) namespace_labels: &'a BTreeMap<String, String>,
}

/// The pools a request may use, in order, and the others of its family.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection<'a> {
    /// Usable.
    pub(crate) pools: Vec<&'a Pool>,
    /// Not usable, and why.
    pub(crate) passed_over: Vec<(&'a Pool, PassedOver)>,
}

impl Pool {
    /// Reads a pool. One with a selector nobody understands is unusable, not everybody's.
    pub(crate) fn decode(object: &IpPool) -> Pool {
        let spec = object.spec.clone();
        let mut unusable = None;
        if object.metadata.deletion_timestamp.is_some() {
            unusable = Some(PassedOver::Deleting);
        } else if spec.disabled() {
            unusable = Some(PassedOver::Disabled);
        }
        if let Err(errors) = object.validate()
            && let Some(error) = errors.first()
        {
            unusable = Some(PassedOver::Broken(error.to_string()));
        }
        let mut selector =
            |text: &Option<String>| match Selector::parse(text.as_deref().unwrap_or_default()) {
                Ok(selector) => selector,
                Err(error) => {
                    unusable.get_or_insert(PassedOver::Broken(error.to_string()));
                    Selector::all()
                }
            };
        let (node_selector, namespace_selector) = (
            selector(&spec.node_selector),
            selector(&spec.namespace_selector),
        );
        Pool {
            name: object.name().to_owned(),
            cidr: spec.cidr,
            block_size: spec.block_size(),
            unusable,
            manual: spec.assignment_mode() == AssignmentMode::Manual,
            node_selector,
            namespace_selector,
            spec,
        }
    }

    /// Whether the pool selects nodes by label.
    pub(crate) fn selects_nodes(&self) -> bool {
        !self.node_selector.is_all()
    }

    /// Whether new addresses may come from it at all.
    pub(crate) fn usable(&self) -> bool {
        self.unusable.is_none()
    }

    /// Whether it serves a node with these labels when nothing else is known about the request.
    pub(crate) fn serves_node(&self, labels: &BTreeMap<String, String>) -> bool {
        self.usable() && self.node_selector.matches(labels)
    }

    /// Why the pool is not for this request when no pool was asked for.
    fn objection(&self, query: &Query<'_>) -> Option<PassedOver> {
        if let Some(unusable) = &self.unusable {
            return Some(unusable.clone());
        }
        if self.manual {
            return Some(PassedOver::Manual);
        }
        if !self.node_selector.matches(query.node_labels) {
            return Some(PassedOver::NodeSelector(text(&self.spec.node_selector)));
        }
        if !self.namespace_selector.matches(query.namespace_labels) {
            return Some(PassedOver::NamespaceSelector(text(
                &self.spec.namespace_selector,
            )));
        }
        self.use_objection(query.intended_use)
    }

    fn use_objection(&self, intended: IntendedUse) -> Option<PassedOver> {
        (!self.spec.allows(intended.into())).then_some(PassedOver::Use(intended))
    }
}

fn text(selector: &Option<String>) -> String {
    selector.clone().unwrap_or_default()
}

/// The pools for a request.
///
/// # Errors
/// A pool the request names does not exist or cannot serve it.
pub(crate) fn select<'a>(pools: &'a [Pool], query: &Query<'_>) -> Result<Selection<'a>, Error> {
    let mut selection = Selection::default();
    if query.requested.is_empty() {
        for pool in pools
            .iter()
            .filter(|pool| Family::of_cidr(pool.cidr) == query.family)
        {
            match pool.objection(query) {
                None => selection.pools.push(pool),
                Some(why) => selection.passed_over.push((pool, why)),
            }
        }
        return Ok(selection);
    }
    for requested in query.requested {
        let pool = requested_pool(pools, requested, query)?;
        if !selection.pools.iter().any(|known| known.name == pool.name) {
            selection.pools.push(pool);
        }
    }
    Ok(selection)
}

fn requested_pool<'a>(
    pools: &'a [Pool],
    requested: &str,
    query: &Query<'_>,
) -> Result<&'a Pool, Error> {
    let refuse = |problem: String, remedy: &str| Error::RequestedPool {
        requested: requested.to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    let named = |pool: &&Pool| {
        pool.name == requested || requested.parse().is_ok_and(|cidr: Cidr| cidr == pool.cidr)
    };
    let pool = pools.iter().find(named).ok_or_else(|| {
        refuse(
            "does not exist".to_owned(),
            "name an IPPool or write its spec.cidr",
        )
    })?;
    if Family::of_cidr(pool.cidr) != query.family {
        let problem = format!("is {}, not {}", pool.cidr, query.family);
        return Err(refuse(
            problem,
            "name it in the list of its own address family",
        ));
    }
    match pool
        .unusable
        .clone()
        .or_else(|| pool.use_objection(query.intended_use))
    {
        None => Ok(pool),
        Some(why) => Err(refuse(
            format!("cannot be used: {why}"),
            "change the IPPool or name another",
        )),
    }
}

/// The pool an address lies in; of several the most specific.
pub(crate) fn containing(pools: &[Pool], cidr: Cidr) -> Option<&Pool> {
    pools
        .iter()
        .filter(|pool| pool.cidr.contains(&cidr.net()))
        .max_by_key(|pool| pool.cidr.prefix_len())
}
