//! Documents out of a text, each with the line that it begins on.
//!
//! Owns: splitting as kubectl does, parsing, and where a field stands. Never: what a document says.

use std::cmp::Ordering;

use serde_json::Value;

use super::strict::{self, Unread};
use super::violation::{Rejection, Violation};

/// The longest text that is read: a thousand Topics with all their fields are half a megabyte, and the API server takes
/// no more than 3 MiB in one request.
const TEXT_LENGTH_MAX: usize = 4 << 20;

/// A document that is YAML.
pub(super) struct Part {
    number: usize,
    /// The line that its text begins on, from 1.
    first_line: usize,
    /// The first line that says something.
    line: usize,
    text: String,
    pub(super) value: Value,
}

impl Part {
    /// The rejection of this document.
    pub(super) fn reject(&self, violations: Vec<Violation>) -> Rejection {
        let kind = self.value.get("kind").and_then(Value::as_str);
        let name = self.value.pointer("/metadata/name").and_then(Value::as_str);
        let object = match (kind, name) {
            (Some(kind), Some(name)) => Some(format!("{kind} {name:?}")),
            (Some(kind), None) => Some(format!("{kind} without a name")),
            (None, _) => None,
        };
        let violations =
            violations.into_iter().map(|violation| (self.line_of(&violation.path), violation)).collect();
        Rejection { document: self.number, line: self.line, object, violations }
    }

    /// The line on which the field of a path stands, for mappings in block style. A field that is absent has none.
    fn line_of(&self, path: &str) -> Option<usize> {
        if path.is_empty() {
            return None;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let (mut from, mut indent, mut found) = (0, 0, None);
        for step in path.split('.') {
            let field = step.split('[').next().unwrap_or(step);
            let (index, column) = find_field(&lines, from, indent, field)?;
            found = Some(self.first_line + index);
            if step.contains('[') {
                break;
            }
            (from, indent) = (index + 1, column + 1);
        }
        found
    }
}

/// Splits a text at the lines `---` and parses every document that says something.
pub(super) fn split(text: &str) -> Vec<Result<Part, Rejection>> {
    if text.len() > TEXT_LENGTH_MAX {
        let message = format!("the text has {} bytes, and at most {TEXT_LENGTH_MAX} are read", text.len());
        return vec![Err(reject(1, 1, &message))];
    }
    let mut parts = Vec::new();
    let (mut number, mut first_line, mut lines) = (1, 1, String::new());
    for (index, line) in text.lines().enumerate() {
        if let Some(rest) = line.strip_prefix("---") {
            parts.extend(parse(number, first_line, &lines));
            // Nothing stands before the first `---` of most files: that is no document.
            number += usize::from(!lines.is_empty() || index > 0);
            first_line = index + 1;
            // What follows `---` on its line belongs to the document.
            lines = format!("{rest}\n");
        } else {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    parts.extend(parse(number, first_line, &lines));
    parts
}

fn parse(number: usize, first_line: usize, text: &str) -> Option<Result<Part, Rejection>> {
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let line = first_line + text.lines().position(says_something)?;
    let value = match strict::read(text) {
        Ok(Value::Null) => return None,
        Ok(value) => value,
        Err(unread) => return Some(Err(unreadable(number, (first_line, line), text, &unread))),
    };
    Some(Ok(Part { number, first_line, line, text: text.to_owned(), value }))
}

/// Where in the whole text a document is wrong, and how.
fn unreadable(number: usize, (first_line, line): (usize, usize), text: &str, unread: &Unread) -> Rejection {
    let Some(key) = &unread.double else {
        let at = unread.line.map_or(line, |at| first_line + at.saturating_sub(1));
        return reject(number, at, &format!("not YAML: {}", unread.message));
    };
    let lines: Vec<&str> = text.lines().collect();
    let mapping = unread.line.map_or(0, |at| at.saturating_sub(1));
    // In block style on a line of its own; else on that of its mapping.
    let first = find_field(&lines, mapping, 0, key);
    let second = first.and_then(|(index, indent)| find_again(&lines, index + 1, indent, key));
    let at = first_line + second.unwrap_or(mapping);
    reject(number, at, &format!("line {at}: key {key:?} already set in map"))
}

fn reject(document: usize, line: usize, message: &str) -> Rejection {
    Rejection { document, line, object: None, violations: vec![(None, Violation::unreadable(&message))] }
}

/// The first line from `from` on with `field:` at the indentation of its block, and that indentation.
fn find_field(lines: &[&str], from: usize, indent_min: usize, field: &str) -> Option<(usize, usize)> {
    let mut block = None;
    for (index, line) in lines.iter().enumerate().skip(from) {
        let rest = line.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        let indent = line.len() - rest.len();
        if indent < indent_min {
            return None;
        }
        if indent != *block.get_or_insert(indent) {
            continue;
        }
        if is_field(rest, field) {
            return Some((index, indent));
        }
    }
    None
}

/// The next line with `field:` in the block of this indentation.
fn find_again(lines: &[&str], from: usize, indent: usize, field: &str) -> Option<usize> {
    for (index, line) in lines.iter().enumerate().skip(from) {
        let rest = line.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        match (line.len() - rest.len()).cmp(&indent) {
            Ordering::Less => return None,
            Ordering::Equal if is_field(rest, field) => return Some(index),
            Ordering::Equal | Ordering::Greater => {}
        }
    }
    None
}

fn is_field(line: &str, field: &str) -> bool {
    let key = line.split(':').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    key == field && line.contains(':')
}
