//! Patterns over topics' names, by the rules that NATS has for subjects: words between dots, `*` for any one word, `>` at the end
//! for one word or more. Never knows which topics there are.

use thiserror::Error;

use crate::control::table::TOPIC_NAME_BYTES_MAX;

/// A pattern. No topic has such a name: names have neither `*` nor `>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    words: Vec<Word>,
    /// More words may follow, one at least.
    is_open: bool,
}

/// Neither a name nor a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Its words.
    #[error(
        "{0:?} is no pattern: * stands for a whole word between dots, > for all words that follow, at the end, as in orders.* and \
         orders.>"
    )]
    Words(String),
    /// So many bytes. No topic has a name that it could fit, and it is not repeated.
    #[error(
        "a pattern has at most {TOPIC_NAME_BYTES_MAX} bytes, as names of topics have, and this one has {0}"
    )]
    Long(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Any,
    This(String),
}

impl Pattern {
    /// `None`: it is a name. An error says what is allowed.
    pub fn parse(text: &str) -> Result<Option<Self>, PatternError> {
        if !text.contains(['*', '>']) {
            return Ok(None);
        }
        if text.len() > TOPIC_NAME_BYTES_MAX {
            return Err(PatternError::Long(text.len()));
        }
        let (head, is_open) = match text.strip_suffix('>') {
            Some("") => (None, true),
            Some(head) => (Some(head.strip_suffix('.').ok_or_else(|| refused(text))?), true),
            None => (Some(text), false),
        };
        let words = head.into_iter().flat_map(|head| head.split('.')).map(|word| match word {
            "*" => Ok(Word::Any),
            word if word.is_empty() || word.contains(['*', '>']) => Err(refused(text)),
            word => Ok(Word::This(word.to_owned())),
        });
        Ok(Some(Self { words: words.collect::<Result<_, _>>()?, is_open }))
    }

    /// Whether a topic of this name is meant.
    pub fn fits(&self, name: &str) -> bool {
        let mut left = name.split('.');
        let fits = |word: &Word| match (word, left.next()) {
            (Word::Any, Some(_)) => true,
            (Word::This(word), Some(next)) => word == next,
            (_, None) => false,
        };
        self.words.iter().all(fits) && left.next().is_some() == self.is_open
    }
}

fn refused(text: &str) -> PatternError {
    PatternError::Words(text.to_owned())
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
