//! `fulmar-operator`: reads its settings and runs.

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let config = fulmar_operator::Config::parse();
    fulmar_operator::run(config)
}
