//! The header that a TAP device puts before every frame when asked for offloads
//! (`IFF_VNET_HDR`; struct virtio_net_hdr, VIRTIO 1.2 §5.1.6): what is left to do for the frame.

/// Its length.
pub(crate) const VNET: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const TCP_IPV4: u8 = 1;
const TCP_IPV6: u8 = 4;
const UDP_L4: u8 = 5;
const CONGESTION_WINDOW_REDUCED: u8 = 0x80;

/// What a frame stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    /// One packet.
    None,
    /// A TCP stream's piece, to be cut into segments.
    Tcp,
    /// UDP datagrams of one size, to be cut apart.
    Udp,
}

/// The header, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vnet {
    pub(crate) offload: Offload,
    /// Payload of each packet, of the last one at most; 0 without offload.
    pub(crate) size: usize,
    /// Where summing starts and where the sum belongs, from the start of the frame.
    /// The place of the sum holds that of the pseudo header already.
    pub(crate) checksum: Option<(usize, usize)>,
}

impl Vnet {
    /// Nothing for an offload that this end never offered.
    pub(crate) fn parse(bytes: &[u8; VNET]) -> Option<Vnet> {
        let word = |at: usize| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let offload = match bytes[1] & !CONGESTION_WINDOW_REDUCED {
            0 => Offload::None,
            TCP_IPV4 | TCP_IPV6 => Offload::Tcp,
            UDP_L4 => Offload::Udp,
            _ => return None,
        };
        let size = word(4);
        if offload != Offload::None && size == 0 {
            return None;
        }
        let start = word(6);
        let checksum = (bytes[0] & NEEDS_CHECKSUM != 0).then_some((start, start + word(8)));
        Some(Vnet {
            offload,
            size,
            checksum,
        })
    }

    /// The header for a frame whose IP headers take `network` bytes and whose headers take
    /// `headers` bytes in all, Ethernet included.
    pub(crate) fn write(&self, headers: usize, v6: bool) -> [u8; VNET] {
        let mut bytes = [0; VNET];
        let mut word = |at: usize, value: usize| {
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        };
        if let Some((start, place)) = self.checksum {
            word(6, start);
            word(8, place - start);
        }
        if self.offload != Offload::None {
            word(2, headers);
            word(4, self.size);
        }
        bytes[0] = u8::from(self.checksum.is_some()) * NEEDS_CHECKSUM;
        bytes[1] = match (self.offload, v6) {
            (Offload::None, _) => 0,
            (Offload::Tcp, false) => TCP_IPV4,
            (Offload::Tcp, true) => TCP_IPV6,
            (Offload::Udp, _) => UDP_L4,
        };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (offload, size) in [(Offload::None, 0), (Offload::Tcp, 1400), (Offload::Udp, 64)] {
            let vnet = Vnet {
                offload,
                size,
                checksum: Some((34, 50)),
            };
            assert_eq!(Vnet::parse(&vnet.write(54, false)), Some(vnet));
        }
    }

    #[test]
    fn unknown_offloads_are_refused() {
        let mut bytes = [0; VNET];
        bytes[1] = 3;
        assert_eq!(Vnet::parse(&bytes), None);
        bytes[1] = TCP_IPV4;
        assert_eq!(Vnet::parse(&bytes), None, "segments of no size");
    }
}
