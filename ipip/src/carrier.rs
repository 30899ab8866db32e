//! Who moves the packets of a tunnel: the kernel, or a stand-in where the kernel cannot.

/// Who moves the packets of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// A device of the kernel's own kind.
    Kernel,
    /// This process, behind a TAP device.
    User,
}
