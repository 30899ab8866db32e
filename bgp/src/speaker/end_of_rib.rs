//! End-of-RIB marks of a speaker that has restarted.
//!
//! The mark tells a peer to drop what we have not repeated (RFC 4724 §4.2), so it must not go out
//! before we have heard our own peers. Everything else is told at once: routes that nobody waits
//! for need no deferral, and holding all of them back would hide this node from peers without
//! graceful restart.

use bgp_wire::{Family, Message, Params, Update, header};
use bytes::{Bytes, BytesMut};

/// Marks taken out of what a peer is sent.
#[derive(Debug, Default)]
pub(super) struct Held(Vec<Family>);

impl Held {
    /// Takes the marks out of encoded messages, copying nothing.
    pub(super) fn hold(&mut self, pieces: Vec<Bytes>) -> Vec<Bytes> {
        let marks = [Family::IPV4_UNICAST, Family::IPV6_UNICAST].map(|f| (f, mark(f)));
        let mut kept = Vec::with_capacity(pieces.len());
        for mut piece in pieces {
            let mut at = 0;
            while let Some(octets) = message_len(&piece[at..]) {
                let message = &piece[at..at + octets];
                let Some((family, _)) = marks.iter().find(|(_, mark)| message == mark) else {
                    at += octets;
                    continue;
                };
                self.0.push(*family);
                kept.push(piece.split_to(at));
                let _mark = piece.split_to(octets);
                at = 0;
            }
            kept.push(piece);
        }
        kept.retain(|piece| !piece.is_empty());
        kept
    }

    /// The marks that were taken out, to be sent now.
    pub(super) fn release(&mut self) -> Vec<Bytes> {
        self.0.drain(..).map(mark).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn mark(family: Family) -> Bytes {
    let mut bytes = BytesMut::new();
    let message = Message::Update(Update::end_of_rib(family));
    match message.encode(&Params::default(), &mut bytes) {
        Ok(()) => bytes.freeze(),
        // No attribute, no route: there is nothing in it that could fail.
        Err(_) => Bytes::new(),
    }
}

/// Length of the message at the start of encoded messages, none at their end.
fn message_len(bytes: &[u8]) -> Option<usize> {
    let octets = header::frame(bytes, header::MAX_EXTENDED_LEN).ok()??;
    (octets <= bytes.len()).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_out_and_everything_else_stays_in_order() {
        let keepalive = Bytes::from_static(&header::KEEPALIVE);
        let [v4, v6] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST].map(mark);
        let together = [&keepalive[..], &v4, &keepalive, &keepalive, &v6].concat();
        let mut held = Held::default();
        let kept = held.hold(vec![v6.clone(), together.into(), keepalive.clone()]);
        assert_eq!(keepalive.repeat(4), kept.concat());
        assert_eq!(vec![v6.clone(), v4, v6], held.release());
        assert!(held.is_empty());
    }
}
