//! Waiting until something holds, with a deadline instead of a guess.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(20);

/// How many times as long everything takes as on a usual machine.
pub fn slowness() -> u32 {
    // Set by e2e/vm/run.
    if std::env::var_os("TORTIE_VM").is_some() {
        6
    } else {
        1
    }
}

/// Asks `probe` until it answers `Ok(Some(value))` and returns that value with
/// the time it took. After `limit`, in an emulated machine several times that, the error says
/// what was waited for and what the last answer was.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    let limit = limit * slowness();
    loop {
        let last = match probe() {
            Ok(Some(value)) => return Ok((value, start.elapsed())),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("waited {limit:?} for {what}; last answer: {last}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// As [`until`], for a condition without a value.
pub fn until_true(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    until(what, limit, || Ok(probe()?.then_some(()))).map(|((), took)| took)
}
