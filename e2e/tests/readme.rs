//! Promise: the commands of the README work word for word, with the tools that a user has, against any broker, for any topic.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::Duration;

use fulmar_e2e::brokers::Brokers;
use fulmar_e2e::environment::Environment;

const README: &str = include_str!("../../README.md");
const EXAMPLE: &str = include_str!("../../examples/orders.yaml");

/// Nobody waits for ever.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);

/// The line of the README that starts like this.
fn line(start: &str) -> &'static str {
    README
        .lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("the README has no line {start:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_readme_types_on_kubernetes_works_at_every_broker() {
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("readme", EXAMPLE).unwrap();
    let wait = line("kubectl wait");
    let words: Vec<&str> = wait.split_whitespace().skip(1).collect();
    // A machine that is too busy for the line's own patience is no fault of the line.
    for resource in words.iter().filter(|word| word.contains('/')) {
        brokers.await_ready(resource).unwrap();
    }
    brokers.kubectl(&words).unwrap();
    println!("{}", brokers.kubectl(&["get", "fulmar"]).unwrap());

    let grpcurl = line("grpcurl");
    let (_, json) = grpcurl.split_once("-d '").unwrap();
    let (json, rest) = json.split_once('\'').unwrap();
    assert!(rest.ends_with("fulmar.v1.PubSub/Publish"), "{grpcurl}");
    let curl = line("curl");
    let (_, query) = curl.split_once("127.0.0.1:8080").unwrap();
    let query = query.trim_end_matches('\'');
    for ordinal in 0..3 {
        let ip = brokers.pod_ip(ordinal).unwrap();
        let grpc = format!("{ip}:50051");
        let printed =
            environment.grpcurl(&["-plaintext", "-d", json, &grpc, "fulmar.v1.PubSub/Publish"]).unwrap();
        assert!(printed.contains("orders.v1"), "{printed}");
        let printed = environment.grpcurl(&["-plaintext", &grpc, "list"]).unwrap();
        assert!(
            printed.contains("fulmar.v1.PubSub") && printed.contains("grpc.health.v1.Health"),
            "{printed}"
        );
        let answer = http_get(&format!("{ip}:8080"), query);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\"offset\""), "{answer}");
    }
    let server = format!("http://{}:50051", brokers.pod_ip(1).unwrap());
    let read = ["consume", "orders.v1", "--server", &server, "--from", "earliest", "-c", "6", "-o", "value"];
    let printed = environment.binary("fulmar", &read).unwrap();
    assert_eq!(printed.lines().filter(|line| *line == "hello").count(), 6, "{printed}");
    for (start, expected) in
        [("kubectl fulmar publish", "published to orders.v1"), ("kubectl fulmar consume", "hello\n")]
    {
        let words: Vec<&str> = line(start).split_whitespace().skip(2).collect();
        let printed = environment.run_plugin(&[&words[..], &["-n", brokers.namespace()]].concat()).unwrap();
        assert!(printed.starts_with(expected), "{printed}");
    }
}

/// What `curl -i` would print.
fn http_get(host: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
