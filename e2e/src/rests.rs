//! What an API server asks an operator to leave alone for a while (429, `Retry-After`), and whether that does so.
//!
//! Owns the times in which nothing may be read at all, and the book of who came back too soon. Never: writes, which have a pace of their
//! own, nor the Lease and the partition table: until they are known nobody replaces a leader, so they are asked for all the same.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::proxy::{Asked, Treatment, unpoisoned};

/// What one operator was asked to leave alone.
#[derive(Debug)]
pub struct Rests {
    seconds: u32,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Nothing may be read.
    is_closed: bool,
    process: u64,
    refused: BTreeMap<String, Refused>,
    too_soon: Vec<String>,
}

#[derive(Debug)]
struct Refused {
    /// How often since nothing may be read.
    times: u32,
    /// Until when it is to be left alone.
    until: Instant,
}

impl Rests {
    /// Whatever may be read. Who comes while nothing may be is told to come back after so many seconds.
    pub fn new(seconds: u32) -> Self {
        Self { seconds, book: Mutex::default() }
    }

    /// Who asks is the process that was started as this one of many: one that was started anew knows nothing of what was said to another.
    pub fn note_process(&self, number: u64) {
        let mut book = unpoisoned(&self.book);
        if book.process != number {
            book.process = number;
            book.refused.clear();
        }
    }

    /// From now on nothing may be read.
    pub fn close(&self) {
        let mut book = unpoisoned(&self.book);
        book.is_closed = true;
        book.refused.values_mut().for_each(|refused| refused.times = 0);
    }

    /// Everything may be read again.
    pub fn open(&self) {
        unpoisoned(&self.book).is_closed = false;
    }

    /// What becomes of a request in this weather, with what is refused noted.
    pub fn treat(&self, asked: &Asked, weather: impl FnOnce() -> Treatment) -> Treatment {
        if asked.is_write() || asked.is_about("leases") || asked.is_about("partitiontables") {
            return weather();
        }
        let (target, now) = (asked.target(), Instant::now());
        let mut book = unpoisoned(&self.book);
        let before = book.refused.get(&target);
        let times = before.map_or(0, |before| before.times);
        let early = before.and_then(|before| before.until.checked_duration_since(now));
        if let Some(early) = early.filter(|early| !early.is_zero()) {
            book.too_soon.push(format!("{early:?} too soon: {target}"));
        }
        let treatment = if book.is_closed { Treatment::TooMany(self.seconds) } else { weather() };
        if let Treatment::TooMany(seconds) = treatment {
            let until = now + Duration::from_secs(u64::from(seconds));
            book.refused.insert(target, Refused { times: times + 1, until });
        }
        treatment
    }

    /// How often one and the same was refused of what is asked about objects of this kind, since nothing may be read.
    pub fn times(&self, resource: &str) -> u32 {
        let book = unpoisoned(&self.book);
        let is_about = |target: &str| target.split(['/', '?']).any(|part| part == resource);
        let all = book.refused.iter().filter(|(target, _)| is_about(target));
        all.map(|(_, refused)| refused.times).max().unwrap_or_default()
    }

    /// An error if the same was asked for again before it was to be.
    pub fn check(&self) -> Result<()> {
        let book = unpoisoned(&self.book);
        ensure!(book.too_soon.is_empty(), "asked again before it was to be: {:#?}", book.too_soon);
        Ok(())
    }
}

#[cfg(test)]
#[path = "rests_tests.rs"]
mod tests;
