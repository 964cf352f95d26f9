//! What an operator wrote for a Cluster, as text, without what differs between two lives of the same Cluster: identities, versions,
//! times, tenures and keys.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use crate::brokers::{Brokers, NAME};
use crate::wait;

/// What was written: a line each.
pub type Remains = BTreeSet<String>;

/// A life comes to what it comes to by then, though the operator died a hundred times meanwhile; each restart takes less than a second.
const SETTLED_WITHIN: Duration = Duration::from_mins(4);

/// What a calm life has come to when nothing of it has changed for so long: longer than two writes of one status are apart.
const CALM: Duration = Duration::from_secs(9);

/// All kinds of objects that it writes.
const KINDS: &str = "flc,flt,partitiontables,sts,svc,sa,secret,pdb,netpol,pvc";

/// Fields that another object of the same contents has otherwise.
const OF_ONE_LIFE: [&str; 12] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "clusterIP",
    "clusterIPs",
    "volumeName",
    "clusterId",
    "controllerEpoch",
    "lines",
];

/// With it a certificate ends.
const PEM_END: &str = "-----END CERTIFICATE-----";

/// Words of a partition table's lines that say who decided when, and for which life of a volume.
const OF_ONE_TENURE: [&str; 5] = ["epoch", "changed", "session", "boot", "volume"];

impl Brokers {
    /// What was written, once it is what is expected; or, if nobody knows, once it does not change any more.
    pub fn settled(&self, expected: Option<&Remains>) -> Result<Remains> {
        if let Some(expected) = expected {
            return wait::until("what was written is what is written undisturbed", SETTLED_WITHIN, || {
                let remains = self.remains()?;
                let missing: Vec<_> = expected.difference(&remains).collect();
                let surplus: Vec<_> = remains.difference(expected).collect();
                ensure!(
                    missing.is_empty() && surplus.is_empty(),
                    "missing: {missing:#?}\nsurplus: {surplus:#?}"
                );
                Ok(Some(remains))
            });
        }
        wait::until("nothing is under way, and nothing changes any more", SETTLED_WITHIN, || {
            let remains = self.remains()?;
            thread::sleep(CALM);
            // Without its Cluster a Topic waits, for ever; nobody is at work.
            let has_cluster = remains.iter().any(|line| line.starts_with("\"Cluster\""));
            let is_over =
                !has_cluster || !remains.iter().any(|line| line.contains("\"Reconciling\"=\"True\""));
            Ok(Some(remains).filter(|before| is_over && self.remains().is_ok_and(|now| now == *before)))
        })
    }

    /// A line for each object that is the Cluster's or a Topic: what it says, and the status of its conditions; and who is trusted.
    pub fn remains(&self) -> Result<Remains> {
        let text = self.kubectl(&["get", KINDS, "-o", "json"])?;
        // Addresses name the namespace.
        let text = text.replace(self.namespace(), "NAMESPACE");
        let listed: Value = serde_json::from_str(&text).context("kubectl printed no JSON")?;
        let (mut topics, mut met) = (Vec::new(), Vec::new());
        let items = listed["items"].as_array().context("a list")?;
        let ours: Vec<&Value> = items.iter().filter(|item| is_ours(item)).collect();
        let mut remains: Remains = ours.iter().map(|item| shown((*item).clone(), &mut topics)).collect();
        remains.extend(ours.iter().filter_map(|item| authorities(item, &mut met)));
        // On which pages they are is a matter of the order in which they came.
        remains.extend(topics);
        Ok(remains)
    }
}

/// What Kubernetes itself puts into each namespace is not.
fn is_ours(item: &Value) -> bool {
    item["kind"] == "Topic"
        || item["metadata"]["name"] == NAME
        || item["metadata"]["labels"]["app.kubernetes.io/instance"] == NAME
}

fn shown(mut item: Value, topics: &mut Vec<String>) -> String {
    if item["kind"] == "PartitionTable" {
        topics.extend(table(&item["spec"]["lines"]));
    }
    let conditions = item["status"]["conditions"].as_array().into_iter().flatten();
    let mut conditions: Vec<String> =
        conditions.map(|condition| format!("{}={}", condition["type"], condition["status"])).collect();
    conditions.sort();
    // Of other kinds it is Kubernetes' own.
    let conditions =
        if item["apiVersion"] == "fulmar.dev/v1alpha1" { conditions.join(" ") } else { String::new() };
    if let Some(fields) = item.as_object_mut() {
        fields.remove("status");
    }
    strip(&mut item);
    format!("{} {} {item} {conditions}", item["kind"], item["metadata"]["name"])
}

/// Takes out what is of one life; of annotations and of Secrets the names stay.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in OF_ONE_LIFE {
                fields.remove(field);
            }
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::Object(texts) if name == "annotations" || name == "data" => forget_values(texts),
                    other => strip(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn forget_values(texts: &mut Map<String, Value>) {
    texts.values_mut().for_each(|text| *text = Value::Null);
}

/// Which CAs a Secret keeps, each by its place among all that were `met`. Their keys are of one life; that brokers trust the one that
/// signs, and no other, is not.
fn authorities(item: &Value, met: &mut Vec<String>) -> Option<String> {
    let kept = item["data"].get("ca.crt")?.clone();
    let kept: ByteString = serde_json::from_value(kept).ok()?;
    let mut places = Vec::new();
    for certificate in String::from_utf8_lossy(&kept.0).split_inclusive(PEM_END).map(str::trim) {
        if !certificate.is_empty() {
            let place = met.iter().position(|other| other == certificate);
            places.push(place.unwrap_or_else(|| {
                met.push(certificate.to_owned());
                met.len() - 1
            }));
        }
    }
    Some(format!("{} {} keeps CAs {places:?}", item["kind"], item["metadata"]["name"]))
}

/// Each line of a page or of the root without identities; that of a partition with its topic's name.
fn table(lines: &Value) -> Vec<String> {
    let mut topic = String::new();
    let mut shown = Vec::new();
    for line in lines.as_array().into_iter().flatten().filter_map(Value::as_str) {
        let words: Vec<String> = line.split_whitespace().filter_map(anonymous).collect();
        match words.first().map(String::as_str) {
            Some("format" | "controllerEpoch" | "cluster" | "replica" | "pages") | None => continue,
            Some("topic") => topic = words.get(1).cloned().unwrap_or_default(),
            Some(_) => {}
        }
        shown.push(format!("table {topic}: {}", words.join(" ")));
    }
    shown
}

/// `None`: an identity, or of one tenure.
fn anonymous(word: &str) -> Option<String> {
    let of_one_tenure = |(key, _): (&str, &str)| OF_ONE_TENURE.contains(&key);
    let is_uuid = word.len() == 36 && word.split('-').count() == 5;
    if is_uuid || word.split_once('=').is_some_and(of_one_tenure) {
        return None;
    }
    // A broker and the life of its volume.
    Some(word.split(':').next().unwrap_or(word).to_owned())
}

#[cfg(test)]
#[path = "remains_tests.rs"]
mod tests;
