use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    config: Config,
}

fn parse(extra: &[&str]) -> Result<Config, String> {
    let base = ["broker", "--name", "orders-2", "--data", "/data", "--tls", "/tls"];
    Line::try_parse_from(base.iter().chain(extra)).map(|line| line.config).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_the_documented_ports() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.name.ordinal, Ordinal(2));
    assert_eq!(config.grpc_address.port(), 50051);
    assert_eq!(config.http_address.port(), 8080);
    assert_eq!(config.internal_address.port(), 50052);
    assert_eq!(config.gossip_address.port(), 7946);
    assert_eq!(config.memory_limit, 512 << 20);
    assert_eq!(config.shutdown_grace, Duration::from_mins(2));
}

#[test]
fn a_wrong_value_names_its_flag_and_what_is_allowed() {
    for (flag, value, allowed) in [
        ("--name", "orders", "ends with a dash and its number"),
        ("--name", "orders-70000", "0 to 65535"),
        ("--memory-limit", "1Mi", "at least 128 Mi"),
        ("--memory-limit", "512MB", "such as 512Mi"),
        ("--journal-slot-size", "20000000", "a multiple of 4 Ki"),
        ("--shutdown-grace", "2h", "at most 60m"),
        ("--seeds", "orders-brokers", "HOST:PORT"),
        ("--cors-allow-origins", "https://shop.example/", "without a path or a slash at its end"),
        ("--otlp-endpoint", "https://otel:4317", "http://HOST:4317 is needed"),
        ("--log-format", "xml", "possible values: text, json"),
    ] {
        let error = if flag == "--name" {
            Line::try_parse_from(["broker", "--data", "/d", "--tls", "/t", flag, value])
                .unwrap_err()
                .to_string()
        } else {
            parse(&[flag, value]).unwrap_err()
        };
        assert!(error.contains(flag) && error.contains(allowed), "{flag} {value}: {error}");
    }
}

#[test]
fn an_unknown_flag_is_refused() {
    assert!(parse(&["--replicas", "3"]).unwrap_err().contains("unexpected argument '--replicas'"));
}

#[test]
fn seeds_are_addresses_or_names() {
    let config =
        parse(&["--seeds", "10.0.0.1:7946,orders-brokers.ns.svc.cluster.local.:7946,[::1]:7"]).unwrap();
    let named = Seed::Host { host: "orders-brokers.ns.svc.cluster.local.".to_owned(), port: 7946 };
    assert_eq!(
        config.seeds,
        [Seed::Address("10.0.0.1:7946".parse().unwrap()), named, Seed::Address("[::1]:7".parse().unwrap())]
    );
}
