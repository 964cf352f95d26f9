//! Somebody who publishes single records beside all the rest, and how long each takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::alone::Http;

/// Fifty a second or fewer: a hundredth of a per cent of the rest.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Probe {
    stop: Arc<AtomicBool>,
    took: mpsc::Receiver<Duration>,
    publishing: JoinHandle<Result<()>>,
}

impl Probe {
    pub(super) fn start(http: Http) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (send, took) = mpsc::channel();
        let ends = Arc::clone(&stop);
        let publishing = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let began = Instant::now();
                ensure!(http.publish()?, "a record was refused");
                // Who measures may have gone.
                let _ = send.send(began.elapsed());
                thread::sleep(PAUSE);
            }
            Ok(())
        });
        Self { stop, took, publishing }
    }

    /// What those took that came since it was asked last, the shortest first. Fails if one was refused.
    pub(super) fn sorted(&self) -> Result<Vec<Duration>> {
        ensure!(!self.publishing.is_finished(), "a single publish was refused, or not answered");
        let mut took: Vec<Duration> = self.took.try_iter().collect();
        took.sort_unstable();
        Ok(took)
    }

    /// Ends it; tells why, if it had ended by itself.
    pub(super) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.publishing.join().map_err(|_| anyhow!("who publishes single records panicked"))?
    }
}
