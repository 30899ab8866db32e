//! The lab: nodes in network namespaces, real agents, a real BIRD, counted packets.
//!
//! Everything here judges from outside. It starts the installed binaries and
//! reads the kernel with `ip -j`, BIRD with `birdc` and the network with sockets;
//! it links no product crate.
//!
//! - [`lab`] builds namespaces and links, and removes them again.
//! - [`node`] is one node: a namespace that runs `tortie-felix`.
//! - [`pod`] is one pod: a namespace plugged by `tortie-cni`.
//! - [`bird`] is a router that runs BIRD.
//! - [`peer`] is a foreign speaker that does BFD: BIRD or FRR.
//! - [`router`] is a BGP router of any make, ours included, in one topology.
//! - [`speaker`] is the stand-alone `tortie-bgp`.
//! - [`traffic`] sends numbered packets and counts the lost ones.
//! - [`fabric`] is subnets around a router, and a host outside.
//! - [`far`] puts a node of the cluster behind the router.
//! - [`overlay`] is a cluster over a fabric: nodes in several subnets, pools with tunnels.
//! - [`capture`] is tcpdump on a link, [`raw`] sends packets that no kernel would.
//! - [`apiserver`] is a Kubernetes API server with its etcd.
//! - [`meter`] counts the bytes on the way to it.
//! - [`kubernetes`] is a whole cluster around one: nodes with containerd and kubelet, Helm, our chart.
//! - [`hand`] makes hosts, tunnels and pods with `ip` alone.
//! - [`wait`] waits until something holds, with a deadline.
//! - [`diagnostics`] collects what one needs to see after a failure.
//! - [`cluster`] puts these together: three nodes, a router, pools and pods.

pub mod agents;
pub mod apiserver;
pub mod bird;
pub mod capture;
pub mod cluster;
pub mod command;
pub mod diagnostics;
pub mod fabric;
pub mod far;
pub mod hand;
pub mod kubernetes;
pub mod lab;
pub mod meter;
pub mod node;
pub mod overlay;
pub mod peer;
pub mod pod;
pub mod process;
pub mod raw;
pub mod reflectors;
pub mod rights;
pub mod router;
pub mod speaker;
pub mod traffic;
pub mod wait;
