//! Capabilities: what an OPEN offers (RFC 5492).
//!
//! A capability that is unknown, or whose value has not the shape its RFC gives it, is kept as
//! [`Capability::Unknown`] and thereby ignored: an offer we cannot read is an offer we do not take.
//! The one exception is the 4-octet AS number, without which the peer's identity is not known.

use crate::family::{Afi, Family};
use crate::reader::Reader;
use crate::{EncodeError, Error};

/// One offer of an OPEN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Routes of this family (RFC 4760).
    MultiProtocol(Family),
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
    /// IPv4 routes with IPv6 next hops (RFC 8950): family of the routes, address family of the next hop.
    ExtendedNextHop(Vec<(Family, Afi)>),
    /// Messages above 4,096 octets (RFC 8654).
    ExtendedMessage,
    /// Role of the sender towards the receiver (RFC 9234).
    Role(Role),
    /// Graceful restart (RFC 4724).
    GracefulRestart(GracefulRestart),
    /// 4-octet AS numbers, and the sender's (RFC 6793).
    FourOctetAs(u32),
    /// Several paths per prefix (RFC 7911).
    AddPath(Vec<(Family, AddPathMode)>),
    /// Demarcated route refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// Long-lived graceful restart (RFC 9494).
    LongLivedGracefulRestart(Vec<LongLivedFamily>),
    /// Anything else, byte for byte.
    Unknown {
        /// Capability code.
        code: u8,
        /// Capability value.
        data: Vec<u8>,
    },
}

/// The graceful restart capability (RFC 4724 §3, RFC 8538 §2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GracefulRestart {
    /// R bit: the sender has just restarted; do not wait for its End-of-RIB before sending yours.
    pub restarting: bool,
    /// N bit: routes survive a NOTIFICATION too (RFC 8538).
    pub notification: bool,
    /// How long the sender expects to be away, in seconds, 0 to 4,095.
    pub time_secs: u16,
    /// Families, each with the F bit: forwarding state was kept over the restart.
    pub families: Vec<(Family, bool)>,
}

/// One family of the long-lived graceful restart capability (RFC 9494 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LongLivedFamily {
    /// The family.
    pub family: Family,
    /// F bit: forwarding state was kept over the restart.
    pub forwarding: bool,
    /// How long stale routes may be used, in seconds, 24 bits.
    pub stale_secs: u32,
}

/// What the sender of an ADD-PATH capability can do (RFC 7911 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddPathMode {
    /// It can receive several paths.
    Receive,
    /// It can send several paths.
    Send,
    /// Both.
    Both,
}

impl AddPathMode {
    /// The sender can receive several paths.
    pub fn receives(self) -> bool {
        matches!(self, AddPathMode::Receive | AddPathMode::Both)
    }

    /// The sender can send several paths.
    pub fn sends(self) -> bool {
        matches!(self, AddPathMode::Send | AddPathMode::Both)
    }
}

/// What the sender is to the receiver (RFC 9234 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Transit provider.
    Provider,
    /// Route server.
    RouteServer,
    /// Client of a route server.
    RouteServerClient,
    /// Customer.
    Customer,
    /// Lateral peer.
    Peer,
}

/// Capability codes, as IANA numbers them.
mod code {
    pub(super) const MULTI_PROTOCOL: u8 = 1;
    pub(super) const ROUTE_REFRESH: u8 = 2;
    pub(super) const EXTENDED_NEXT_HOP: u8 = 5;
    pub(super) const EXTENDED_MESSAGE: u8 = 6;
    pub(super) const ROLE: u8 = 9;
    pub(super) const GRACEFUL_RESTART: u8 = 64;
    pub(super) const FOUR_OCTET_AS: u8 = 65;
    pub(super) const ADD_PATH: u8 = 69;
    pub(super) const ENHANCED_ROUTE_REFRESH: u8 = 70;
    pub(super) const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
}

