//! The network configuration on stdin (CNI 1.1.0, "Plugin configuration objects").
//!
//! Keys of Calico's plugin that mean something here have the same name and meaning;
//! unknown keys are tolerated, because runtimes add their own.

use std::net::IpAddr;
use std::path::PathBuf;

use felix_api::cni::{Attachment, code};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::environment::{is_identifier, parse_address};
use crate::error::Error;
use crate::result::AddResult;
use crate::version::Version;

/// What of the configuration matters here.
#[derive(Debug, Clone)]
pub(crate) struct Conf {
    pub(crate) version: Version,
    pub(crate) keys: Keys,
}

/// The keys as they stand in the document.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Keys {
    /// Name of the network.
    #[serde(default)]
    pub(crate) name: String,
    /// Where the agent listens.
    #[serde(default = "default_socket")]
    pub(crate) socket: PathBuf,
    /// Where tombstones go.
    #[serde(default = "default_state_dir")]
    pub(crate) state_dir: PathBuf,
    /// MTU of both ends; 0 means the agent decides.
    #[serde(default)]
    pub(crate) mtu: u32,
    #[serde(default)]
    pub(crate) ipam: Ipam,
    #[serde(default)]
    pub(crate) container_settings: ContainerSettings,
    /// Keep the default routes although `ipam.routes` names others.
    #[serde(default)]
    pub(crate) include_default_routes: bool,
    /// One line per call is appended here.
    #[serde(default)]
    pub(crate) log_file: Option<PathBuf>,
    /// Passed through to the result.
    #[serde(default)]
    pub(crate) dns: Option<Value>,
    #[serde(default, rename = "runtimeConfig")]
    runtime: RuntimeConfig,
    /// What the plugins before this one did (ADD), or all of them (CHECK).
    #[serde(default, rename = "prevResult")]
    pub(crate) previous: Option<AddResult>,
    /// GC: what must stay.
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
}

/// Section `ipam`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Ipam {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(deserialize_with = "flag")]
    pub(crate) assign_ipv4: bool,
    #[serde(deserialize_with = "flag")]
    pub(crate) assign_ipv6: bool,
    pub(crate) ipv4_pools: Vec<String>,
    pub(crate) ipv6_pools: Vec<String>,
    /// Destinations reached through this interface; none means the default routes.
    routes: Vec<Destination>,
}

impl Default for Ipam {
    fn default() -> Ipam {
        Ipam {
            kind: None,
            assign_ipv4: true,
            assign_ipv6: false,
            ipv4_pools: Vec::new(),
            ipv6_pools: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// Section `container_settings`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerSettings {
    /// The pod may forward between its interfaces.
    pub(crate) allow_ip_forwarding: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    ips: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Destination {
    dst: IpNet,
}

#[derive(Debug, Clone, Deserialize)]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

fn default_socket() -> PathBuf {
    PathBuf::from(felix_api::cni::DEFAULT_SOCKET)
}

fn default_state_dir() -> PathBuf {
    PathBuf::from(felix_api::cni::DEFAULT_STATE_DIR)
}

/// A boolean, also as the string Calico's configurations have.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(value) => Ok(value),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!(
            "{other} is neither true nor false"
        ))),
    }
}

/// A document on stdin before anything but its version is looked at.
#[derive(Debug)]
pub(crate) struct Document(Value);

impl Document {
    /// # Errors
    /// Code 6 when `input` is not a JSON object.
    pub(crate) fn parse(input: &[u8]) -> Result<Document, Error> {
        let decode = |details: String| {
            Error::new(
                code::DECODE,
                "the network configuration on stdin is not a JSON object",
            )
            .with_details(details)
        };
        let value = serde_json::from_slice(input).map_err(|error| decode(error.to_string()))?;
        match value {
            Value::Object(_) => Ok(Document(value)),
            _ => Err(decode("another kind of JSON value".to_owned())),
        }
    }

    /// `cniVersion`, whether supported or not.
    pub(crate) fn version(&self) -> Option<&str> {
        self.0.get("cniVersion").and_then(Value::as_str)
    }
}

