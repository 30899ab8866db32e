//! The file of a reflector: every node is a client, by its address. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crds::Asn;
use crds::core::{Node, internal_addresses};
use crds::names::annotation;
use serde_json::{Value, json};

/// The reflector itself.
#[derive(Clone, Debug)]
pub(crate) struct Reflector {
    /// Address of the node it runs on.
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) cluster_id: Ipv4Addr,
    /// How long clients keep routes while it restarts.
    pub(crate) restart_time_secs: u16,
}

/// What a Node says of its speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) v4: Option<IpAddr>,
    pub(crate) v6: Option<IpAddr>,
    pub(crate) asn: Option<Asn>,
}

impl Client {
    /// By the annotations that agents write, else by what a kubelet says where that is known.
    pub(crate) fn of(node: &Node) -> Client {
        let annotations = node.metadata.annotations.as_ref();
        let text = |name: &str| annotations?.get(name).map(String::as_str);
        let noted = |name: &str| text(name)?.split('/').next()?.parse::<IpAddr>().ok();
        let told = |is_wanted: fn(&IpAddr) -> bool| internal_addresses(node).find(is_wanted);
        let address = |name: &str, is_wanted: fn(&IpAddr) -> bool| {
            noted(name).filter(is_wanted).or_else(|| told(is_wanted))
        };
        Client {
            v4: address(annotation::NODE_IPV4_ADDRESS, IpAddr::is_ipv4),
            v6: address(annotation::NODE_IPV6_ADDRESS, IpAddr::is_ipv6),
            asn: text(annotation::NODE_AS_NUMBER).and_then(|text| text.parse().ok()),
        }
    }
}

impl Reflector {
    /// The text, and what is left out of it.
    pub(crate) fn file(
        &self,
        cluster_as: Asn,
        nodes: &BTreeMap<String, Client>,
    ) -> (String, Vec<String>) {
        let (mut peers, mut left_out, mut addresses) = (vec![], vec![], BTreeSet::new());
        for (name, client) in nodes {
            // A session carries both families; nodes dial the family of our address.
            let address = if self.address.is_ipv4() {
                client.v4
            } else {
                client.v6
            };
            let asn = client.asn.unwrap_or(cluster_as);
            match address {
                None => left_out.push(format!("node {name} has no address of this family yet")),
                Some(_) if asn.0 == 0 => left_out.push(format!("node {name} has AS number 0")),
                Some(address) if !addresses.insert(address) => {
                    left_out.push(format!("node {name} has address {address} of another node"));
                }
                Some(address) => peers.push(json!({
                    "name": name,
                    "address": address,
                    "asn": asn.0,
                    "reflector_client": asn == cluster_as,
                })),
            }
        }
        // JSON is YAML.
        (format!("{:#}\n", self.with(cluster_as, peers)), left_out)
    }

    fn with(&self, cluster_as: Asn, peers: Vec<Value>) -> Value {
        let any: IpAddr = match self.address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        json!({
            "local": {
                "asn": cluster_as.0,
                "router_id": router_id(self.address),
                "cluster_id": self.cluster_id,
                "listen": [SocketAddr::new(any, self.port)],
            },
            "defaults": { "passive": true, "add_path": "both", "restart_time": self.restart_time_secs },
            "peers": peers,
        })
    }
}

