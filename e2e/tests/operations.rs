//! Promise: what docs/operations.md tells a person to type works, line by line, in its order.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use fulmar_e2e::brokers::{Brokers, READY_WITHIN};
use fulmar_e2e::{installation, wait};

const PAGE: &str = include_str!("../../docs/operations.md");
const EXAMPLE: &str = include_str!("../../examples/orders.yaml");
const EXAMPLE_PATH: &str = "examples/orders.yaml";

/// The lines of the blocks marked `sh`.
fn commands() -> Vec<&'static str> {
    let mut commands = Vec::new();
    let mut inside = false;
    for line in PAGE.lines() {
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

#[test]
fn every_line_of_the_operations_page_works() {
    let brokers = Brokers::apply("operations", EXAMPLE).unwrap();
    let example = brokers.path_of(EXAMPLE_PATH, EXAMPLE).unwrap();
    let commands = commands();
    assert!(commands.len() > 10, "the page has blocks marked sh");
    for command in commands {
        let words: Vec<&str> = command
            .split_whitespace()
            .map(|word| if word == EXAMPLE_PATH { example.as_str() } else { word })
            .collect();
        assert_eq!(words[0], "kubectl", "{command}");
        let printed = typed(&brokers, &words[1..]).unwrap_or_else(|error| panic!("{command}: {error:#}"));
        println!("$ {command}\n{printed}");
        // What the condition says at once may be from before the roll, and the next lines are for brokers that are well.
        if command.contains("condition=RolloutComplete") {
            brokers.await_rolled().unwrap();
        }
    }
    installation::scale(fulmar_e2e::environment::Environment::get().unwrap(), 1).unwrap();
}
