//! Promise: what docs/operations.md and the runbook in docs/alerts.md tell a person to type works, line by line, in its order. What another
//! test types it takes from the page; of what nobody types it stands here why.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::page::{self, Beside};
use fulmar_e2e::{installation, wait};

const RUNBOOK: &str = include_str!("../../docs/alerts.md");
const EXAMPLE: &str = include_str!("../../examples/orders.yaml");
const EXAMPLE_PATH: &str = "examples/orders.yaml";

/// Nobody waits for ever.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);

/// Lines that other tests take from the page, where they have what they need: files with their text, and how the lines begin.
const ELSEWHERE: [(&str, &str, &[&str]); 9] = [
    (
        "src/installation.rs",
        include_str!("../src/installation.rs"),
        &["helm install fulmar ", "helm uninstall fulmar "],
    ),
    ("versions.rs", include_str!("versions.rs"), &["helm upgrade fulmar ", "helm rollback fulmar "]),
    ("releases.rs", include_str!("releases.rs"), &["helm install other ", "kubectl delete crd "]),
    (
        "deletions.rs",
        include_str!("deletions.rs"),
        &[r#"kubectl patch flt orders.v1 --type=merge -p '{"metadata""#],
    ),
    ("drains.rs", include_str!("drains.rs"), &["kubectl drain ", "kubectl uncordon "]),
    (
        "scale.rs",
        include_str!("scale.rs"),
        &[
            "kubectl scale flc/orders --replicas=5",
            "kubectl get flc orders --watch",
            "kubectl wait --for=condition=Balanced ",
            "kubectl scale flc/orders --replicas=3",
            "kubectl wait --for=delete pod/orders-4 ",
        ],
    ),
    (
        "released.rs",
        include_str!("released.rs"),
        &[
            r#"kubectl patch flc orders --type=merge -p '{"spec": {"storage": {"whenScaled""#,
            "kubectl wait --for=delete pvc/data-orders-4 ",
            r#"kubectl get flc orders -o jsonpath='{.status.conditions[?(@.type=="VolumesReleased""#,
            "kubectl delete pvc data-orders-4",
        ],
    ),
    ("unclean.rs", include_str!("unclean.rs"), &["kubectl --namespace shop annotate "]),
    (
        "volumes.rs",
        include_str!("volumes.rs"),
        &[
            r#"kubectl patch flc orders --type=merge -p '{"spec": {"storage": {"size""#,
            "kubectl wait --for=jsonpath='{.status.storageCapacity}'",
            "kubectl wait --for=condition=VolumesSized ",
            r#"kubectl get flc orders -o jsonpath='{.status.conditions[?(@.type=="DiskPressure""#,
        ],
    ),
];

/// It ends what the lines before it are about, so it is typed last, after the Cluster was deleted.
const LAST: &str = "kubectl delete pvc,partitiontables -l app.kubernetes.io/instance=orders";

/// What stands on the page and nobody types, and why.
const NOT_TYPED: [(&str, &str); 8] = [
    ("kubectl fulmar", "the name of a program"),
    ("fulmar dev", "the name of a program, that of laptops: cli/tests/dev_cluster.rs"),
    ("helm template", "what others do: chart.rs"),
    ("kubectl scale statefulset", "what nobody should do"),
    ("fulmar topic describe", "with `fulmar dev`: cli/tests/dev_losses.rs"),
    ("fulmar-broker inspect", "of a volume whose broker is stopped: cli/tests/dev_losses.rs"),
    ("fulmar-broker set-aside", "of a volume whose broker is stopped: cli/tests/dev_losses.rs"),
    ("fulmar-broker inspect /data", "of a volume whose broker is stopped: broker/tests/one_broker.rs"),
];

/// What a person sees, a moment later at the most, who types a line that begins like this.
const SEEN: [(&str, &str); 14] = [
    ("helm show values ", "partitionTablePolicy:"),
    ("kubectl get fulmar", "OPERATION"),
    ("kubectl get flt", "UNDERREPLICATED"),
    ("kubectl describe flc orders", "RolloutComplete"),
    ("kubectl describe flt orders.v1", "0 leader="),
    ("kubectl get partitiontables -o yaml", "epoch="),
    ("kubectl fulmar topic describe orders.v1", "in_sync"),
    ("kubectl explain clusters.fulmar.dev.spec", "rebalance"),
    ("kubectl explain topics.fulmar.dev.spec", "deletionPolicy"),
    ("kubectl exec orders-0 -- /fulmar-broker log-level debug", "debug for "),
    ("kubectl port-forward ", "Forwarding from 127.0.0.1:8080"),
    ("curl ", "debug for "),
    ("kubectl get pods -l ", "orders-2"),
    ("kubectl get events --field-selector=reason=VolumeLost", "VolumeLost"),
];

/// The lines of a page's blocks.
fn lines_of_blocks(page: &'static str) -> impl Iterator<Item = &'static str> {
    page::commands(page).into_iter().filter(|command| command.is_marked).map(|command| command.text)
}

/// Those of the page on operations that are typed here, one after the other.
fn typed_here() -> Vec<&'static str> {
    let lines = lines_of_blocks(page::OPERATIONS);
    lines.filter(|line| *line != LAST && typed_elsewhere(line).is_none()).collect()
}

/// The test that types a line in the place of this one.
fn typed_elsewhere(line: &str) -> Option<&'static str> {
    let types = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
    ELSEWHERE.into_iter().find_map(|(file, _, starts)| types(starts).then_some(file))
}