/// An identifier that no agent has, not even the one on the same node: those are addresses, and none is above 240.0.0.0.
fn router_id(address: IpAddr) -> Ipv4Addr {
    let bits = match address {
        IpAddr::V4(address) => address.to_bits(),
        // Folded, so that all of it counts.
        IpAddr::V6(address) => {
            let octets = address.octets();
            let words = octets
                .chunks(4)
                .map(|c| c.iter().fold(0, |n, o| n << 8 | u32::from(*o)));
            words.fold(0_u32, |all, word| all.rotate_left(5) ^ word)
        }
    };
    match 0xf000_0000 | bits & 0x0fff_ffff {
        // Broadcast.
        u32::MAX => Ipv4Addr::from_bits(u32::MAX - 1),
        bits => Ipv4Addr::from_bits(bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reflector(address: &str) -> Reflector {
        Reflector {
            address: address.parse().unwrap(),
            port: 1790,
            cluster_id: Ipv4Addr::new(198, 51, 100, 1),
            restart_time_secs: 120,
        }
    }

    fn client(v4: &str, v6: &str, asn: Option<u32>) -> Client {
        Client {
            v4: v4.parse().ok(),
            v6: v6.parse().ok(),
            asn: asn.map(Asn),
        }
    }

    fn nodes(nodes: &[(&str, Client)]) -> BTreeMap<String, Client> {
        let nodes = nodes.iter();
        nodes
            .map(|(name, client)| ((*name).to_owned(), client.clone()))
            .collect()
    }

    #[test]
    fn every_node_is_a_client_by_its_address() {
        let nodes = nodes(&[
            ("a", client("192.0.2.11", "2001:db8::11", None)),
            ("b", client("192.0.2.12", "", Some(64513))),
            ("copy-of-a", client("192.0.2.11", "", None)),
            ("new", client("", "", None)),
            ("zero", client("192.0.2.13", "", Some(0))),
        ]);
        let (text, left_out) = reflector("192.0.2.21").file(Asn(64512), &nodes);
        let file: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            file,
            json!({
                "local": {
                    "asn": 64512, "router_id": "240.0.2.21", "cluster_id": "198.51.100.1",
                    "listen": ["0.0.0.0:1790"],
                },
                "defaults": { "passive": true, "add_path": "both", "restart_time": 120 },
                "peers": [
                    { "name": "a", "address": "192.0.2.11", "asn": 64512, "reflector_client": true },
                    { "name": "b", "address": "192.0.2.12", "asn": 64513, "reflector_client": false },
                ],
            })
        );
        assert_eq!(
            left_out,
            [
                "node copy-of-a has address 192.0.2.11 of another node",
                "node new has no address of this family yet",
                "node zero has AS number 0",
            ]
        );
        let (text, _) = reflector("2001:db8::21").file(Asn(64512), &nodes);
        let file: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(file["local"]["listen"][0], "[::]:1790");
        assert_eq!(file["peers"].as_array().unwrap().len(), 1);
        assert_eq!(file["peers"][0]["address"], "2001:db8::11");
    }

    #[test]
    fn identifiers_are_no_addresses_and_differ() {
        let addresses = [
            "192.0.2.21",
            "192.0.2.22",
            "255.255.255.255",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:1::1",
        ];
        let ids: BTreeSet<Ipv4Addr> = addresses
            .iter()
            .map(|a| router_id(a.parse().unwrap()))
            .collect();
        assert_eq!(ids.len(), addresses.len());
        assert!(
            ids.iter()
                .all(|id| id.octets()[0] >= 240 && !id.is_broadcast()),
            "{ids:?}"
        );
    }

    #[test]
    fn annotations_of_a_node_say_where_it_is_and_then_its_kubelet() {
        let node = json!({
            "metadata": { "name": "a", "annotations": {
                annotation::NODE_IPV4_ADDRESS: "192.0.2.11/24",
                annotation::NODE_IPV6_ADDRESS: "none",
                annotation::NODE_AS_NUMBER: "1.2",
            } },
            "status": { "addresses": [
                { "type": "InternalIP", "address": "192.0.2.99" },
                { "type": "Hostname", "address": "a" },
                { "type": "InternalIP", "address": "2001:db8::11" },
            ] },
        });
        let node: Node = serde_json::from_value(node).unwrap();
        let expected = client("192.0.2.11", "2001:db8::11", Some(65538));
        assert_eq!(Client::of(&node), expected);
        assert_eq!(Client::of(&Node::default()), Client::default());
    }
}
