//! Subnets around a router: nodes that no layer 2 joins, and a host outside.
//!
//! ```text
//!   node1  node2       node3             outside
//!     |      |           |                  |
//!   --+------+--lan0   --+--lan1            |
//!          \              /                 |
//!           +-- router --+------------------+
//! ```
//!
//! The router knows the subnets and nothing of pods: what reaches a pod in another
//! subnet went through a tunnel, or a test told the router of its block.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::command::ip_batch;
use crate::lab::{Lab, Namespace};

/// Subnets that nodes may be in, IPv4 and IPv6 part.
const SUBNETS: [[&str; 2]; 3] = [
    ["192.0.2.", "2001:db8:0:1::"],
    ["198.51.100.", "2001:db8:0:2::"],
    ["203.0.113.", "2001:db8:0:3::"],
];
/// Addresses of the host outside.
pub const OUTSIDE: [&str; 2] = ["10.255.0.10", "2001:db8:ffff::10"];
const OUTSIDE_ROUTER: [&str; 2] = ["10.255.0.1", "2001:db8:ffff::1"];

/// Addresses of host number `host` in subnet number `subnet`, without prefix length.
pub fn addresses(subnet: usize, host: usize) -> [String; 2] {
    SUBNETS[subnet].map(|prefix| format!("{prefix}{host}"))
}

/// A router with some subnets and a host outside them.
#[derive(Debug)]
pub struct Fabric {
    /// Joins the subnets.
    pub router: Namespace,
    /// A host that belongs to no cluster, behind the router on its interface `out`.
    pub outside: Namespace,
}

impl Fabric {
    /// Makes the router, `subnets` bridges of it called `lan0` and so on, and the host outside.
    pub fn new(lab: &Lab, subnets: usize) -> Result<Self> {
        let (router, outside) = (lab.namespace("router")?, lab.namespace("outside")?);
        router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        let mut links = format!(
            "link add out type veth peer name eth0 netns {}\nlink set out up\n",
            outside.name
        );
        for address in OUTSIDE_ROUTER {
            links += &format!("address add {} dev out nodad\n", with_length(address));
        }
        for subnet in 0..subnets {
            // Without an address of its own a bridge takes that of a port, and another one when
            // that port goes: hosts would not find it for half a minute.
            links += &format!(
                "link add lan{subnet} address 02:00:00:00:00:{subnet:02x} type bridge forward_delay 0 mcast_snooping 0
link set lan{subnet} up\n"
            );
            for address in addresses(subnet, 1) {
                links += &format!(
                    "address add {} dev lan{subnet} nodad\n",
                    with_length(&address)
                );
            }
        }
        ip_batch(&router, &links)?;
        let mut host = "link set eth0 up\n".to_owned();
        for (address, router) in OUTSIDE.into_iter().zip(OUTSIDE_ROUTER) {
            host += &format!("address add {} dev eth0 nodad\n", with_length(address));
            host += &format!("route add default via {router}\n");
        }
        ip_batch(&outside, &host)?;
        Ok(Self { router, outside })
    }

    /// Plugs a host into a subnet as its `interface`, with host number `host` and, when it is
    /// `eth0`, a default route. On the router its cable is called `port`.
    pub fn plug(
        &self,
        namespace: &Namespace,
        interface: &str,
        port: &str,
        subnet: usize,
        host: usize,
    ) -> Result<()> {
        ip_batch(
            &self.router,
            &format!(
                "link add {port} type veth peer name {interface} netns {}
link set {port} master lan{subnet} up\n",
                namespace.name
            ),
        )?;
        let mut lines = String::new();
        for address in addresses(subnet, host) {
            lines += &format!(
                "address add {} dev {interface} nodad\n",
                with_length(&address)
            );
        }
        lines += &format!("link set {interface} up\n");
        if interface == "eth0" {
            for router in addresses(subnet, 1) {
                lines += &format!("route add default via {router}\n");
            }
        }
        ip_batch(namespace, &lines)?;
        // A host that had these addresses before may be remembered.
        for address in addresses(subnet, host) {
            self.router.ip(&format!("neigh flush to {address}"))?;
        }
        Ok(())
    }

    /// Tells the router the way to a block of pods, as a fabric does that speaks BGP.
    pub fn route(&self, block: &str, node: &str) -> Result<()> {
        self.router
            .ip(&format!("route replace {block} via {node}"))
            .map(drop)
    }

    /// From now on the router drops what comes from or goes to an address that is not of a
    /// subnet or outside, as clouds do.
    pub fn drop_foreign_addresses(&self) -> Result<()> {
        let sets = [0, 1].map(|family| {
            let mut known: Vec<_> = SUBNETS.iter().map(|subnet| subnet[family]).collect();
            known.push(["10.255.0.", "2001:db8:ffff::"][family]);
            let mut known: Vec<_> = known.into_iter().map(network).collect();
            if family == 1 {
                // Neighbour discovery.
                known.extend(["fe80::/10", "ff00::/8"].map(str::to_owned));
            }
            known.join(", ")
        });
        let rules = format!(
            "table inet cloud {{
  set known4 {{ type ipv4_addr; flags interval; elements = {{ {} }} }}
  set known6 {{ type ipv6_addr; flags interval; elements = {{ {} }} }}
  counter dropped {{ }}
  chain arriving {{
    type filter hook prerouting priority raw;
    ip saddr != @known4 counter name dropped drop
    ip daddr != @known4 counter name dropped drop
    ip6 saddr != @known6 counter name dropped drop
    ip6 daddr != @known6 counter name dropped drop
  }}
}}
",
            sets[0], sets[1]
        );
        self.router.feed("nft -f -", &rules)?;
        Ok(())
    }

    /// How many packets [`Fabric::drop_foreign_addresses`] has dropped.
    pub fn dropped(&self) -> Result<u64> {
        let text = self.router.run("nft -j list counter inet cloud dropped")?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        value["nftables"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|object| object["counter"]["packets"].as_u64())
            .with_context(|| format!("no counter in {text}"))
    }
}

/// An address with the length of the subnets here: /24 and /64.
pub fn with_length(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(_)) => format!("{address}/64"),
        _ => format!("{address}/24"),
    }
}

fn network(prefix: &str) -> String {
    match prefix.strip_suffix("::") {
        Some(_) => format!("{prefix}/64"),
        None => format!("{prefix}0/24"),
    }
}
