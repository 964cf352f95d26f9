//! How often what was really reached: a world that never meets the hard cases proves nothing.

use std::collections::BTreeMap;

/// What worlds amounted to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Totals(BTreeMap<String, u64>);

impl Totals {
    pub(crate) fn count(&mut self, what: &str) {
        self.add_many(what, 1);
    }

    pub(crate) fn add_many(&mut self, what: &str, times: u64) {
        match self.0.get_mut(what) {
            Some(known) => *known += times,
            None => drop(self.0.insert(what.to_owned(), times)),
        }
    }

    pub(crate) fn add(&mut self, one: &Self) {
        for (what, times) in &one.0 {
            self.add_many(what, *times);
        }
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// One line of JSON, for who adds up many processes' worlds.
    pub(crate) fn json(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(what, times)| format!("{what:?}:{times}")).collect();
        format!("{{{}}}", pairs.join(","))
    }
}
