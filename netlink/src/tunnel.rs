//! Tunnel devices: IPIP (RFC 2003) and VXLAN (RFC 7348).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    InfoData, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{IpProtocol, RouteNetlinkMessage};

use crate::attribute::attributes;
use crate::{Error, Socket};

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFLA_IPTUN_LOCAL: u16 = 2;
const IFLA_IPTUN_REMOTE: u16 = 3;
const IFLA_IPTUN_COLLECT_METADATA: u16 = 19;

/// A kind of tunnel that a kernel may or may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelKind {
    /// IPv4 in IPv4, protocol 4.
    Ipip,
    /// Ethernet in UDP.
    Vxlan,
}

/// Settings of a tunnel device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// Of kind `ipip`.
    Ipip(Ipip),
    /// Of kind `vxlan`.
    Vxlan(Vxlan),
}

/// Settings of an IPIP device; all of them unset on the one that the kernel's module makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipip {
    /// Source of what it sends, and the only destination that it takes.
    pub local: Option<Ipv4Addr>,
    /// The only other end; without one it is the gateway of the route.
    pub remote: Option<Ipv4Addr>,
    /// Every packet says itself where it goes (`external`).
    pub external: bool,
}

/// Settings of a VXLAN device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// UDP port on which it listens and to which it sends.
    pub port: u16,
    /// Source of what it sends. Its family is that of the outer packets.
    pub local: Option<IpAddr>,
    /// Index of the interface that it sends by.
    pub parent: Option<u32>,
    /// Learns from what it receives who is where.
    pub learning: bool,
    /// Where it sends what it has no forwarding entry for.
    pub group: Option<IpAddr>,
    /// Every packet says itself where it goes (`external`).
    pub external: bool,
}

impl TunnelKind {
    fn info(self) -> InfoKind {
        match self {
            TunnelKind::Ipip => InfoKind::IpIp,
            TunnelKind::Vxlan => InfoKind::Vxlan,
        }
    }
}

impl fmt::Display for TunnelKind {
    /// The name by which the kernel and `ip link` know it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TunnelKind::Ipip => "ipip",
            TunnelKind::Vxlan => "vxlan",
        })
    }
}

impl Tunnel {
    /// Which kind it is.
    pub fn kind(&self) -> TunnelKind {
        match self {
            Tunnel::Ipip(_) => TunnelKind::Ipip,
            Tunnel::Vxlan(_) => TunnelKind::Vxlan,
        }
    }

    /// Reads the settings of a device of this kind.
    pub(crate) fn read(kind: &str, data: &[u8]) -> Option<Tunnel> {
        match kind {
            "ipip" => Some(Tunnel::Ipip(read_ipip(data))),
            "vxlan" => Some(Tunnel::Vxlan(read_vxlan(data))),
            _ => None,
        }
    }
}

fn read_ipip(data: &[u8]) -> Ipip {
    let mut ipip = Ipip::default();
    for attribute in attributes(data, 0) {
        let address = || match attribute.address() {
            Some(IpAddr::V4(address)) if !address.is_unspecified() => Some(address),
            Some(_) | None => None,
        };
        match attribute.kind {
            IFLA_IPTUN_LOCAL => ipip.local = address(),
            IFLA_IPTUN_REMOTE => ipip.remote = address(),
            IFLA_IPTUN_COLLECT_METADATA => ipip.external = true,
            _ => {}
        }
    }
    ipip
}

fn read_vxlan(data: &[u8]) -> Vxlan {
    let mut vxlan = Vxlan::default();
    for attribute in attributes(data, 0) {
        let address = || {
            let address = attribute.address();
            address.filter(|address| !address.is_unspecified())
        };
        let set = || attribute.u8() == Some(1);
        match attribute.kind {
            IFLA_VXLAN_ID => vxlan.vni = attribute.u32().unwrap_or(0),
            IFLA_VXLAN_PORT => vxlan.port = attribute.u16_be().unwrap_or(0),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = address(),
            IFLA_VXLAN_GROUP | IFLA_VXLAN_GROUP6 => vxlan.group = address(),
            IFLA_VXLAN_LINK => vxlan.parent = attribute.u32().filter(|index| *index != 0),
            IFLA_VXLAN_LEARNING => vxlan.learning = set(),
            IFLA_VXLAN_COLLECT_METADATA => vxlan.external = set(),
            _ => {}
        }
    }
    vxlan
}

