//! What does not leave the cluster.
//!
//! Owns what is cut out of objects of Kubernetes and of text. Objects are cut by what they are: of a container that is not ours hardly
//! anything is kept. Text is cut by what secrets look like, as a second net: nothing of Fulmar's writes one into its log.

use serde_json::{Map, Value, json};

/// In the place of what was cut out.
pub(super) const REDACTED: &str = "(redacted)";

/// Containers of Fulmar's own, whose settings are no secrets.
const OWN_CONTAINERS: [&str; 2] = ["broker", "operator"];

/// Of a container that is not ours: what tells what it is and whether it keeps a pod from running.
const FOREIGN_KEPT: [&str; 6] = ["name", "image", "imagePullPolicy", "ports", "resources", "restartPolicy"];

/// Volumes that only name what they mount.
const VOLUMES_KEPT: [&str; 8] = [
    "name",
    "secret",
    "configMap",
    "emptyDir",
    "persistentVolumeClaim",
    "projected",
    "downwardAPI",
    "hostPath",
];

/// Fields of an object, or words before `=` or `:` in a text, whose value is a secret whatever it looks like.
const SECRET_NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "secretkey",
    "secret_key",
    "api_key",
    "apikey",
    "access_key",
    "access_token",
    "client_secret",
    "authorization",
];

/// Cuts out of an object, or of a list of them, what is not to be told.
pub(super) fn object(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            metadata(fields);
            for list in ["containers", "initContainers", "ephemeralContainers"] {
                for one in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    container(one);
                }
            }
            for one in fields.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
                kept(one, &VOLUMES_KEPT);
            }
            for (name, below) in fields.iter_mut() {
                let is_secret = SECRET_NAMES.contains(&name.to_ascii_lowercase().as_str());
                if is_secret && (below.is_string() || below.is_number()) {
                    *below = json!(REDACTED);
                } else {
                    object(below);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(object),
        Value::String(said) => {
            if let Some(cut) = cut(said) {
                *said = cut;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The copy of the object that kubectl keeps in it, and which field is whose, which is long: of that, who and when is kept.
fn metadata(fields: &mut Map<String, Value>) {
    if let Some(annotations) = fields.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    for entry in fields.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(entry) = entry.as_object_mut() {
            entry.remove("fieldsV1");
        }
    }
}

fn container(value: &mut Value) {
    // A status stands in a list of another name.
    let is_own = value["name"].as_str().is_some_and(|name| OWN_CONTAINERS.contains(&name));
    if !is_own {
        return kept(value, &FOREIGN_KEPT);
    }
    for variable in value.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        let is_own = name.starts_with("FULMAR_") || name.starts_with("POD_") || name == "WATCH_NAMESPACES";
        if !is_own && !variable["value"].is_null() {
            variable["value"] = json!(REDACTED);
        }
    }
}

/// Keeps these fields, and the names of the others.
fn kept(value: &mut Value, names: &[&str]) {
    for (name, below) in value.as_object_mut().into_iter().flatten() {
        if !names.contains(&name.as_str()) {
            *below = json!(REDACTED);
        }
    }
}

/// Cuts out of a text, line by line, what looks like a secret.
pub(super) fn text(said: &str) -> String {
    cut(said).unwrap_or_else(|| said.to_owned())
}

/// The text without what looks like a secret; `None` if nothing does.
fn cut(said: &str) -> Option<String> {
    let mut ranges = Vec::new();
    private_keys(said, &mut ranges);
    credentials_of_urls(said, &mut ranges);
    tokens(said, &mut ranges);
    named(said, &mut ranges);
    if ranges.is_empty() {
        return None;
    }
    ranges.sort_unstable();
    let (mut whole, mut from) = (String::with_capacity(said.len()), 0);
    for (start, end) in ranges {
        // One may lie in another.
        if start >= from {
            whole.push_str(&said[from..start]);
            whole.push_str(REDACTED);
        }
        from = from.max(end);
    }
    whole.push_str(&said[from..]);
    Some(whole)
}

type Ranges = Vec<(usize, usize)>;

/// PEM, also where its lines are written as `\n`. One without an end goes to the end of the text.
fn private_keys(said: &str, ranges: &mut Ranges) {
    const KEY: &str = "PRIVATE KEY-----";
    for (at, begin) in said.match_indices("-----BEGIN ") {
        let label = at + begin.len();
        // The label is a few words.
        let Some(length) = said[label..].find(KEY).filter(|length| *length <= 20) else { continue };
        let body = label + length + KEY.len();
        let end = said[body..].find(KEY).map_or(said.len(), |end| body + end + KEY.len());
        ranges.push((at, end));
    }
}

/// `https://name:password@host`.
fn credentials_of_urls(said: &str, ranges: &mut Ranges) {
    for (at, separator) in said.match_indices("://") {
        let start = at + separator.len();
        let authority = said[start..].find(|c: char| "/?#\"'<>".contains(c) || c.is_whitespace());
        let authority = &said[start..authority.map_or(said.len(), |end| start + end)];
        if let Some(length) = authority.rfind('@') {
            ranges.push((start, start + length));
        }
    }
}

/// JSON web tokens, and what follows `Bearer` or `Basic`.
fn tokens(said: &str, ranges: &mut Ranges) {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-_.+/=~".contains(c);
    let length = |from: usize| said[from..].find(|c| !is_of_token(c)).unwrap_or(said.len() - from);
    // What was looked at once is not looked at again, or a text of nothing else would take for ever.
    let mut seen = 0;
    for (at, _) in said.match_indices("eyJ") {
        if at < seen {
            continue;
        }
        let length = length(at);
        seen = at + length;
        if length >= 40 && said[at..at + length].contains('.') {
            ranges.push((at, at + length));
        }
    }
    for word in ["Bearer ", "bearer ", "Basic ", "basic "] {
        for (at, word) in said.match_indices(word) {
            let (from, length) = (at + word.len(), length(at + word.len()));
            // Shorter ones are words of a sentence.
            if length >= 16 {
                ranges.push((from, from + length));
            }
        }
    }
}

/// `password=…`, `"token": "…"`.
fn named(said: &str, ranges: &mut Ranges) {
    let lower = said.to_ascii_lowercase();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for name in SECRET_NAMES {
        let mut seen = 0;
        for (at, _) in lower.match_indices(name) {
            let after = at + name.len();
            if at < seen {
                continue;
            }
            // A longer word may end with the name (DB_PASSWORD), not begin with it (token_bucket).
            if lower[after..].starts_with(is_of_name) {
                continue;
            }
            let rest = lower[after..].trim_start_matches(['"', '\'', '\\']);
            let Some(rest) = rest.trim_start_matches(' ').strip_prefix([':', '=']) else { continue };
            let rest = rest.trim_start_matches([' ', '"', '\'', '\\']);
            let start = lower.len() - rest.len();
            let end = rest.find(|c: char| "\"',;&}\\".contains(c) || c.is_whitespace()).unwrap_or(rest.len());
            // `authorization: Bearer …` is two words, and both go.
            if end > 0 {
                ranges.push((start, start + end));
                seen = start + end;
            }
        }
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
