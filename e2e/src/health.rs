//! What others make of an object that is there now: Argo CD by the health check that is ours, and kstatus, by which Helm and Flux wait.
//!
//! Owns the question, and the comparison with the objects of `docs/argocd/recorded`. Never: what conditions are to say; each test does.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::brokers::{Brokers, SOON};
use crate::environment::Environment;
use crate::wait;

/// What both make of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It is as wished.
    Healthy,
    /// It goes on by itself.
    Progressing,
    /// A person has to do something.
    Degraded,
    /// It is being deleted.
    Going,
}

impl Health {
    /// As the first line of a recorded object has it.
    fn told(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy, kstatus: Current",
            Self::Progressing => "Progressing, kstatus: InProgress",
            Self::Degraded => "Degraded, kstatus: Failed",
            Self::Going => "Progressing, kstatus: Terminating",
        }
    }
}

/// Of a condition: type, status and reason. Messages name objects, and numbers.
type Gist = (String, String, String);

impl Brokers {
    /// An error unless both make this of a resource, such as `flt/orders.v1`, as it is now.
    pub fn check_health(&self, resource: &str, health: Health) -> Result<()> {
        let object = self.get(resource)?;
        let made = judged(self.environment, &object)?;
        let expected = health.told();
        ensure!(made == expected, "{resource}: argo: {made}; not {expected}: {}", object["status"]);
        Ok(())
    }

    /// Waits until both make this of a resource.
    pub fn await_health(&self, resource: &str, health: Health) -> Result<()> {
        let what = format!("{resource}: argo: {}", health.told());
        wait::until(&what, SOON, || self.check_health(resource, health).map(Some))
    }

    /// Waits until a resource has the conditions of a recorded object (`cluster-ready`), and both make of it what they make of that: what
    /// is recorded is of today.
    pub fn await_as_recorded(&self, resource: &str, recorded: &str) -> Result<()> {
        let file = folder().join(format!("recorded/{recorded}.yaml"));
        let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        let expected = expected(&text).with_context(|| format!("{}: its first line", file.display()))?;
        let kept: Value = serde_yaml::from_str(&text)?;
        wait::until(&format!("{resource} is as {recorded}"), SOON, || {
            let object = self.get(resource)?;
            let (now, kept) = (gists(&object), gists(&kept));
            ensure!(now == kept, "{resource} has {now:?}, and recorded as {recorded} is {kept:?}");
            let made = judged(self.environment, &object)?;
            ensure!(made == expected, "{resource}: argo: {made}; recorded as {recorded} is {expected}");
            Ok(Some(()))
        })
    }
}

/// Where the health check is, and what was recorded.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/argocd")
}

/// What both are to make of a recorded object: its first line is `# argo: Healthy, kstatus: Current`.
pub fn expected(recorded: &str) -> Option<&str> {
    recorded.lines().next()?.strip_prefix("# argo: ")
}

/// What both make of an object, as in that line.
pub fn judged(environment: &Environment, object: &Value) -> Result<String> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(object.to_string().as_bytes())?;
    let (script, object) = (folder().join("health.lua"), file.path());
    let status = |verb: &str, files: &[&Path]| -> Result<String> {
        let paths = files.iter().map(|path| path.to_str().context("the path of a file is UTF-8"));
        let paths = paths.collect::<Result<Vec<_>>>()?;
        let verdicts = environment.judge(&[&[verb], &paths[..]].concat())?;
        let status = verdicts[0]["status"].as_str();
        Ok(status.with_context(|| format!("judge {verb} gives no status: {verdicts}"))?.to_owned())
    };
    Ok(format!(
        "{}, kstatus: {}",
        status("argo", &[script.as_path(), object])?,
        status("kstatus", &[object])?
    ))
}

/// In their order. How nodes are labelled is not ours.
fn gists(object: &Value) -> Vec<Gist> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .filter(|condition| condition["type"] != "ZonesKnown")
        .map(|condition| (text(&condition["type"]), text(&condition["status"]), text(&condition["reason"])))
        .collect()
}
