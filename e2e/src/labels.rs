//! Labels and taints of nodes that a test changes, such as the zone that they are in. They are as they were when the guard is dropped, so
//! that a failed test leaves the next one the nodes that it counts on.

use anyhow::Result;

use crate::environment::Environment;

/// What names the zone of a node, unless a Cluster says otherwise.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// A node with another label until this is dropped.
#[derive(Debug)]
pub struct Relabelled {
    environment: &'static Environment,
    node: String,
    key: &'static str,
    before: Option<String>,
}

impl Relabelled {
    /// Gives a node a label, in the place of the one of this key. Only in xtask's own cluster: nobody else's nodes are changed.
    pub fn new(node: &str, key: &'static str, value: &str) -> Result<Self> {
        let environment = Environment::get()?;
        environment.nodes()?;
        let before = label(node, key)?;
        // First, so that what is half done is put back, too.
        let relabelled = Self { environment, node: node.to_owned(), key, before };
        relabelled.set(Some(value))?;
        Ok(relabelled)
    }

    /// Which node it is.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Gives it another value; `None`: the node has no label of this key.
    pub fn set(&self, value: Option<&str>) -> Result<()> {
        put(self.environment, &self.node, self.key, value)
    }
}

impl Drop for Relabelled {
    fn drop(&mut self) {
        if let Err(error) = self.set(self.before.as_deref()) {
            eprintln!("{} keeps another {}, the next tests will suffer: {error:#}", self.node, self.key);
        }
    }
}

/// The only key of taints that tests give to nodes.
pub const DEDICATED: &str = "dedicated";

/// A node that is dedicated to pods that tolerate it, until this is dropped.
#[derive(Debug)]
pub struct Tainted {
    environment: &'static Environment,
    node: String,
}

impl Tainted {
    /// No pod comes to this node that does not tolerate `dedicated=VALUE`. Only in xtask's own cluster.
    pub fn new(node: &str, value: &str) -> Result<Self> {
        let environment = Environment::get()?;
        environment.nodes()?;
        let tainted = Self { environment, node: node.to_owned() };
        let taint = format!("{DEDICATED}={value}:NoSchedule");
        environment.kubectl(&["taint", "node", node, &taint, "--overwrite"])?;
        Ok(tainted)
    }
}

impl Drop for Tainted {
    fn drop(&mut self) {
        if let Err(error) = untaint(self.environment, &self.node) {
            eprintln!("{} stays dedicated, the next tests will suffer: {error:#}", self.node);
        }
    }
}

/// Takes the taint away, which must be there.
pub(crate) fn untaint(environment: &Environment, node: &str) -> Result<()> {
    environment.kubectl(&["taint", "node", node, &format!("{DEDICATED}-")]).map(drop)
}

/// A label of a node, if it has it.
pub fn label(node: &str, key: &str) -> Result<Option<String>> {
    let found = Environment::get()?.get_json(&["node", node])?;
    Ok(found["metadata"]["labels"][key].as_str().map(str::to_owned))
}

/// The zone of a node of xtask's own cluster: `zone-2` of `node2` (`kubernetes/inside/node`).
pub(crate) fn home(node: &str) -> String {
    node.replace("node", "zone-")
}

pub(crate) fn put(environment: &Environment, node: &str, key: &str, value: Option<&str>) -> Result<()> {
    let label = value.map_or_else(|| format!("{key}-"), |value| format!("{key}={value}"));
    environment.kubectl(&["label", "node", node, &label, "--overwrite"]).map(drop)
}
