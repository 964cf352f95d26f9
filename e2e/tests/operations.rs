//! Promise: what docs/operations.md and the runbook in docs/alerts.md tell a person to type works, line by line, in its order.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use fulmar_e2e::brokers::{Brokers, READY_WITHIN};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::{installation, wait};

const PAGE: &str = include_str!("../../docs/operations.md");
const RUNBOOK: &str = include_str!("../../docs/alerts.md");
const EXAMPLE: &str = include_str!("../../examples/orders.yaml");
const EXAMPLE_PATH: &str = "examples/orders.yaml";

/// The lines of the blocks marked `sh`.
fn commands(page: &'static str) -> Vec<&'static str> {
    let mut commands = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside => commands.push(command),
            _ => {}
        }
    }
    commands
}

/// What a person sees who types it; and types it once more if a pod that was deleted a moment ago is not there again yet, or if the
/// machine was too busy for the line's own patience.
fn typed(brokers: &Brokers, words: &[&str]) -> anyhow::Result<String> {
    wait::until(&words.join(" "), READY_WITHIN, || match brokers.kubectl(words) {
        Err(error) if words[0] == "wait" && passes(&format!("{error:#}")) => Err(error),
        outcome => Ok(Some(outcome)),
    })?
}

fn passes(said: &str) -> bool {
    said.contains("NotFound") || said.contains("timed out waiting for the condition")
}

/// Types a line; gives what it printed.
fn type_line(brokers: &Brokers, example: &str, command: &str) -> String {
    // Nothing on these pages needs quotes but for the shell's sake.
    let words = command.split_whitespace().map(|word| word.trim_matches('\''));
    let words: Vec<&str> = words.map(|word| if word == EXAMPLE_PATH { example } else { word }).collect();
    let printed = match words[0] {
        // The name of a plugin is the first word.
        "kubectl" if words[1] == "fulmar" => {
            let place = ["--namespace", brokers.namespace()];
            Environment::get().and_then(|it| it.run_plugin(&[&words[2..], &place].concat()))
        }
        "kubectl" => typed(brokers, &words[1..]),
        "fulmar" => asked(brokers, &words[1..]),
        other => panic!("{other}: {command}"),
    };
    let printed = printed.unwrap_or_else(|error| panic!("{command}: {error:#}"));
    println!("$ {command}\n{printed}");
    printed
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
fn every_line_of_the_runbook_works() {
    let brokers = Brokers::apply("runbook", EXAMPLE).unwrap();
    brokers.await_ready("flt/orders.v1").unwrap();
    let commands = commands(RUNBOOK);
    assert!(commands.len() > 25, "the page has blocks marked sh");
    for command in commands {
        type_line(&brokers, "", command);
    }
}

#[test]
fn every_line_of_the_operations_page_works() {
    let brokers = Brokers::apply("operations", EXAMPLE).unwrap();
    let example = brokers.path_of(EXAMPLE_PATH, EXAMPLE).unwrap();
    let commands = commands(PAGE);
    assert!(commands.len() > 30, "the page has blocks marked sh");
    let mut replaced = None;
    for command in commands {
        let deleted = command.strip_prefix("kubectl delete pvc ").map(|rest| rest.split(' ').next().unwrap());
        if let Some(claim) = deleted {
            let uid = brokers.kubectl(&["get", "pvc", claim, "-o", "jsonpath={.metadata.uid}"]).unwrap();
            replaced = Some((claim, uid));
        }
        type_line(&brokers, &example, command);
        if command.starts_with("kubectl delete pod")
            && let Some((claim, uid)) = replaced.take()
        {
            await_other_claim(&brokers, claim, &uid).unwrap();
        }
        // What the condition says at once may be from before the roll, and the next lines are for brokers that are well.
        if command.contains("condition=RolloutComplete") {
            brokers.await_rolled().unwrap();
        }
    }
    installation::scale(Environment::get().unwrap(), 1).unwrap();
}
