//! What was asked of the API server, as its own log of requests has it.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::environment::Environment;

/// The log, from some moment on. It is written a moment after a request was answered.
#[derive(Debug)]
pub struct Audit {
    log: PathBuf,
    from: u64,
}

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Who asked: `system:serviceaccount:NAMESPACE:NAME`, `system:node:NAME`, ….
    pub user: String,
    /// `get`, `watch`, `create`, `patch`, ….
    pub verb: String,
    /// `topics`, or `topics/status`.
    pub resource: String,
    /// The namespace of the object, if it has one.
    pub namespace: String,
}

impl Audit {
    /// From the first request on.
    pub fn whole(environment: &Environment) -> Result<Self> {
        Ok(Self { log: environment.nodes()?.log("audit.log"), from: 0 })
    }

    /// From now on.
    pub fn from_now(environment: &Environment) -> Result<Self> {
        let log = environment.nodes()?.log("audit.log");
        let from = log.metadata().with_context(|| format!("no {}", log.display()))?.len();
        Ok(Self { log, from })
    }

    /// All that fit. A line that is being written just now is not there yet.
    pub fn requests(&self, fits: impl Fn(&Request) -> bool) -> Result<Vec<Request>> {
        let mut file = File::open(&self.log).with_context(|| format!("no {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut requests = Vec::new();
        for line in BufReader::new(file).lines() {
            let Ok(entry) = serde_json::from_str::<Value>(&line?) else { continue };
            requests.extend(Some(Request::of(&entry)).filter(|request| fits(request)));
        }
        Ok(requests)
    }
}

impl Request {
    fn of(entry: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &entry["objectRef"];
        let resource = match object["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let (user, verb) = (text(&entry["user"]["username"]), text(&entry["verb"]));
        Self { user, verb, resource, namespace: text(&object["namespace"]) }
    }

    /// Whether it changes nothing.
    pub fn reads(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}
