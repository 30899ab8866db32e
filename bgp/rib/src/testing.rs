//! What the unit tests of several modules need: a RIB, sessions, updates, and a peer that listens.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bgp_wire::{
    AsPath, Attributes, AttributesBuilder, Family, FamilyParams, Message, NextHop, Nlri, Params,
    PeerType, Prefix, Reach, Unreach, Update, decode, header,
};

use crate::{PeerId, PeerKind, PeerSession, Policy, Rib, RibConfig};

pub(crate) const OWN_AS: u32 = 64500;

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) fn config() -> RibConfig {
    RibConfig::new(OWN_AS, Ipv4Addr::new(192, 0, 2, 1), 1)
}

/// A session with peer `number` at 172.16.0.`number`, external ones in AS 64500 + `number`.
pub(crate) fn session(kind: PeerKind, number: u8) -> PeerSession {
    let external = kind.is_external();
    PeerSession {
        kind,
        remote_as: OWN_AS + if external { u32::from(number) } else { 0 },
        remote_router_id: Ipv4Addr::new(172, 16, 0, number),
        remote_addr: IpAddr::from([172, 16, 0, number]),
        local_v4: Some(Ipv4Addr::new(172, 16, 0, 100)),
        link: None,
        local_v6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 100)),
        params: Params {
            four_octet_as: true,
            peer_type: if external {
                PeerType::External
            } else {
                PeerType::Internal
            },
            families: vec![
                FamilyParams::plain(Family::IPV4_UNICAST),
                FamilyParams::plain(Family::IPV6_UNICAST),
            ],
            ..Params::default()
        },
        shared_subnets: [].into(),
        next_hop: crate::NextHopMode::Default,
        max_prefixes: None,
        long_lived_offered: true,
        long_lived: Default::default(),
        add_path_limit: None,
        local_as: None,
        enforce_first_as: false,
        role: None,
        graceful_shutdown: false,
        require_policy: false,
        allow_own_as: 0,
        prepend: 0,
        import: Arc::new(Policy::accept_all()),
        export: Arc::new(Policy::accept_all()),
    }
}

/// Attributes with this AS path, to be changed.
pub(crate) fn fields(asns: &[u32]) -> AttributesBuilder {
    AttributesBuilder {
        as_path: AsPath::sequence(asns),
        ..AttributesBuilder::default()
    }
}

pub(crate) fn announce(texts: &[&str], fields: &AttributesBuilder, via: &str) -> Update {
    let nlri: Vec<Nlri> = texts.iter().map(|text| prefix(text).into()).collect();
    Update {
        reach: vec![Reach {
            family: nlri[0].prefix.family(),
            next_hop: NextHop::from(via.parse::<IpAddr>().unwrap()),
            nlri,
        }],
        attributes: Some(Arc::new(fields.build().unwrap())),
        ..Update::default()
    }
}

pub(crate) fn withdraw(texts: &[&str]) -> Update {
    let nlri: Vec<Nlri> = texts.iter().map(|text| prefix(text).into()).collect();
    Update {
        unreach: vec![Unreach {
            family: nlri[0].prefix.family(),
            nlri,
        }],
        ..Update::default()
    }
}

/// A peer that applies what it is sent.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) held: BTreeMap<Prefix, (IpAddr, Attributes)>,
    /// The next hop of each path, by prefix and path identifier.
    pub(crate) paths: BTreeMap<Nlri, IpAddr>,
    /// Every message in the order received.
    pub(crate) messages: Vec<Message>,
}

impl Listener {
    /// Takes everything there is for the peer; returns the number of messages.
    pub(crate) fn listen(&mut self, rib: &mut Rib, peer: PeerId) -> usize {
        let before = self.messages.len();
        while rib.has_pending(peer) {
            self.read_some(rib, peer, 4096);
        }
        self.messages.len() - before
    }

    /// Takes about this many octets.
    pub(crate) fn read_some(&mut self, rib: &mut Rib, peer: PeerId, octets: usize) {
        let mut params = rib.shared.peer(peer).unwrap().session.params.clone();
        for family in &mut params.families {
            std::mem::swap(&mut family.add_path_send, &mut family.add_path_receive);
        }
        for bytes in rib.next_messages(peer, octets) {
            self.read(&bytes, &params);
        }
    }

    fn read(&mut self, mut bytes: &[u8], params: &Params) {
        while !bytes.is_empty() {
            let length = header::frame(bytes, params.max_message_len()).unwrap();
            let (message, rest) = bytes.split_at(length.unwrap());
            let message = decode(message, params).unwrap();
            if let Message::Update(update) = &message {
                self.apply(update);
            }
            self.messages.push(message);
            bytes = rest;
        }
    }

    fn apply(&mut self, update: &Update) {
        assert!(update.verdicts.is_empty(), "{:?}", update.verdicts);
        for route in update.unreach.iter().flat_map(|unreach| &unreach.nlri) {
            self.held.remove(&route.prefix);
            self.paths.remove(route);
        }
        for reach in &update.reach {
            for route in &reach.nlri {
                let attributes = update.attributes.as_ref().unwrap().as_ref().clone();
                let told = (reach.next_hop.addr(), attributes);
                self.held.insert(route.prefix, told);
                self.paths.insert(*route, reach.next_hop.addr());
            }
        }
    }

    pub(crate) fn prefixes(&self) -> Vec<String> {
        self.held.keys().map(Prefix::to_string).collect()
    }
}

/// Everything a peer of this kind and number is told about one prefix, if anything.
pub(crate) fn told(
    rib: &mut Rib,
    session: PeerSession,
    text: &str,
) -> Option<(IpAddr, AttributesBuilder)> {
    let peer = PeerId(99);
    rib.peer_up(peer, session);
    let mut listener = Listener::default();
    listener.listen(rib, peer);
    rib.peer_down(peer, &[]);
    let (next_hop, attributes) = listener.held.remove(&prefix(text))?;
    Some((next_hop, attributes.to_builder()))
}