/// Who types the lines of a page.
struct Person<'a> {
    brokers: &'a Brokers,
    /// Where the example is.
    example: &'a str,
    /// What runs beside, by `&`, until `kill %1`.
    beside: Option<Beside>,
}

impl Person<'_> {
    /// Types a line, and looks at what it prints.
    fn type_line(&mut self, line: &str) {
        let seen = SEEN.iter().find(|(start, _)| line.starts_with(start)).map_or("", |(_, seen)| *seen);
        let (words, example) = (page::words(line).unwrap(), self.example);
        let words = words.iter().map(|word| if word == EXAMPLE_PATH { example } else { word.as_str() });
        let words: Vec<&str> = words.collect();
        let printed = self.run(&words, seen).unwrap_or_else(|error| panic!("{line}: {error:#}"));
        println!("$ {line}\n{printed}");
        assert!(printed.contains(seen), "{line} printed no {seen:?}: {printed}");
    }

    fn run(&mut self, words: &[&str], seen: &str) -> anyhow::Result<String> {
        let environment = Environment::get()?;
        match words {
            // The name of a plugin is the first word.
            ["kubectl", "fulmar", rest @ ..] => {
                environment.run_plugin(&[rest, &["--namespace", self.brokers.namespace()]].concat())
            }
            ["kubectl", rest @ .., "&"] => {
                let beside = self.beside.insert(self.brokers.kubectl_beside(rest)?);
                wait::until("it has begun", SOON, || {
                    let printed = beside.printed();
                    Ok(printed.contains(seen).then(|| printed.to_owned()))
                })
            }
            ["kill", "%1"] => {
                self.beside.take().context("nothing runs beside")?;
                Ok(String::new())
            }
            ["kubectl", rest @ ..] => again(self.brokers, rest, seen),
            ["helm", rest @ ..] => {
                let chart = environment.chart.to_str().context("the chart's path is UTF-8")?;
                let rest = rest.iter().map(|word| if *word == installation::CHART { chart } else { *word });
                environment.helm(&rest.collect::<Vec<_>>())
            }
            ["curl", "-X", method, url, "-d", body] => curl(method, url, body),
            ["fulmar", rest @ ..] => asked(self.brokers, rest),
            _ => bail!("nobody knows how to type it"),
        }
    }
}

/// What a person sees who types a `kubectl`; and types it once more if it is not to be seen yet, if a pod that was deleted a moment ago is
/// not there again yet, or if the machine was too busy for the line's own patience.
fn again(brokers: &Brokers, words: &[&str], seen: &str) -> anyhow::Result<String> {
    wait::until(&words.join(" "), READY_WITHIN, || match brokers.kubectl(words) {
        Err(error) if words[0] == "wait" && passes(&format!("{error:#}")) => Err(error),
        Ok(printed) if !printed.contains(seen) => Err(anyhow!("it printed no {seen:?}: {printed}")),
        outcome => Ok(Some(outcome)),
    })?
}

fn passes(said: &str) -> bool {
    said.contains("NotFound") || said.contains("timed out waiting for the condition")
}

