//! What an attachment must look like on both sides.

use felix_api::cni::{Added, HOST_MAC, code};
use ipnet::IpNet;

use crate::conf::Conf;
use crate::environment::Environment;
use crate::error::Error;

/// Six bytes of a hardware address.
pub(crate) type Mac = [u8; 6];

/// The agent's record joined with what the configuration says about the pod side.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) host_interface: String,
    pub(crate) host_mac: Mac,
    /// Mark of the host interface.
    pub(crate) alias: String,
    pub(crate) ifname: String,
    /// Absent means the kernel's choice.
    pub(crate) pod_mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) addresses: Vec<IpNet>,
    /// Where the pod goes through this interface.
    pub(crate) destinations: Vec<IpNet>,
    /// Whether the pod may forward between its interfaces.
    pub(crate) forwarding: bool,
}

impl Plan {
    /// # Errors
    /// Code 104 when the record is not usable.
    pub(crate) fn new(
        conf: &Conf,
        environment: &Environment,
        added: &Added,
    ) -> Result<Plan, Error> {
        let unusable = |problem: String| {
            Error::new(
                code::PROTOCOL,
                format!("the agent's record is not usable: {problem}"),
            )
        };
        let mac = |text: &str| parse_mac(text).ok_or_else(|| unusable(format!("MAC {text:?}")));
        let host_mac = mac(&added.host_mac)?;
        if host_mac != HOST_MAC {
            // The pod's neighbour entries and its IPv6 gateway are made of this address.
            return Err(unusable(format!("host MAC {}", added.host_mac)));
        }
        if added.addresses.is_empty() {
            return Err(unusable("no address".to_owned()));
        }
        if let Some(net) = added
            .addresses
            .iter()
            .find(|net| net.prefix_len() != net.max_prefix_len())
        {
            return Err(unusable(format!("address {net} is not a single one")));
        }
        Ok(Plan {
            host_interface: added.host_interface.clone(),
            host_mac,
            alias: added.alias.clone(),
            ifname: environment.ifname.clone(),
            pod_mac: added.pod_mac.as_deref().map(mac).transpose()?,
            mtu: added.mtu,
            addresses: added.addresses.clone(),
            destinations: conf.destinations(&added.addresses),
            forwarding: conf.keys.container_settings.allow_ip_forwarding,
        })
    }

    /// Whether the pod has an IPv4 address.
    pub(crate) fn ipv4(&self) -> bool {
        self.addresses.iter().any(|net| net.addr().is_ipv4())
    }

    /// Whether the pod has an IPv6 address.
    pub(crate) fn ipv6(&self) -> bool {
        self.addresses.iter().any(|net| net.addr().is_ipv6())
    }
}

/// Six pairs of hexadecimal digits with colons between them.
pub(crate) fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = Mac::default();
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// The inverse of [`parse_mac`].
pub(crate) fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_and_written() {
        let mac = [0xee, 0, 0x1a, 0xff, 9, 0x10];
        assert_eq!(mac_text(mac), "ee:00:1a:ff:09:10");
        assert_eq!(parse_mac("ee:00:1A:ff:09:10"), Some(mac));
        for text in [
            "",
            "ee",
            "ee:ee:ee:ee:ee",
            "ee:ee:ee:ee:ee:ee:ee",
            "e:e:e:e:e:e",
            "xx:ee:ee:ee:ee:ee",
        ] {
            assert_eq!(parse_mac(text), None, "{text}");
        }
    }
}
