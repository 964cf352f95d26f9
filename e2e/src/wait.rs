//! Waiting for a condition, with a deadline: no test sleeps for luck.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Between two looks: short against what a person notices, long against what a look costs.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Looks until there is something, at most so long. An error of a look is not the end: what is restarting answers late. The last
/// one is in the error.
pub fn until<T>(what: &str, at_most: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    let mut last = anyhow!("it was looked at and was not so");
    loop {
        match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => last = error,
        }
        if started.elapsed() > at_most {
            return Err(last.context(format!("waited {at_most:?} for: {what}")));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// [`until`] something is so.
pub fn until_so(what: &str, at_most: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, at_most, || look().map(|so| so.then_some(())))
}

/// Tries until it goes well, at most so long: for what is asked of brokers, some of which may just be starting. The last error is
/// the outcome's.
pub async fn until_well<T>(
    what: &str,
    at_most: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match attempt().await {
            Err(error) if started.elapsed() > at_most => {
                return Err(error.context(format!("tried for {at_most:?}: {what}")));
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            done => return done,
        }
    }
}