impl Conf {
    /// # Errors
    /// Code 1 for the version, 7 for any other key.
    pub(crate) fn from(document: Document) -> Result<Conf, Error> {
        let version = Version::parse(document.version().unwrap_or_default())?;
        let keys: Keys = serde_path_to_error::deserialize(&document.0).map_err(|error| {
            invalid(
                format!(
                    "{} of the network configuration has the wrong form",
                    error.path()
                ),
                error.inner().to_string(),
            )
        })?;
        if !is_identifier(&keys.name) {
            return Err(invalid(
                format!("name {:?} is not a network name", keys.name),
                "it starts with a letter or digit and goes on with those, '_', '.' or '-'",
            ));
        }
        Ok(Conf { version, keys })
    }

    /// Checks what matters only where addresses are given out, so that a configuration made
    /// wrong later does not keep pods from being deleted.
    ///
    /// # Errors
    /// Code 2 or 7, naming the key.
    pub(crate) fn check_for_add(&self) -> Result<(), Error> {
        let ipam = &self.keys.ipam;
        match ipam.kind.as_deref() {
            None | Some("tortie" | "tortie-ipam" | "calico-ipam") => {}
            Some(other) => {
                return Err(Error::new(
                    code::UNSUPPORTED_FIELD,
                    format!("ipam.type {other:?} is not supported"),
                )
                .with_details("leave it out: the agent gives out the addresses"));
            }
        }
        if !ipam.assign_ipv4 && !ipam.assign_ipv6 {
            return Err(invalid(
                "ipam.assign_ipv4 and ipam.assign_ipv6 are both false",
                "a pod needs an address of at least one family",
            ));
        }
        // RFC 791 and RFC 8200: the least a link of the family must carry.
        let least = if ipam.assign_ipv6 { 1280 } else { 68 };
        if self.keys.mtu != 0 && !(least..=65535).contains(&self.keys.mtu) {
            return Err(invalid(
                format!("mtu {} is out of range", self.keys.mtu),
                format!("it is {least} to 65535, or 0 to let the agent decide"),
            ));
        }
        self.requested_addresses().map(drop)
    }

    /// Addresses from the runtime's capability `ips`.
    ///
    /// # Errors
    /// Code 7 when one is not an address.
    pub(crate) fn requested_addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let parse = |text: &String| {
            parse_address(text).ok_or_else(|| {
                invalid(
                    format!("runtimeConfig.ips: {text:?} is not an address"),
                    "each is an address with or without prefix length",
                )
            })
        };
        self.keys.runtime.ips.iter().map(parse).collect()
    }

    /// Destinations the pod reaches through this interface, for the families it has.
    pub(crate) fn destinations(&self, addresses: &[IpNet]) -> Vec<IpNet> {
        let ipam = &self.keys.ipam;
        let defaults = [
            IpNet::new_assert(IpAddr::from([0u8; 4]), 0),
            IpNet::new_assert(IpAddr::from([0u8; 16]), 0),
        ];
        let mut destinations: Vec<IpNet> =
            ipam.routes.iter().map(|route| route.dst.trunc()).collect();
        if destinations.is_empty() || self.keys.include_default_routes {
            destinations.extend(defaults);
        }
        destinations.retain(|destination| {
            addresses
                .iter()
                .any(|address| is_v4(address) == is_v4(destination))
        });
        destinations.sort();
        destinations.dedup();
        destinations
    }

    /// The runtime's list for GC.
    ///
    /// # Errors
    /// Code 7 when it is missing: an absent list must not mean "delete everything".
    pub(crate) fn valid_attachments(&self) -> Result<Vec<Attachment>, Error> {
        let Some(list) = &self.keys.valid_attachments else {
            return Err(invalid(
                "cni.dev/valid-attachments is missing",
                "GC needs the list of attachments that stay, which may be empty",
            ));
        };
        Ok(list
            .iter()
            .map(|valid| Attachment {
                container_id: valid.container_id.clone(),
                ifname: valid.ifname.clone(),
            })
            .collect())
    }
}

/// Whether a prefix is of IPv4.
pub(crate) fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

fn invalid(message: impl Into<String>, details: impl Into<String>) -> Error {
    Error::new(code::INVALID_CONFIG, message).with_details(details)
}

#[cfg(test)]
mod tests;
