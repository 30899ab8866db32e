//! Interfaces: list, create veth pairs, change, delete.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkHeader, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::attribute::attributes;
use crate::wire::Answer;
use crate::{Error, Socket, Tunnel};

/// Bytes of `struct ifinfomsg`.
const HEADER_BYTES: usize = 16;

/// An interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its namespace.
    pub index: u32,
    /// Name, unique in its namespace.
    pub name: String,
    /// Driver kind (`veth`, `bridge`, `dummy`, …); nothing for hardware and loopback.
    pub kind: Option<String>,
    /// Hardware address, for interfaces with an Ethernet-like one.
    pub mac: Option<[u8; 6]>,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Set up by the administrator (`IFF_UP`).
    pub admin_up: bool,
    /// Up and with carrier (`IFF_RUNNING`).
    pub running: bool,
    /// Is a loopback interface.
    pub loopback: bool,
    /// Free text set by whoever created it.
    pub alias: Option<String>,
    /// Index of the other end (veth) or of the lower interface; it may be in another namespace.
    pub peer_index: Option<u32>,
    /// Index of the bridge, bond or VRF it belongs to.
    pub controller: Option<u32>,
    /// Settings of a tunnel device, of the kinds that this crate makes.
    pub tunnel: Option<Tunnel>,
}

/// A veth pair to create.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    /// Name of the end in the socket's namespace.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// MTU of both ends, in bytes.
    pub mtu: u32,
    /// Free text for the end in the socket's namespace, up to 255 bytes.
    pub alias: Option<String>,
    /// Whether the end in the socket's namespace is set up at once.
    pub up: bool,
    /// Name of the other end.
    pub peer_name: String,
    /// Its hardware address; the kernel draws one if there is none.
    pub peer_mac: Option<[u8; 6]>,
    /// The namespace in which the other end is created; the socket's own if there is none.
    pub peer_netns: Option<BorrowedFd<'a>>,
}

/// What to change on an interface; nothing stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Set up or down.
    pub up: Option<bool>,
    /// Maximum transmission unit in bytes.
    pub mtu: Option<u32>,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// New name; older kernels want the interface down for this.
    pub name: Option<String>,
    /// Free text, up to 255 bytes; an empty one removes it.
    pub alias: Option<String>,
    /// How the IPv6 link-local address is made.
    pub address_generation: Option<AddressGeneration>,
}

/// How the kernel makes an interface's IPv6 link-local address (`addr_gen_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressGeneration {
    /// From the hardware address: `fe80::ecee:eeff:feee:eeee` for `ee:ee:ee:ee:ee:ee`.
    Eui64,
    /// None at all.
    None,
}

impl Link {
    pub(crate) fn read(answer: &Answer<'_>) -> Option<Link> {
        let header = LinkHeader::parse(answer.payload).ok()?;
        if header.interface_family != AddressFamily::Unspec {
            // A bridge tells about its ports in messages of its own family: one that says
            // "deleted" means that the port has left the bridge.
            return None;
        }
        let mut link = Link {
            index: header.index,
            name: String::new(),
            kind: None,
            mac: None,
            mtu: 0,
            admin_up: header.flags.contains(LinkFlags::Up),
            running: header.flags.contains(LinkFlags::Running),
            loopback: header.flags.contains(LinkFlags::Loopback),
            alias: None,
            peer_index: None,
            controller: None,
            tunnel: None,
        };
        for attribute in attributes(answer.payload, HEADER_BYTES) {
            match attribute.kind {
                libc::IFLA_IFNAME => link.name = attribute.string(),
                libc::IFLA_ADDRESS => link.mac = attribute.mac(),
                libc::IFLA_MTU => link.mtu = attribute.u32().unwrap_or(0),
                libc::IFLA_IFALIAS => link.alias = Some(attribute.string()),
                libc::IFLA_LINK => link.peer_index = attribute.u32().filter(|index| *index != 0),
                libc::IFLA_MASTER => link.controller = attribute.u32(),
                libc::IFLA_LINKINFO => link.read_info(attribute.value),
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }

    fn read_info(&mut self, info: &[u8]) {
        let find = |kind| attributes(info, 0).find(|attribute| attribute.kind == kind);
        self.kind = find(libc::IFLA_INFO_KIND).map(|kind| kind.string());
        if let (Some(kind), Some(data)) = (&self.kind, find(libc::IFLA_INFO_DATA)) {
            self.tunnel = Tunnel::read(kind, data.value);
        }
    }
}

impl Socket {
    /// All interfaces of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let request = || {
            let mut message = LinkMessage::default();
            // Statistics make up most of an interface's description.
            message
                .attributes
                .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
            RouteNetlinkMessage::GetLink(message)
        };
        self.dump(request, "list interfaces", |answer| {
            (answer.kind == libc::RTM_NEWLINK)
                .then(|| Link::read(answer))
                .flatten()
        })
    }

    /// The interface of this name, if it exists.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let request = RouteNetlinkMessage::GetLink(message);
        match self.get(request, "look up interface", &name, Link::read) {
            Err(Error::NoDevice(_)) => Ok(None),
            other => other,
        }
    }

    /// Creates both ends of a veth pair in one step.
    ///
    /// [`Error::Exists`] when either name is taken in its namespace; then nothing was created.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> Result<(), Error> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(veth.peer_name.clone()),
            LinkAttribute::Mtu(veth.mtu),
        ];
        peer.attributes
            .extend(veth.peer_mac.map(|mac| LinkAttribute::Address(mac.into())));
        peer.attributes.extend(
            veth.peer_netns
                .map(|netns| LinkAttribute::NetNsFd(netns.as_raw_fd())),
        );

        let mut message = LinkMessage::default();
        if veth.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes = vec![
            LinkAttribute::IfName(veth.name.clone()),
            LinkAttribute::Address(veth.mac.into()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            "create veth",
            &format_args!("{} with peer {}", veth.name, veth.peer_name),
        )?;
        // The kernel ignores an alias given at creation.
        let Some(alias) = veth.alias.clone() else {
            return Ok(());
        };
        let change = LinkChange {
            alias: Some(alias),
            ..LinkChange::default()
        };
        self.change_link(0, Some(&veth.name), &change)
    }

    /// Changes an interface.
    pub fn set_link(&mut self, index: u32, change: &LinkChange) -> Result<(), Error> {
        self.change_link(index, None, change)
    }

    /// Deletes an interface; a veth takes its other end with it.
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.request(
            RouteNetlinkMessage::DelLink(message),
            0,
            "delete interface",
            &index,
        )
    }

    fn change_link(
        &mut self,
        index: u32,
        name: Option<&str>,
        change: &LinkChange,
    ) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = change.up {
            message.header.change_mask = LinkFlags::Up;
            if up {
                message.header.flags = LinkFlags::Up;
            }
        }
        let attributes = &mut message.attributes;
        // With an index the name is the new one, without an index it selects the interface.
        let new_name = name.map(str::to_owned).or_else(|| change.name.clone());
        attributes.extend(new_name.map(LinkAttribute::IfName));
        attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.into())));
        attributes.extend(change.alias.clone().map(LinkAttribute::IfAlias));
        attributes.extend(change.address_generation.map(|mode| {
            let mode = match mode {
                AddressGeneration::Eui64 => In6AddrGenMode::Eui64,
                AddressGeneration::None => In6AddrGenMode::None,
            };
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
                mode,
            )])])
        }));
        let object = match name {
            Some(name) => name.to_owned(),
            None => format!("index {index}"),
        };
        self.request(
            RouteNetlinkMessage::SetLink(message),
            0,
            "change interface",
            &object,
        )
    }
}
