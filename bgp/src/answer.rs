//! What the speaker knows, in the words of `bgp-api`.

mod attributes;
mod bfd;
mod peer;
mod settings;
mod step;
mod why;

pub(crate) use attributes::attributes;
pub(crate) use peer::{line, notifications, session};
pub(crate) use settings::settings;
pub(crate) use step::{best_words, lost_words};
pub(crate) use why::text;

use std::time::{SystemTime, UNIX_EPOCH};

use bgp_wire::Prefix;
use ipnet::IpNet;

/// A prefix as the answers have it; the length of a [`Prefix`] always fits.
pub(crate) fn net(prefix: Prefix) -> IpNet {
    IpNet::new_assert(prefix.addr(), prefix.prefix_len())
}

/// Seconds since 1970, and seconds since then.
pub(crate) fn moment(time: SystemTime) -> (u64, u64) {
    let age = SystemTime::now().duration_since(time).unwrap_or_default();
    (seconds(time), age.as_secs())
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Seconds from now on; none left is 0.
pub(crate) fn seconds_until(time: SystemTime) -> u64 {
    let left = time.duration_since(SystemTime::now());
    left.unwrap_or_default().as_secs()
}