impl Socket {
    /// Whether the kernel can make devices of this kind; loads its module where that is possible.
    ///
    /// Asks for a device that cannot be, so that none is made: a kernel that knows the kind
    /// objects to the settings, another one to the kind.
    pub fn can_make(&mut self, kind: TunnelKind) -> Result<bool, Error> {
        let mut info = vec![LinkInfo::Kind(kind.info())];
        match kind {
            // Of protocol 6, TCP.
            TunnelKind::Ipip => info.push(LinkInfo::Data(InfoData::IpTunnel(vec![
                InfoIpTunnel::Protocol(IpProtocol::Tcp),
            ]))),
            // Without any settings.
            TunnelKind::Vxlan => {}
        }
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::LinkInfo(info)];
        let asked = self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            "try tunnel kind",
            &kind,
        );
        match asked {
            Ok(()) => Err(Error::Malformed {
                operation: "try tunnel kind",
                problem: format!("the kernel made a device of kind {kind} that cannot be"),
            }),
            Err(Error::Unsupported(_)) => Ok(false),
            Err(Error::Kernel(refusal)) if refusal.errno == libc::EINVAL => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Creates an IPIP device and sets it up at once, so that no event shows it down.
    ///
    /// [`Error::Exists`] when the name is taken; `tunl0` appears in every namespace with the
    /// kernel's module and cannot be deleted. [`Error::Unsupported`] when there is no such module.
    pub fn create_ipip(&mut self, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::IpIp)]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            "create ipip device",
            &name,
        )
    }

    /// Creates a VXLAN device and sets it up at once. `group` and `external` cannot be asked for.
    ///
    /// [`Error::Exists`] when the name is taken, or another device has the identifier and port.
    /// [`Error::Unsupported`] when the kernel has no VXLAN.
    pub fn create_vxlan(&mut self, name: &str, mac: [u8; 6], vxlan: &Vxlan) -> Result<(), Error> {
        let mut message = vxlan_message(vxlan, true);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message
            .attributes
            .insert(0, LinkAttribute::IfName(name.to_owned()));
        message
            .attributes
            .insert(1, LinkAttribute::Address(mac.into()));
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            "create vxlan device",
            &format_args!("{name} vni {} port {}", vxlan.vni, vxlan.port),
        )
    }

    /// Changes the settings of a VXLAN device that can be changed while it runs: source, parent
    /// and learning. Identifier and port must be what they are.
    pub fn change_vxlan(&mut self, index: u32, vxlan: &Vxlan) -> Result<(), Error> {
        let mut message = vxlan_message(vxlan, false);
        message.header.index = index;
        self.request(
            RouteNetlinkMessage::NewLink(message),
            0,
            "change vxlan device",
            &format_args!("index {index} vni {} port {}", vxlan.vni, vxlan.port),
        )
    }
}

/// A port that is given again is refused, even when it is the same.
fn vxlan_message(vxlan: &Vxlan, create: bool) -> LinkMessage {
    let mut data = vec![
        InfoVxlan::Id(vxlan.vni),
        InfoVxlan::Learning(vxlan.learning),
    ];
    if create {
        data.push(InfoVxlan::Port(vxlan.port));
    }
    data.extend(vxlan.local.map(|local| match local {
        IpAddr::V4(local) => InfoVxlan::Local(local),
        IpAddr::V6(local) => InfoVxlan::Local6(local),
    }));
    data.extend(vxlan.parent.map(InfoVxlan::Link));
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(data)),
    ])];
    message
}
