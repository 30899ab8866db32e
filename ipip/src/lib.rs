//! Tunnels between nodes, all kinds of them: IPIP, VXLAN, and a user-space stand-in for kernels
//! that have neither.

#![warn(missing_docs)]
