//! The control packet (RFC 5880 §4.1) and the checks that need no session (§6.8.6).

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

/// Octets of a control packet without authentication, the only kind that is sent.
pub const LEN: usize = 24;

const VERSION: u8 = 1;

/// State of a session (RFC 5880 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Held down by an operator.
    AdminDown,
    /// The neighbour is not heard, or does not hear us.
    Down,
    /// The neighbour is heard and does not hear us yet.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }

    fn bits(self) -> u8 {
        match self {
            State::AdminDown => 0,
            State::Down => 1,
            State::Init => 2,
            State::Up => 3,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        })
    }
}

/// Why a session left the state Up (RFC 5880 §4.1): 5 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// Nothing happened yet.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// The neighbour was silent for the detection time.
    pub const TIME_EXPIRED: Diagnostic = Diagnostic(1);
    /// The neighbour said that it does not hear us.
    pub const NEIGHBOR_DOWN: Diagnostic = Diagnostic(3);
    /// The path is known to be down.
    pub const PATH_DOWN: Diagnostic = Diagnostic(5);
    /// An operator took the session down.
    pub const ADMINISTRATIVE: Diagnostic = Diagnostic(7);

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            other => return write!(f, "Diagnostic {other}"),
        };
        f.write_str(name)
    }
}

/// A control packet. Intervals are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's session last left the state Up.
    pub diagnostic: Diagnostic,
    /// State of the sender's session.
    pub state: State,
    /// The sender wants an answer.
    pub poll: bool,
    /// This is the answer.
    pub is_final: bool,
    /// The sender's packets do not depend on its control plane (RFC 5882 §4.3).
    pub control_plane_independent: bool,
    /// The sender wants no periodic packets while both are Up.
    pub demand: bool,
    /// Packets in a row that may be missing.
    pub multiplier: NonZeroU8,
    /// The sender's name for the session.
    pub my_discriminator: NonZeroU32,
    /// Our name for the session, as far as the sender knows it.
    pub your_discriminator: Option<NonZeroU32>,
    /// Shortest interval at which the sender would like to send.
    pub desired_min_tx: u32,
    /// Shortest interval between packets that the sender can take; 0: it wants none.
    pub required_min_rx: u32,
    /// The same for echo packets; 0: it takes none.
    pub required_min_echo_rx: u32,
}

/// Why octets are no control packet that may be used (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than the shortest control packet, or than it says to be.
    Truncated,
    /// Of another version.
    Version(u8),
    /// Its length field cannot be.
    Length(u8),
    /// The multiplier is zero.
    Multiplier,
    /// The Multipoint bit is set.
    Multipoint,
    /// It has authentication, which no session here uses.
    Authenticated,
    /// The sender's discriminator is zero.
    MyDiscriminator,
    /// Our discriminator is zero in a state in which the sender must know it.
    YourDiscriminator,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Truncated => f.write_str("truncated"),
            Malformed::Version(version) => write!(f, "version {version} instead of 1"),
            Malformed::Length(length) => write!(f, "length field {length}"),
            Malformed::Multiplier => f.write_str("detection multiplier 0"),
            Malformed::Multipoint => f.write_str("Multipoint bit set"),
            Malformed::Authenticated => f.write_str("authentication is not supported"),
            Malformed::MyDiscriminator => f.write_str("My Discriminator 0"),
            Malformed::YourDiscriminator => f.write_str("Your Discriminator 0 in Init or Up"),
        }
    }
}

impl std::error::Error for Malformed {}

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

impl Packet {
    /// Reads a UDP payload. Octets after the packet are ignored, as its length field says.
    ///
    /// # Errors
    /// A packet that RFC 5880 §6.8.6 has dropped.
    pub fn decode(octets: &[u8]) -> Result<Packet, Malformed> {
        let packet: &[u8; LEN] = octets.first_chunk().ok_or(Malformed::Truncated)?;
        let version = packet[0] >> 5;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let (flags, length) = (packet[1], packet[3]);
        let least = if flags & AUTHENTICATION == 0 { 24 } else { 26 };
        if length < least {
            return Err(Malformed::Length(length));
        }
        if usize::from(length) > octets.len() {
            return Err(Malformed::Truncated);
        }
        let multiplier = NonZeroU8::new(packet[2]).ok_or(Malformed::Multiplier)?;
        if flags & MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        let my_discriminator =
            NonZeroU32::new(word(packet, 4)).ok_or(Malformed::MyDiscriminator)?;
        let your_discriminator = NonZeroU32::new(word(packet, 8));
        let state = State::from_bits(flags >> 6);
        match state {
            State::Init | State::Up if your_discriminator.is_none() => {
                return Err(Malformed::YourDiscriminator);
            }
            State::AdminDown | State::Down | State::Init | State::Up => {}
        }
        if flags & AUTHENTICATION != 0 {
            return Err(Malformed::Authenticated);
        }
        Ok(Packet {
            diagnostic: Diagnostic(packet[0] & 0x1f),
            state,
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            control_plane_independent: flags & INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: word(packet, 12),
            required_min_rx: word(packet, 16),
            required_min_echo_rx: word(packet, 20),
        })
    }

    /// The octets on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = self.state.bits() << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.control_plane_independent, INDEPENDENT)
            | flag(self.demand, DEMAND);
        let mut octets = [0; LEN];
        octets[..4].copy_from_slice(&[
            VERSION << 5 | self.diagnostic.0,
            flags,
            self.multiplier.get(),
            LEN as u8,
        ]);
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator.map_or(0, NonZeroU32::get),
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ];
        for (place, word) in octets[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }
}

fn word(packet: &[u8; LEN], at: usize) -> u32 {
    let octets = &packet[at..at + 4];
    octets
        .iter()
        .fold(0, |word, octet| word << 8 | u32::from(*octet))
}
