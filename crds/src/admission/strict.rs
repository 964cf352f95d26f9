//! A document's value, read so that a key that stands twice in one mapping is an error and not a choice.
//!
//! Owns that one difference from how values are read elsewhere. Never: what keys there may be.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Why a text has no value.
pub(super) struct Unread {
    /// The line of the text, from 1, if it is known: for a key that stands twice, of its mapping.
    pub(super) line: Option<usize>,
    pub(super) message: String,
    /// The key that stands twice, if that is what is wrong.
    pub(super) double: Option<String>,
}

/// Reads a text of one document.
pub(super) fn read(text: &str) -> Result<Value, Unread> {
    let double = RefCell::new(None);
    Strict(&double).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| Unread {
        line: error.location().map(|location| location.line()),
        message: error.to_string(),
        double: double.take(),
    })
}

/// Notes the key that stands twice.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list or a scalar")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = mapping.next_key::<Key>()? {
            let value = mapping.next_value_seed(self)?;
            if fields.contains_key(&key.0) {
                let message = format!("key {:?} already set in map", key.0);
                self.0.replace(Some(key.0));
                return Err(A::Error::custom(message));
            }
            fields.insert(key.0, value);
        }
        Ok(Value::Object(fields))
    }
}

/// A key: a text, as in JSON.
#[derive(Deserialize)]
struct Key(String);
