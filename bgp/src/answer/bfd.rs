//! The BFD session with a peer.

use std::time::Duration;

use bgp_api::Bfd;

use crate::answer::moment;
use crate::event::BfdInfo;

impl From<&BfdInfo> for Bfd {
    fn from(info: &BfdInfo) -> Self {
        let millis = |time: Option<Duration>| {
            u32::try_from(time.unwrap_or_default().as_millis()).unwrap_or(u32::MAX)
        };
        let words = |diagnostic: &str| (info.transitions > 0).then(|| diagnostic.to_owned());
        Bfd {
            state: info.state.to_string(),
            remote_state: info.remote_state.to_string(),
            diagnostic: words(&info.diagnostic),
            remote_diagnostic: words(&info.remote_diagnostic),
            age_secs: moment(info.since).1,
            discriminator: info.discriminator,
            remote_discriminator: info.remote_discriminator,
            tx_ms: millis(info.interval),
            detect_ms: millis(info.detection_time),
            transitions: info.transitions,
            failures: info.failures,
            problem: info.problem.clone(),
        }
    }
}
