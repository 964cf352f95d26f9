//! The filter of this process: installed once, changed for a time, and back to what is configured by itself.
//!
//! Owns the clock of a change. One process has one subscriber, so this is of the process, too.

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::filter::Filter;

/// A change that is shorter shows nobody anything.
pub const CHANGE_MIN: Duration = Duration::from_secs(1);
/// A change that is forgotten fills disks, and slows who writes it: nothing stays changed for longer.
pub const CHANGE_MAX: Duration = Duration::from_hours(1);

/// Tells the subscriber a filter.
type Apply = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

static LEVELS: OnceLock<Levels> = OnceLock::new();

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// It is to last too short or too long.
    #[error("{} is not allowed: a change lasts 1s to {}", humantime::format_duration(*.0), humantime::format_duration(CHANGE_MAX))]
    Duration(Duration),
    /// The subscriber is gone.
    #[error("this process does not log any more: {0}")]
    Gone(String),
}

/// The filter of this process.
#[derive(Clone)]
pub struct Levels {
    shared: Arc<Shared>,
}

struct Shared {
    configured: Filter,
    always: &'static [&'static str],
    apply: Apply,
    change: Mutex<Change>,
}

/// What is asked for now, if it is not what is configured.
#[derive(Debug, Default)]
struct Change {
    filter: Option<(Filter, Instant)>,
    /// Counts changes: the end of one that was overtaken ends nothing.
    number: u64,
}

impl std::fmt::Debug for Levels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Levels").field("configured", &self.shared.configured).finish_non_exhaustive()
    }
}

/// Logs from now on, to standard error. `always`: directives that no filter takes away. Does nothing if the process logs already.
pub fn install(lines: Lines, configured: Filter, always: &'static [&'static str]) {
    // A file or a collector wants no colours.
    let is_terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(configured.build(always))
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal);
    let (apply, installed): (Apply, bool) = match lines {
        Lines::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let apply = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (Box::new(apply), builder.try_init().is_ok())
        }
        Lines::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let apply = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (Box::new(apply), builder.try_init().is_ok())
        }
    };
    if installed {
        let _first = LEVELS.set(Levels::new(configured, always, apply));
    }
}

/// The filter of this process; `None` if [`install`] was not called, or somebody else logs.
pub fn levels() -> Option<&'static Levels> {
    LEVELS.get()
}

impl Levels {
    fn new(configured: Filter, always: &'static [&'static str], apply: Apply) -> Self {
        Self { shared: Arc::new(Shared { configured, always, apply, change: Mutex::default() }) }
    }

    /// One that acts on no subscriber.
    #[cfg(test)]
    pub(crate) fn of_nobody(configured: &str) -> Self {
        Self::new(configured.parse().expect("a filter"), &[], Box::new(|_| Ok(())))
    }

    /// Logs by `filter` for so long, then by what is configured. A later change takes the place of this one. In a runtime of tokio.
    ///
    /// # Errors
    /// It is to last less than [`CHANGE_MIN`] or more than [`CHANGE_MAX`].
    pub fn change(&self, filter: Filter, lasting: Duration) -> Result<(), ChangeError> {
        if !(CHANGE_MIN..=CHANGE_MAX).contains(&lasting) {
            return Err(ChangeError::Duration(lasting));
        }
        let until = Instant::now() + lasting;
        let number = {
            let mut change = self.shared.change.lock();
            info!(%filter, seconds = lasting.as_secs(), "the log level is changed");
            self.apply(&filter)?;
            change.number += 1;
            change.filter = Some((filter, until));
            change.number
        };
        let levels = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            levels.end(Some(number));
        });
        Ok(())
    }

    /// Logs by what is configured, at once.
    pub fn reset(&self) {
        self.end(None);
    }

    /// Ends the change of this number, or whichever there is.
    fn end(&self, number: Option<u64>) {
        let mut change = self.shared.change.lock();
        if change.filter.is_none() || number.is_some_and(|number| number != change.number) {
            return;
        }
        change.filter = None;
        // It fails only where there is no subscriber to tell it to.
        if self.apply(&self.shared.configured).is_ok() {
            info!(filter = %self.shared.configured, "the log level is as configured again");
        }
    }

    fn apply(&self, filter: &Filter) -> Result<(), ChangeError> {
        (self.shared.apply)(filter.build(self.shared.always)).map_err(ChangeError::Gone)
    }

    /// What is logged now, in words: `info, as configured`, or `debug for 9m 58s, then info`.
    pub fn describe(&self) -> String {
        let change = self.shared.change.lock();
        let configured = &self.shared.configured;
        match &change.filter {
            None => format!("{configured}, as configured"),
            Some((filter, until)) => {
                // Rounded up: a change never seems to be over while it acts.
                let left = until.saturating_duration_since(Instant::now()).as_secs() + 1;
                let left = humantime::format_duration(Duration::from_secs(left));
                format!("{filter} for {left}, then {configured}")
            }
        }
    }
}

#[cfg(test)]
#[path = "level_tests.rs"]
mod tests;
