//! What a test that was ended by force left behind: guards put everything right when a test fails, but none is dropped when its
//! process is killed. So each test looks before it begins. It is said aloud, and is no part of any promise.

use anyhow::{Result, bail};

use crate::environment::Environment;
use crate::labels;
use crate::nodes::Cut;

/// Starts what is down, lets all packets pass, lets pods come to all nodes, and puts these into their zones. Only in xtask's own cluster, and
/// only if tests run one at a time: else it is another test that has taken something away just now.
pub(crate) fn put_right(environment: &Environment) -> Result<()> {
    let Ok(nodes) = environment.nodes() else { return Ok(()) };
    if std::env::var("NEXTEST_TEST_THREADS").is_ok_and(|threads| threads != "1") {
        return Ok(());
    }
    for cut in Cut::mend_all()? {
        println!("left by an earlier test, and mended: packets were dropped, {cut}");
    }
    for component in nodes.start_all()? {
        println!("left by an earlier test, and mended: {component} was down");
    }
    // One question for all: it is asked before every test.
    let node = "{.metadata.name},{.spec.unschedulable},{.metadata.labels.topology\\.kubernetes\\.io/zone},{.spec.taints[*].key}";
    let template = format!("jsonpath={{range .items[*]}}{node}{{\"\\n\"}}{{end}}");
    for line in environment.kubectl(&["get", "nodes", "-o", &template])?.lines() {
        let [node, cordoned, zone, taints] = line.split(',').collect::<Vec<_>>()[..] else {
            bail!("kubectl said {line:?} of a node");
        };
        if cordoned == "true" {
            println!("left by an earlier test, and mended: {node} took no pods");
            environment.kubectl(&["uncordon", node])?;
        }
        if taints.split(' ').any(|key| key == labels::DEDICATED) {
            println!("left by an earlier test, and mended: {node} was dedicated");
            labels::untaint(environment, node)?;
        }
        if zone != labels::home(node) {
            println!("left by an earlier test, and mended: {node} was in zone {zone:?}");
            labels::put(environment, node, labels::ZONE, Some(&labels::home(node)))?;
        }
    }
    Ok(())
}
