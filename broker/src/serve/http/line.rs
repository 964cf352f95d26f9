//! A message as a line of JSON: what `fulmar publish --input json` reads.
//!
//! Owns that a line which was printed of a message can be published again: it is the document that HTTP takes, and what only a message
//! that was read has is passed over.

use std::fmt;

use fulmar_proto::v1::PublishRequest;
use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::super::error::Failure;
use super::document::NewMessage;

/// Where a message was, and when it came there.
const OF_READ: [&str; 4] = ["topic", "topic_id", "offset", "append_time_ms"];

/// What stands in a line is repeated in an error, but no more of it than a person reads.
const SAID_CHARS_MAX: usize = 200;

/// The message of a line, for a topic. An error names the field and what is allowed, in a line.
pub fn read(line: &[u8], topic: &str) -> Result<PublishRequest, Failure> {
    let Line(message) = serde_json::from_slice(line).map_err(|error| wrong(&error))?;
    let message = message.read(topic)?;
    if message.headers.iter().any(|header| header.name.is_empty()) {
        return Err(Failure::invalid("headers", "headers: a name is UTF-8, and not empty"));
    }
    Ok(message)
}

fn wrong(error: &serde_json::Error) -> Failure {
    // Which line it is knows who asks.
    let said = error.to_string().replace(" at line 1 column ", " at column ");
    let shown: String = said.chars().take(SAID_CHARS_MAX).flat_map(shown).collect();
    let more = if shown.len() < said.len() { "…" } else { "" };
    Failure::invalid("line", format!("it is no message in JSON: {shown}{more}"))
}

/// Without what a terminal would obey.
fn shown(letter: char) -> impl Iterator<Item = char> {
    let escaped = letter.is_control().then(|| letter.escape_default());
    let itself = escaped.is_none().then_some(letter);
    escaped.into_iter().flatten().chain(itself)
}

struct Line(NewMessage);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = NewMessage;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<NewMessage, A::Error> {
                NewMessage::deserialize(MapAccessDeserializer::new(New(fields)))
            }
        }
        from.deserialize_map(Object).map(Self)
    }
}

/// The fields of a new message.
struct New<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for New<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.0.next_key::<String>()? {
            if !OF_READ.contains(&name.as_str()) {
                let name: StringDeserializer<A::Error> = de::IntoDeserializer::into_deserializer(name);
                return seed.deserialize(name).map(Some);
            }
            let IgnoredAny = self.0.next_value()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
