//! VXLAN devices in the real kernel, judged with `ip -j`, `bridge -j` and ping.
//! Each test makes its own network namespaces. IPIP is in `tests/ipip_kernel.rs`, for kernels that
//! have it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests are tests too"
)]

mod device;
mod lab;
mod traffic;
