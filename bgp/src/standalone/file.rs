//! The configuration file: YAML, unknown fields are errors, and an error names file, field and
//! remedy. `docs/tortie-bgp.yaml` shows every field.

mod local;
mod originate;
mod peer;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use bgp::{Desired, Local, NextHop, Originate, PeerConfig, PeerKey, Prefix, Reachability};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use local::{LocalSection, NextHopSection};
use originate::OriginateSection;
use peer::{DynamicSection, PeerSection};
use rule::{Filters, RuleSection};

/// The whole file. Peers are read in a second step, when groups and defaults are known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    local: LocalSection,
    #[serde(default)]
    next_hops: Vec<NextHopSection>,
    #[serde(default)]
    filters: BTreeMap<String, Vec<RuleSection>>,
    #[serde(default)]
    defaults: Mapping,
    #[serde(default)]
    groups: BTreeMap<String, Mapping>,
    #[serde(default)]
    peers: Vec<Mapping>,
    #[serde(default)]
    dynamic: Vec<Mapping>,
    #[serde(default)]
    originate: Vec<OriginateSection>,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) desired: Desired,
    pub(crate) next_hops: Arc<BTreeMap<NextHop, Reachability>>,
}

/// Reads the file.
///
/// # Errors
/// A file that cannot be read or does not make sense; the error names file and field.
pub(crate) fn load(path: &Path) -> Result<Config> {
    let name = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(name)?;
    parse(&text).with_context(name)
}

fn parse(text: &str) -> Result<Config> {
    let file = serde_yaml::Deserializer::from_str(text);
    let file: File = serde_path_to_error::deserialize(file).map_err(|error| {
        let path = error.path().to_string();
        let text = error.into_inner().to_string();
        // Errors of the YAML itself name a part of the path.
        match text.split_once(": ") {
            _ if path == "." => anyhow!(text),
            Some((head, rest)) if path.starts_with(head) => anyhow!("{path}: {rest}"),
            _ => anyhow!("{path}: {text}"),
        }
    })?;
    let local = file.local.local()?;
    let filters = Filters::new(file.filters)?;
    let templates = Templates::new(file.defaults, file.groups)?;
    let mut ends = BTreeSet::new();
    let mut peers = BTreeMap::new();
    for (index, own) in file.peers.into_iter().enumerate() {
        let place = format!("peers[{index}]");
        let section: PeerSection = templates.fill(own, &place)?;
        let (name, config) = peer(section, &local, &filters).with_context(|| place.clone())?;
        ensure!(
            ends.insert((config.address, config.port, config.interface.clone())),
            "{place}: another peer has address {} and port {} too; remove one of them",
            config.address,
            config.port
        );
        ensure!(
            peers.insert(PeerKey::from(name.as_str()), config).is_none(),
            "{place}.name: {name} is used twice; names must differ"
        );
    }
    let mut dynamic = BTreeMap::new();
    for (index, own) in file.dynamic.into_iter().enumerate() {
        let place = format!("dynamic[{index}]");
        let (own, section) = DynamicSection::take(own, &place)?;
        let template: PeerSection = templates.fill(own, &place)?;
        let entry = section.peers(template, &local, &filters);
        let (name, entry) = entry.with_context(|| place.clone())?;
        ensure!(
            dynamic
                .insert(PeerKey::from(name.as_str()), entry)
                .is_none(),
            "{place}.name: {name} is used twice; names must differ"
        );
    }
    let mut next_hops = BTreeMap::new();
    for (index, section) in file.next_hops.into_iter().enumerate() {
        let (address, said) = section
            .said()
            .with_context(|| format!("next_hops[{index}]"))?;
        next_hops.insert(NextHop::from(address), said);
    }
    let originate = originated(file.originate)?;
    let desired = Desired {
        local,
        peers,
        dynamic,
        originate,
    };
    Ok(Config {
        desired,
        next_hops: Arc::new(next_hops),
    })
}

fn peer(section: PeerSection, local: &Local, filters: &Filters) -> Result<(String, PeerConfig)> {
    let (address, interface) = (section.address, section.interface.clone());
    let place = match (address, &interface) {
        (Some(address), _) => address.to_string(),
        (None, Some(interface)) => interface.clone(),
        (None, None) => {
            return Err(anyhow!(
                "address: give the peer's address, or an interface to find it on"
            ));
        }
    };
    let name = section.name.clone().unwrap_or(place);
    Ok((name, section.config(local, filters)?))
}

fn originated(sections: Vec<OriginateSection>) -> Result<BTreeMap<Prefix, Originate>> {
    let mut originate = BTreeMap::new();
    for (index, section) in sections.into_iter().enumerate() {
        let prefix = section.prefix.0;
        ensure!(
            originate.insert(prefix, section.originate()).is_none(),
            "originate[{index}].prefix: {prefix} is listed twice"
        );
    }
    Ok(originate)
}

/// What peers have in common: `defaults`, and above them the group that a peer names.
struct Templates {
    defaults: Mapping,
    groups: BTreeMap<String, Mapping>,
}

impl Templates {
    /// Reads each on its own, so that an error is told where it is.
    fn new(defaults: Mapping, groups: BTreeMap<String, Mapping>) -> Result<Self> {
        let check = |mapping: &Mapping, place: &str| -> Result<()> {
            let section: PeerSection = read(mapping.clone(), place)?;
            section.check().with_context(|| place.to_owned())
        };
        check(&defaults, "defaults")?;
        for (name, group) in &groups {
            check(group, &format!("groups.{name}"))?;
            ensure!(
                !group.contains_key("group"),
                "groups.{name}.group: a group cannot be in a group; write its fields here"
            );
        }
        Ok(Templates { defaults, groups })
    }

    /// A peer with what its group and the defaults say where it says nothing itself.
    fn fill(&self, own: Mapping, place: &str) -> Result<PeerSection> {
        let mut all = self.defaults.clone();
        if let Some(name) = own.get("group").and_then(Value::as_str) {
            let group = self.groups.get(name).with_context(|| {
                let known: Vec<&str> = self.groups.keys().map(String::as_str).collect();
                format!("{place}.group: there is no group {name}, only {known:?}")
            })?;
            all.extend(group.clone());
        }
        all.extend(own);
        read(all, place)
    }
}

/// A mapping as its type; an error names the field below `place`.
fn read<T: DeserializeOwned>(mapping: Mapping, place: &str) -> Result<T> {
    serde_path_to_error::deserialize(Value::Mapping(mapping)).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." {
            place.to_owned()
        } else {
            format!("{place}.{path}")
        };
        anyhow!("{place}: {}", error.into_inner())
    })
}

#[cfg(test)]
mod tests;
