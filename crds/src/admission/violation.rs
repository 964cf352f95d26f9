//! What is said of an object that is not taken.
//!
//! Owns the words, which are the API server's. Never: what is wrong and what is not.

use std::fmt;

use serde_json::Value;

/// Why a field is refused. The API server's classes, which decide the first word of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The text is no YAML, or no object of a kind that is known.
    Unreadable,
    /// No such field.
    Unknown,
    /// The field must be there.
    Required,
    /// A value of another type.
    Type,
    /// Not one of the values that there are.
    Unsupported,
    /// A text with too many characters.
    TooLong,
    /// A list or mapping with too many entries.
    TooMany,
    /// A good value, but not for this object now: what cannot be changed is changed.
    Forbidden,
    /// Any other value that is not allowed.
    Invalid,
}

impl Cause {
    /// Whether the API server evaluates no rules as long as there is one of these.
    pub(super) fn hides_rules(self) -> bool {
        match self {
            Self::Required | Self::Type | Self::Unsupported | Self::TooLong | Self::TooMany => true,
            Self::Unreadable | Self::Unknown | Self::Forbidden | Self::Invalid => false,
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, such as `spec.tolerations[0].key`; empty for the whole object.
    pub path: String,
    /// Its class.
    pub cause: Cause,
    /// What is wrong, and what is allowed. Without the path.
    pub message: String,
}

impl Violation {
    pub(super) fn new(path: &str, cause: Cause, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), cause, message: message.into() }
    }

    pub(super) fn required(path: &str, hint: &str) -> Self {
        let hint = if hint.is_empty() { String::new() } else { format!(": {hint}") };
        Self::new(path, Cause::Required, format!("Required value{hint}"))
    }

    pub(super) fn invalid(path: &str, value: &Value, detail: &str) -> Self {
        Self::new(path, Cause::Invalid, format!("Invalid value: {value}: {detail}"))
    }

    pub(super) fn unsupported(path: &str, value: &Value, supported: &[Value]) -> Self {
        let list = supported.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        Self::new(path, Cause::Unsupported, format!("Unsupported value: {value}: supported values: {list}"))
    }

    pub(super) fn unreadable(error: &dyn fmt::Display) -> Self {
        Self::new("", Cause::Unreadable, error.to_string())
    }

    pub(super) fn internal_kind() -> Self {
        Self::unreadable(&"a PartitionTable is internal: only the operator writes it")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.cause, self.path.as_str()) {
            // These name the field themselves.
            (Cause::Unknown | Cause::Unreadable, _) => f.write_str(&self.message),
            (_, "") => write!(f, "<nil>: {}", self.message),
            (_, path) => write!(f, "{path}: {}", self.message),
        }
    }
}

/// A document that is not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which document of the text, from 1; empty ones are counted.
    pub document: usize,
    /// The line that the document begins on, from 1.
    pub line: usize,
    /// The object, such as `Topic "orders.v1"`, as far as it could be read.
    pub object: Option<String>,
    /// What is wrong, each with the line that its field stands on, from 1, if it stands there.
    pub violations: Vec<(Option<usize>, Violation)>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Some(object) => {
                write!(f, "the {object} (document {}, line {}) is invalid:", self.document, self.line)?;
            }
            None => write!(f, "document {}, line {}:", self.document, self.line)?,
        }
        for (line, violation) in &self.violations {
            write!(f, "\n* {violation}")?;
            if let Some(line) = line {
                write!(f, " (line {line})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Rejection {}
