//! `fulmar-broker`: a broker, or a look at what a volume holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use fulmar_broker::Config;

#[derive(Debug, Parser)]
#[command(name = "fulmar-broker", version, about = "A broker of Fulmar", subcommand_negates_reqs = true)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    /// Stop, as by SIGTERM, when standard input ends: with the process that started this one, whatever killed it
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    #[command(flatten)]
    config: Option<Config>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what a volume holds, without changing it
    Inspect {
        /// The data folder of a broker that is stopped
        data: PathBuf,
        /// How to print it
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Show or change what the broker in this pod, or on this machine, logs
    LogLevel {
        #[command(flatten)]
        ask: fulmar_logging::Ask,
        /// Where it answers HTTP
        #[arg(long, env = "FULMAR_HTTP_ADDRESS", default_value = "127.0.0.1:8080")]
        http_address: SocketAddr,
    },
    /// Print the records that were set aside on a volume when a person gave them up, an object of JSON a line
    SetAside {
        /// The data folder of a broker that is stopped
        data: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let ended = match (line.command, line.config) {
        (Some(Command::Inspect { data, output }), _) => inspect(&data, output),
        (Some(Command::SetAside { data }), _) => set_aside(&data),
        (Some(Command::LogLevel { ask, http_address }), _) => log_level(&ask, http_address),
        (None, Some(config)) => run(config, line.stop_with_stdin),
        (None, None) => Err("--name, --data and --tls are needed; see --help".to_owned()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn run(config: Config, stop_with_stdin: bool) -> Result<(), String> {
    fulmar_logging::install(config.log_format.into(), config.log_level.clone(), &[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
    let ended = runtime.block_on(async {
        let shutdown = fulmar_broker::shutdown(stop_with_stdin).map_err(|error| error.to_string())?;
        fulmar_broker::run(config, shutdown).await.map_err(|error| error.to_string())
    });
    // A thread that hangs in the disk must not hold the process.
    runtime.shutdown_background();
    ended
}

#[expect(clippy::print_stdout, reason = "it is what the command is for")]
fn inspect(data: &std::path::Path, output: Output) -> Result<(), String> {
    let report = fulmar_broker::storage::inspect::inspect(data).map_err(|error| error.to_string())?;
    match output {
        Output::Text => print!("{report}"),
        Output::Json => println!("{:#}", fulmar_broker::inspection::json(&report)),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what the command is for")]
fn log_level(ask: &fulmar_logging::Ask, address: SocketAddr) -> Result<(), String> {
    print!("{}", ask.run(address).map_err(|error| error.to_string())?);
    Ok(())
}

fn set_aside(data: &std::path::Path) -> Result<(), String> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = fulmar_broker::inspection::write_set_aside(data, &mut out);
    let (_, damaged) = written.map_err(|error| error.to_string())?;
    if damaged > 0 {
        return Err(format!("{damaged} stretches cannot be read: the lines with damaged_from"));
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the last word of a process that did not get to log")]
fn fail(error: &str) -> ExitCode {
    eprintln!("fulmar-broker: {error}");
    ExitCode::FAILURE
}
