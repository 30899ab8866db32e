//! The Internet checksum (RFC 1071), summed in the machine's byte order: the result is the same
//! when it is stored as the machine stores it.

/// A sum that is not folded yet.
/// Pieces may be added in any order as long as each starts at an even offset of what it sums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// The start of a TCP or UDP sum: addresses, protocol and length (RFC 9293 §3.1, RFC 8200 §8.1).
    pub(crate) fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> Sum {
        let mut sum = Sum::default();
        sum.add(addresses);
        // A packet holds at most 65535 bytes, so that the upper half of the IPv6 length is zero.
        sum.add_word(length as u16);
        sum.add_word(u16::from(protocol));
        sum
    }

    pub(crate) fn add_word(&mut self, word: u16) {
        self.0 += u64::from(u16::from_ne_bytes(word.to_be_bytes()));
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // Eight sums side by side, which compilers turn into vector instructions.
        let mut lanes = [0_u64; 8];
        let mut blocks = bytes.chunks_exact(32);
        for block in &mut blocks {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        let mut total: u64 = lanes.iter().sum();
        let mut words = blocks.remainder().chunks_exact(2);
        for word in &mut words {
            total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            total += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        // A packet's worth of 32-bit words leaves the upper bits free for the next piece.
        self.0 += fold_to_32(total);
    }

    /// Folded to 16 bits, as the bytes to store.
    pub(crate) fn folded(self) -> [u8; 2] {
        let sum = fold_to_32(self.0);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        (sum as u16).to_ne_bytes()
    }

    /// The checksum: the complement, as the bytes to store.
    pub(crate) fn checksum(self) -> [u8; 2] {
        let [high, low] = self.folded();
        [!high, !low]
    }

    /// Whether the sum over data and checksum is that of undamaged data.
    pub(crate) fn is_good(self) -> bool {
        self.folded() == [0xff, 0xff]
    }
}

fn fold_to_32(sum: u64) -> u64 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    (sum & 0xffff_ffff) + (sum >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_the_book(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn example_of_rfc_1071() {
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), [0xdd, 0xf2]);
    }

    proptest! {
        #[test]
        fn equals_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cut in 0_usize..1000) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let mut sum = Sum::default();
            sum.add(&bytes[..cut]);
            sum.add(&bytes[cut..]);
            prop_assert_eq!(sum.checksum(), by_the_book(&bytes));
        }
    }
}
