//! What can be said of the commands without a broker: help, arguments, exit codes, first contact.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Output;

use assert_cmd::Command;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar"));
    command.env_remove("FULMAR_SERVER").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs what must fail, and gives what it said.
fn refused(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{arguments:?} wrote to standard output");
    error
}

#[test]
fn every_command_has_help() {
    let commands: [&[&str]; 17] = [
        &[],
        &["dev"],
        &["publish"],
        &["consume"],
        &["topic"],
        &["topic", "list"],
        &["topic", "describe"],
        &["cluster", "status"],
        &["discover"],
        &["cluster", "log-level"],
        &["broker"],
        &["broker", "log-level"],
        &["support-bundle"],
        &["broker", "inspect"],
        &["bench"],
        &["completion"],
        &["man"],
    ];
    for command in commands {
        let output = run(&[command, &["--help"]].concat());
        assert!(output.status.success(), "{command:?}");
        assert!(text(&output.stdout).contains("Usage: fulmar"), "{command:?}");
    }
    let help = text(&run(&["--help"]).stdout);
    assert!(help.contains("Exit codes:"), "{help}");
    let help = text(&run(&["broker", "--help"]).stdout);
    assert!(help.contains("inspect") && !help.contains("  run"), "{help}");
}

#[test]
fn arguments_that_make_no_sense_are_named_and_end_with_2() {
    let cases: [(&[&str], &str); 30] = [
        (&[], "Usage"),
        (&["pubish"], "publish"),
        (&["publish"], "<TOPIC>"),
        (&["publish", "t", "v", "--keyy", "k"], "--key"),
        (&["publish", "t", "v", "--file", "f"], "--file"),
        (&["publish", "t", "v", "--header", "h"], "NAME=VALUE"),
        (&["publish", "t", "v", "--timeout", "soon"], "--timeout"),
        (&["publish", "t", "v", "--rate", "0"], "--rate"),
        (&["publish", "t", "v", "--input", "json", "--key", "k"], "--key"),
        (&["publish", "t", "v", "--input", "yaml"], "possible values: value, json"),
        (&["publish", "t", "v", "--compression", "gzip"], "possible values: none, lz4, snappy, zstd"),
        (&["consume", "t", "--from", "yesterday"], "earliest, latest"),
        (&["consume", "t", "-o", "xml"], "possible values: value, json, raw"),
        (&["topic", "list", "--server", "ftp://x"], "the scheme is http"),
        (&["dev"], "--file <FILE>"),
        (&["broker", "log-level", "debgu"], "directive 1, \"debgu\", is neither a level"),
        (&["cluster", "log-level", "debug", "--for", "soon"], "--for"),
        (&["support-bundle", "--since", "yesterday"], "--since"),
        (&["support-bundle", "--dev", "/nowhere"], "it is no folder of a fulmar dev"),
        (&["publish", "", "v"], "<TOPIC>"),
        (&["bench", "t", "--against", "localhost"], "it is no URL"),
        (&["bench", "t", "--against", "kafka://k:9092"], "allowed are nats and redis"),
        (&["bench", "t", "--against", "nats://n:1?replicas=6"], "allowed is 1 to 5"),
        (&["bench", "t", "--against", "redis://r:1/first"], "the number of a database"),
        (&["bench", "t", "--against", "nats://n:1#a", "--against", "nats://n:1#b"], "is given twice"),
        (&["bench", "t", "--duration", "1h"], "allowed is 100ms to 10m"),
        (&["bench", "t", "--rounds", "0"], "1..=100"),
        (&["bench", "t", "--size", "15"], "end-to-end needs at least 16"),
        (&["bench", "t", "--work", "publish"], "publish-batched"),
        (&["consume", ""], "<TOPIC>"),
    ];
    for (arguments, said) in cases {
        let error = refused(2, arguments);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn an_environment_that_makes_no_sense_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar"));
    let output = command.env("FULMAR_SERVER", "localhost").args(["topic", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("the port is missing"));
}

#[test]
fn no_broker_is_said_in_one_line_and_ends_with_3() {
    let server = ["--server", "http://127.0.0.1:1", "--request-timeout", "300ms"];
    let commands: [&[&str]; 7] = [
        &["publish", "t", "v"],
        &["consume", "t"],
        &["topic", "list"],
        &["topic", "describe", "t"],
        &["cluster", "status"],
        &["cluster", "status", "--watch"],
        &["discover"],
    ];
    for command in commands {
        let error = refused(3, &[command, &server].concat());
        assert!(error.starts_with("fulmar: no broker answers at http://127.0.0.1:1"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_rival_that_is_not_there_is_named_with_3() {
    for rival in ["nats://127.0.0.1:1", "redis://127.0.0.1:1"] {
        let error = refused(3, &["bench", "t", "--against", rival]);
        assert!(error.starts_with(&format!("fulmar: {rival}: ")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("man1");
    assert!(run(&["man", folder.to_str().unwrap()]).status.success());
    for (page, says) in
        [("fulmar", "Exit codes"), ("fulmar-publish", "TOPIC"), ("fulmar-topic-list", "server")]
    {
        let page = std::fs::read_to_string(folder.join(format!("{page}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains(says), "{page}");
    }
    assert!(!folder.join("fulmar-broker-run.1").exists(), "what is hidden in the help is hidden here");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = refused(1, &["man", file.to_str().unwrap()]);
    assert!(error.contains("cannot write manual pages into"), "{error}");
}

#[test]
fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell]);
        let script = text(&output.stdout);
        assert!(
            output.status.success() && script.contains("consume") && script.contains("until-end"),
            "{shell}"
        );
    }
    assert!(refused(2, &["completion", "tcsh"]).contains("possible values: bash, zsh, fish"));
}

#[test]
fn a_kubectl_that_is_not_there_ends_a_bundle_before_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.tar.gz");
    let output = ["support-bundle", "--kubectl", "/nowhere/kubectl", "-o", file.to_str().unwrap()];
    let error = refused(3, &output);
    assert!(error.contains("/nowhere/kubectl cannot be run") && error.lines().count() == 1, "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let error = refused(1, &["cluster", "log-level", "--kubectl", "/nowhere/kubectl"]);
    assert!(error.contains("/nowhere/kubectl cannot be run"), "{error}");
}

#[test]
fn nothing_that_answers_is_said_of_a_log_level_with_3() {
    let error = refused(3, &["broker", "log-level", "--http-address", "127.0.0.1:1"]);
    assert!(error.contains("nothing answers HTTP at 127.0.0.1:1"), "{error}");
}
