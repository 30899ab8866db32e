//! The IPIP device.

use netlink::{Link, Tunnel as Settings};

/// Whether the device has other ends or a source of its own, so that it cannot reach all nodes.
///
/// The one that comes with the kernel's module has neither and cannot be given any.
pub(crate) fn must_be_new(link: &Link) -> bool {
    match link.tunnel {
        Some(Settings::Ipip(settings)) => settings != netlink::Ipip::default(),
        Some(Settings::Vxlan(_)) | None => false,
    }
}