/// What `curl` would print.
fn curl(method: &str, url: &str, body: &str) -> anyhow::Result<String> {
    let (host, path) = url.split_once('/').with_context(|| format!("{url} has no path"))?;
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    let length = body.len();
    write!(stream, "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    Ok(answer)
}

/// `fulmar`, with the namespace of the test as that of the context.
fn asked(brokers: &Brokers, words: &[&str]) -> anyhow::Result<String> {
    let environment = Environment::get()?;
    let bundle = environment.logs.join("operations.tar.gz");
    let mut arguments = words.to_vec();
    if !words.contains(&"--operator") {
        arguments.extend(["--namespace", brokers.namespace()]);
    }
    if words[0] == "support-bundle" {
        arguments.extend(["--output", bundle.to_str().unwrap()]);
    }
    environment.fulmar_with_kubectl(&arguments)
}

/// Until its pod has another claim: one that was made while the old one was still going is deleted once more, as the page says.
fn await_other_claim(brokers: &Brokers, claim: &str, old: &str) -> anyhow::Result<()> {
    wait::until_so(&format!("another {claim}"), READY_WITHIN, || {
        let uid = ["get", "pvc", claim, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}"];
        let now = brokers.kubectl(&uid)?;
        if now == old {
            let pod = claim.trim_start_matches("data-");
            brokers.kubectl(&["delete", "pod", pod, "--wait=false", "--ignore-not-found"])?;
        }
        Ok(!now.is_empty() && now != old)
    })
}

#[test]
fn every_command_of_the_operations_page_is_typed_by_a_test_or_it_stands_here_why_not() {
    let commands = page::commands(page::OPERATIONS);
    let is_there = |text: &str| commands.iter().any(|command| command.text == text);
    for (text, why) in NOT_TYPED {
        assert!(is_there(text), "the page says nothing of {text:?} any more: {why}");
    }
    assert!(commands.iter().any(|command| command.is_marked && command.text == LAST), "{LAST}");
    for (file, source, starts) in ELSEWHERE {
        for start in starts {
            page::line(start).unwrap();
            assert!(source.contains(start), "e2e/{file} types {start:?} no more");
        }
    }
    let here = typed_here();
    for text in commands.iter().map(|command| command.text) {
        let is_typed = here.contains(&text) || text == LAST || typed_elsewhere(text).is_some();
        let is_excused = NOT_TYPED.iter().any(|(excused, _)| *excused == text);
        assert!(
            is_typed != is_excused,
            "docs/operations.md has {text:?}: put it into a block marked sh, or say here who types it, or why nobody does"
        );
    }
}

#[test]
fn every_line_of_the_runbook_works() {
    let brokers = Brokers::apply("runbook", EXAMPLE).unwrap();
    brokers.await_ready("flt/orders.v1").unwrap();
    let lines: Vec<&str> = lines_of_blocks(RUNBOOK).collect();
    assert!(lines.len() > 25, "the page has blocks marked sh");
    let mut person = Person { brokers: &brokers, example: EXAMPLE_PATH, beside: None };
    for line in lines {
        person.type_line(line);
    }
}

#[test]
fn every_line_of_the_operations_page_works() {
    let brokers = Brokers::apply("operations", EXAMPLE).unwrap();
    let example = brokers.path_of(EXAMPLE_PATH, EXAMPLE).unwrap();
    let mut person = Person { brokers: &brokers, example: &example, beside: None };
    let lines = typed_here();
    assert!(lines.len() > 50, "the page has blocks marked sh");
    let mut replaced = None;
    for line in lines {
        let deleted = line.strip_prefix("kubectl delete pvc ").map(|rest| rest.split(' ').next().unwrap());
        if let Some(claim) = deleted {
            let uid = brokers.kubectl(&["get", "pvc", claim, "-o", "jsonpath={.metadata.uid}"]).unwrap();
            replaced = Some((claim, uid));
        }
        person.type_line(line);
        if line.starts_with("kubectl delete pod")
            && let Some((claim, uid)) = replaced.take()
        {
            await_other_claim(&brokers, claim, &uid).unwrap();
        }
        // What the condition says at once may be from before the roll, and the next lines are for brokers that are well.
        if line.contains("condition=RolloutComplete ") {
            brokers.await_rolled().unwrap();
        }
    }
    installation::scale(Environment::get().unwrap(), 1).unwrap();

    brokers.kubectl(&["delete", "flc/orders", "flt/orders.v1", "--timeout=420s"]).unwrap();
    person.type_line(LAST);
    let left = brokers.kubectl(&["get", "pvc,partitiontables", "-o", "name"]).unwrap();
    assert_eq!(left.trim(), "", "nothing of the Cluster is left");
}
