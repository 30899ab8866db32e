//! Messages counted by type, NOTIFICATIONs by code.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bgp_api::MessageCounts;
use bgp_wire::{Notification, header};

/// Place of each message type (RFC 4271 §4.1), and of everything else at 0.
const TYPES: usize = 6;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// How often a NOTIFICATION with this direction, code and subcode was seen.
pub(crate) type Notifications = BTreeMap<(Direction, u8, u8), u64>;

/// What one peer's session counts since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    messages: [[AtomicU64; TYPES]; 2],
    notifications: Mutex<Notifications>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    messages: [[u64; TYPES]; 2],
    pub(crate) notifications: Notifications,
}

impl Counters {
    /// Counts one message whose header is whole.
    pub(crate) fn message(&self, direction: Direction, message: &[u8]) {
        let kind = message.get(18).copied().map_or(0, usize::from);
        let kind = if kind < TYPES { kind } else { 0 };
        self.messages[direction as usize][kind].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts all messages in `bytes`.
    pub(crate) fn messages(&self, direction: Direction, mut bytes: &[u8]) {
        while let Some(&[high, low]) = bytes.get(16..18) {
            self.message(direction, bytes);
            let octets = usize::from(u16::from_be_bytes([high, low])).max(header::LEN);
            bytes = bytes.get(octets..).unwrap_or_default();
        }
    }

    pub(crate) fn notification(&self, direction: Direction, notification: &Notification) {
        let key = (direction, notification.code, notification.subcode);
        let mut counts = self
            .notifications
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *counts.entry(key).or_default() += 1;
    }

    pub(crate) fn read(&self) -> Counted {
        let counts = self.notifications.lock();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            messages: self.messages.each_ref().map(|d| d.each_ref().map(load)),
            notifications: counts.unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Counted {
    /// All messages of a direction.
    pub(crate) fn total(&self, direction: Direction) -> u64 {
        self.messages[direction as usize].iter().sum()
    }

    /// Messages of a direction by type.
    pub(crate) fn by_type(&self, direction: Direction) -> MessageCounts {
        let [_, open, update, notification, keepalive, route_refresh] =
            self.messages[direction as usize];
        MessageCounts {
            open,
            update,
            notification,
            keepalive,
            route_refresh,
        }
    }
}

impl AddAssign<&Counted> for Counted {
    fn add_assign(&mut self, other: &Counted) {
        let sums = self.messages.iter_mut().flatten();
        for (sum, more) in sums.zip(other.messages.iter().flatten()) {
            *sum += more;
        }
        for (key, more) in &other.notifications {
            *self.notifications.entry(*key).or_default() += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_one_buffer_are_counted_by_type() {
        let counters = Counters::default();
        let mut bytes = header::KEEPALIVE.to_vec();
        bytes.extend(header::KEEPALIVE);
        let mut end_of_rib = vec![0xff; 16];
        end_of_rib.extend([0, 23, 2, 0, 0, 0, 0]);
        bytes.extend(end_of_rib);
        counters.messages(Direction::Out, &bytes);
        let mut unknown = header::KEEPALIVE;
        unknown[18] = 99;
        counters.message(Direction::In, &unknown);
        let counted = counters.read();
        let expected = MessageCounts {
            update: 1,
            keepalive: 2,
            ..MessageCounts::default()
        };
        assert_eq!(expected, counted.by_type(Direction::Out));
        assert_eq!(
            (3, 1),
            (counted.total(Direction::Out), counted.total(Direction::In))
        );
    }

    #[test]
    fn notifications_are_counted_by_code_and_added_up() {
        let counters = Counters::default();
        let cease = Notification::cease(4);
        counters.notification(Direction::In, &cease);
        counters.notification(Direction::In, &cease);
        let mut counted = counters.read();
        counted += &counters.read();
        assert_eq!(
            [((Direction::In, 6, 4), 4)],
            counted.notifications.into_iter().collect::<Vec<_>>()[..]
        );
    }
}
