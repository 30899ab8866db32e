//! Whether enough peers are up for a node to be of use.
//!
//! Only peers that were up since the agent started count: one that is dead must not keep the agent
//! of a node from being replaced. Of those at least half must be up. Who has been down for long
//! counts no more while anybody else is up, as then it is not this node that is cut off.

use std::collections::BTreeMap;
use std::time::Duration;

use bgp::{PeerInfo, PeerKey, State};
use tokio::time::Instant;

/// After this time a peer that is down is not expected back soon.
const LONG: Duration = Duration::from_secs(600);

/// Peers that were up, and since when they are down.
#[derive(Clone, Debug, Default)]
pub struct Quorum {
    down_since: BTreeMap<PeerKey, Option<Instant>>,
}

/// Too few peers are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Peers that are up.
    pub up: usize,
    /// Peers that count.
    pub of: usize,
}

impl Quorum {
    /// A peer is in this state now. One whose routes are kept while it restarts is as good as up.
    pub(super) fn saw(&mut self, info: &PeerInfo, now: Instant) {
        let restarts = !info.stale.is_empty() && info.long_lived.is_empty();
        self.note(&info.key, info.state == State::Established || restarts, now);
    }

    pub(crate) fn note(&mut self, key: &PeerKey, up: bool, now: Instant) {
        if up {
            self.down_since.insert(key.clone(), None);
        } else if let Some(since) = self.down_since.get_mut(key) {
            since.get_or_insert(now);
        }
    }

    /// A peer is not configured any more.
    pub(super) fn gone(&mut self, key: &PeerKey) {
        self.down_since.remove(key);
    }

    /// Whether too few are up.
    pub fn lacks(&self, now: Instant) -> Option<Lack> {
        let up = self
            .down_since
            .values()
            .filter(|since| since.is_none())
            .count();
        let expected = |since: &&Option<Instant>| match since {
            None => true,
            Some(since) => up == 0 || now.saturating_duration_since(*since) < LONG,
        };
        let of = self.down_since.values().filter(expected).count();
        (2 * up < of).then_some(Lack { up, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        quorum: Quorum,
        now: Instant,
    }

    impl Lab {
        fn new(up: &[&str]) -> Lab {
            let mut lab = Lab {
                quorum: Quorum::default(),
                now: Instant::now(),
            };
            up.iter().for_each(|peer| lab.note(peer, true));
            lab
        }

        fn note(&mut self, peer: &str, up: bool) {
            self.quorum.note(&peer.into(), up, self.now);
        }

        fn lacks(&self) -> Option<(usize, usize)> {
            self.quorum.lacks(self.now).map(|lack| (lack.up, lack.of))
        }
    }

    #[test]
    fn half_of_those_that_were_up_are_enough() {
        let mut lab = Lab::new(&["a", "b", "c", "d"]);
        lab.note("a", false);
        lab.note("b", false);
        assert_eq!(lab.lacks(), None);
        lab.note("c", false);
        assert_eq!(lab.lacks(), Some((1, 4)));
        lab.note("a", true);
        assert_eq!(lab.lacks(), None);
    }

    #[test]
    fn who_was_never_up_or_is_configured_no_more_does_not_count() {
        let mut lab = Lab::new(&[]);
        assert_eq!(lab.lacks(), None, "a node without peers");
        lab.note("dead", false);
        assert_eq!(
            lab.lacks(),
            None,
            "an agent that was replaced beside a dead node"
        );
        lab.note("a", true);
        lab.note("a", false);
        assert_eq!(lab.lacks(), Some((0, 1)));
        lab.quorum.gone(&"a".into());
        assert_eq!(lab.lacks(), None);
    }

    #[test]
    fn the_long_dead_are_forgotten_by_a_node_that_is_not_alone() {
        let mut lab = Lab::new(&["a", "b", "c"]);
        lab.note("b", false);
        lab.note("c", false);
        assert_eq!(lab.lacks(), Some((1, 3)));
        lab.now += LONG;
        assert_eq!(lab.lacks(), None);
        lab.note("a", false);
        lab.now += LONG;
        assert_eq!(lab.lacks(), Some((0, 3)), "cut off, however long");
    }
}