impl Capability {
    /// Capability code.
    pub fn code(&self) -> u8 {
        match self {
            Capability::MultiProtocol(_) => code::MULTI_PROTOCOL,
            Capability::RouteRefresh => code::ROUTE_REFRESH,
            Capability::ExtendedNextHop(_) => code::EXTENDED_NEXT_HOP,
            Capability::ExtendedMessage => code::EXTENDED_MESSAGE,
            Capability::Role(_) => code::ROLE,
            Capability::GracefulRestart(_) => code::GRACEFUL_RESTART,
            Capability::FourOctetAs(_) => code::FOUR_OCTET_AS,
            Capability::AddPath(_) => code::ADD_PATH,
            Capability::EnhancedRouteRefresh => code::ENHANCED_ROUTE_REFRESH,
            Capability::LongLivedGracefulRestart(_) => code::LONG_LIVED_GRACEFUL_RESTART,
            Capability::Unknown { code, .. } => *code,
        }
    }

    /// Reads the value of one Capabilities parameter.
    pub(crate) fn decode_all(value: &[u8], into: &mut Vec<Capability>) -> Result<(), Error> {
        let mut reader = Reader::new(value);
        while !reader.is_empty() {
            let header = reader.u8().zip(reader.u8());
            let Some((code, data)) =
                header.and_then(|(code, len)| Some((code, reader.take(len.into())?)))
            else {
                let problem = "a capability is longer than its optional parameter";
                return Err(Error::MalformedOpen { problem });
            };
            if code == code::FOUR_OCTET_AS && data.len() != 4 {
                let problem = "the 4-octet AS capability has not four octets";
                return Err(Error::MalformedOpen { problem });
            }
            into.push(
                Capability::decode(code, data).unwrap_or_else(|| Capability::Unknown {
                    code,
                    data: data.to_vec(),
                }),
            );
        }
        Ok(())
    }

    /// `None` for an unknown code or a value of the wrong shape.
    fn decode(code: u8, data: &[u8]) -> Option<Capability> {
        let mut reader = Reader::new(data);
        let capability = match code {
            code::MULTI_PROTOCOL => {
                let [afi, afi_low, _reserved, safi] = reader.array()?;
                Capability::MultiProtocol(Family::new(u16::from_be_bytes([afi, afi_low]), safi))
            }
            code::ROUTE_REFRESH => Capability::RouteRefresh,
            code::EXTENDED_NEXT_HOP => {
                Capability::ExtendedNextHop(list(&mut reader, |[a, b, c, d, e, f]| {
                    // The SAFI has two octets here and one everywhere else.
                    let safi = u8::try_from(u16::from_be_bytes([c, d])).ok()?;
                    let family = Family::new(u16::from_be_bytes([a, b]), safi);
                    Some((family, Afi(u16::from_be_bytes([e, f]))))
                })?)
            }
            code::EXTENDED_MESSAGE => Capability::ExtendedMessage,
            code::ROLE => Capability::Role(Role::from_octet(reader.u8()?)?),
            code::GRACEFUL_RESTART => {
                let first = reader.u16()?;
                Capability::GracefulRestart(GracefulRestart {
                    restarting: first & 0x8000 != 0,
                    notification: first & 0x4000 != 0,
                    time_secs: first & 0x0fff,
                    families: list(&mut reader, |[a, b, safi, flags]| {
                        Some((
                            Family::new(u16::from_be_bytes([a, b]), safi),
                            flags & 0x80 != 0,
                        ))
                    })?,
                })
            }
            code::FOUR_OCTET_AS => Capability::FourOctetAs(reader.u32()?),
            code::ADD_PATH => Capability::AddPath(list(&mut reader, |[a, b, safi, mode]| {
                let family = Family::new(u16::from_be_bytes([a, b]), safi);
                Some((family, AddPathMode::from_octet(mode)?))
            })?),
            code::ENHANCED_ROUTE_REFRESH => Capability::EnhancedRouteRefresh,
            code::LONG_LIVED_GRACEFUL_RESTART => Capability::LongLivedGracefulRestart(list(
                &mut reader,
                |[a, b, safi, flags, x, y, z]| {
                    Some(LongLivedFamily {
                        family: Family::new(u16::from_be_bytes([a, b]), safi),
                        forwarding: flags & 0x80 != 0,
                        stale_secs: u32::from_be_bytes([0, x, y, z]),
                    })
                },
            )?),
            _ => return None,
        };
        reader.is_empty().then_some(capability)
    }

