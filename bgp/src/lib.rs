//! The BGP speaker: peers, sockets and routes of one node, in tokio tasks.
//!
//! Give [`Speaker::start`] what shall be ([`Desired`]) and listen to what becomes of it
//! ([`Event`]). The speaker knows nothing of Kubernetes and writes no kernel routes: it says
//! which next hops a learned prefix has, and somebody else installs them.
//!
//! One task per peer turns bytes into messages and drives the state machine of `bgp-fsm`; one
//! thread owns the routes of `bgp-rib` and everything that peers share. What flows between them is
//! bounded everywhere: a task that cannot pass on what it read stops reading, and what a slow
//! peer has not taken yet stays in the RIB, where each prefix counts once.
//!
//! RFC 4271, 4456, 4724, 4760, 5082 (GTSM), 5882 (BFD), 7606, 9003, 9384, 9687; the parts say
//! which sections.

mod answer;
mod config;
mod detection;
mod discovery;
mod event;
mod handle;
pub mod http;
mod listener;
pub mod metrics;
mod session;
mod socket;
mod speaker;

pub use bfd::State as BfdState;
pub use bgp_api as api;
pub use bgp_fsm::{PeerRestart, State};
pub use bgp_rib::{
    Change, CommunityMatch, Match, NextHopMode, PeerCounts, PeerScope, Policy, PrefixSet,
    Reachability, Rule, Source, Verdict,
};
pub use bgp_wire::capability::{AddPathMode, LongLivedFamily, Role};
pub use bgp_wire::{Capability, Family, FamilyParams, Params, Prefix};
pub use config::{
    Bfd, Desired, DynamicPeers, Local, MaxPrefixes, MaxPrefixesAction, Options, Originate, PORT,
    Password, PeerConfig, PeerKey, Ttl,
};
pub use event::{BfdInfo, Event, NextHop, PeerInfo, SessionInfo, Shutdown, SpeakerInfo};
pub use handle::{Clear, Handle, Speaker, Unanswered};
