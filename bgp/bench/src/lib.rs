//! BGP load tester, and the daemons that it compares: our speaker beside BIRD, FRR and GoBGP.
//!
//! Every client is a BGP session of its own from an address of its own; what it is told is
//! judged prefix by prefix, next hop included, while it arrives. No code of the speaker is in
//! here. Nothing leaves the machine and nothing stays behind: see [`link`].

pub mod daemon;
pub mod feed;
pub mod figures;
pub mod growth;
pub mod link;
pub mod machine;
pub mod process;
pub mod relay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod session;
pub mod svg;
pub mod table;
pub mod tester;
pub mod universe;
pub mod wire;