    /// Appends code, length and value.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&[self.code(), 0]);
        let at = out.len();
        self.encode_value(out);
        out[at - 1] = u8::try_from(out.len() - at).map_err(|_| EncodeError::CapabilitiesTooLong)?;
        Ok(())
    }

    fn encode_value(&self, out: &mut Vec<u8>) {
        match self {
            Capability::RouteRefresh
            | Capability::ExtendedMessage
            | Capability::EnhancedRouteRefresh => {}
            Capability::MultiProtocol(family) => {
                out.extend_from_slice(&family.afi.0.to_be_bytes());
                out.extend_from_slice(&[0, family.safi.0]);
            }
            Capability::ExtendedNextHop(entries) => {
                for (family, next_hop) in entries {
                    for number in [family.afi.0, family.safi.0.into(), next_hop.0] {
                        out.extend_from_slice(&number.to_be_bytes());
                    }
                }
            }
            Capability::Role(role) => out.push(role.octet()),
            Capability::GracefulRestart(restart) => {
                let flags =
                    u16::from(restart.restarting) << 15 | u16::from(restart.notification) << 14;
                out.extend_from_slice(&(flags | restart.time_secs.min(0x0fff)).to_be_bytes());
                for (family, forwarding) in &restart.families {
                    put_family(*family, &[u8::from(*forwarding) << 7], out);
                }
            }
            Capability::FourOctetAs(asn) => out.extend_from_slice(&asn.to_be_bytes()),
            Capability::AddPath(entries) => {
                for (family, mode) in entries {
                    put_family(*family, &[mode.octet()], out);
                }
            }
            Capability::LongLivedGracefulRestart(families) => {
                for entry in families {
                    let [_, x, y, z] = entry.stale_secs.min(0x00ff_ffff).to_be_bytes();
                    put_family(
                        entry.family,
                        &[u8::from(entry.forwarding) << 7, x, y, z],
                        out,
                    );
                }
            }
            Capability::Unknown { data, .. } => out.extend_from_slice(data),
        }
    }
}

/// Reads entries of `N` octets to the end; `None` when one is cut off or has no meaning.
fn list<const N: usize, T>(
    reader: &mut Reader<'_>,
    mut entry: impl FnMut([u8; N]) -> Option<T>,
) -> Option<Vec<T>> {
    let mut entries = Vec::with_capacity(reader.rest().len() / N);
    while !reader.is_empty() {
        entries.push(entry(reader.array()?)?);
    }
    Some(entries)
}

fn put_family(family: Family, then: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&family.afi.0.to_be_bytes());
    out.push(family.safi.0);
    out.extend_from_slice(then);
}

impl AddPathMode {
    fn from_octet(octet: u8) -> Option<AddPathMode> {
        match octet {
            1 => Some(AddPathMode::Receive),
            2 => Some(AddPathMode::Send),
            3 => Some(AddPathMode::Both),
            _ => None,
        }
    }

    fn octet(self) -> u8 {
        match self {
            AddPathMode::Receive => 1,
            AddPathMode::Send => 2,
            AddPathMode::Both => 3,
        }
    }
}

impl Role {
    fn from_octet(octet: u8) -> Option<Role> {
        match octet {
            0 => Some(Role::Provider),
            1 => Some(Role::RouteServer),
            2 => Some(Role::RouteServerClient),
            3 => Some(Role::Customer),
            4 => Some(Role::Peer),
            _ => None,
        }
    }

    fn octet(self) -> u8 {
        match self {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
        }
    }
}
