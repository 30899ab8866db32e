//! Who moves the packets of a tunnel: the kernel, or a stand-in where the kernel cannot.

use std::fmt;

use crate::{Problem, Tunnel};

/// Who moves the packets of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// A device of the kernel's own kind.
    Kernel,
    /// This process, behind a TUN device.
    User,
}

/// A tunnel in user space that runs. Dropped, it ends and its device is gone.
///
/// It makes a device of kind `tun` with the tunnel's name; the device's MTU, state and address are
/// set by [`crate::Device`], as those of the kernel's devices are.
pub trait UserTunnel: fmt::Debug + Send {
    /// Follows what the tunnel shall be like now: source, port, other ends.
    ///
    /// # Errors
    /// What cannot be followed; the tunnel goes on as before, or is restarted by the caller when
    /// [`UserTunnel::is_running`] says so.
    fn update(&mut self, tunnel: &Tunnel) -> Result<(), Problem>;

    /// Whether it still moves packets.
    fn is_running(&self) -> bool;
}

/// Starts a tunnel in user space, in the network namespace of the calling thread.
pub type StartUserTunnel = fn(&Tunnel) -> Result<Box<dyn UserTunnel>, Problem>;
