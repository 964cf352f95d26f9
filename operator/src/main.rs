//! `fulmar-operator`: reads its settings and runs.

use std::net::SocketAddr;

use clap::Parser as _;
use fulmar_operator::Command;

fn main() -> anyhow::Result<()> {
    let line = fulmar_operator::Line::parse();
    match (line.command, line.config) {
        (Some(Command::LogLevel { ask, http_address }), _) => log_level(&ask, http_address),
        (None, Some(config)) => fulmar_operator::run(config),
        (None, None) => {
            anyhow::bail!("--broker-image, --pod-name and --pod-namespace are needed; see --help")
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is what the command is for")]
fn log_level(ask: &fulmar_logging::Ask, address: SocketAddr) -> anyhow::Result<()> {
    print!("{}", ask.run(address)?);
    Ok(())
}
