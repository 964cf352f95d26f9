//! What stands on the command line.
//!
//! Owns the name under which the program is called, and which command takes which of the flags that they share: where one means nothing
//! it is refused, and not shown in the help. Never decides what a flag does.

use std::ffi::OsStr;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory};

use crate::Cli;
use crate::exit::Failed;

/// The name under which the program is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    /// `fulmar`
    Fulmar,
    /// `kubectl fulmar`: kubectl runs a program of the name `kubectl-fulmar`.
    Plugin,
}

impl Called {
    /// By the first word of the command line.
    pub(crate) fn by(word: Option<&OsStr>) -> Self {
        match word.and_then(|word| Path::new(word).file_name()) {
            Some(name) if name == "kubectl-fulmar" => Self::Plugin,
            Some(_) | None => Self::Fulmar,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Fulmar => "fulmar",
            Self::Plugin => "kubectl fulmar",
        }
    }
}

/// The flags that commands share, by their ids; each is the flag's name but for the underscores.
const SHARED: [&str; 7] =
    ["server", "request_timeout", "cluster", "namespace", "context", "kubeconfig", "kubectl"];

/// Those of them that go to kubectl.
pub(crate) const FOR_KUBECTL: [&str; 4] = ["namespace", "context", "kubeconfig", "kubectl"];

/// Which of them a command takes, by its path of words.
fn takes(path: &[&str], flag: &str) -> bool {
    match path {
        // Where no command is named yet, any may follow.
        []
        | ["topic" | "cluster" | "publish" | "consume" | "discover" | "bench"]
        | ["topic", "list" | "describe"]
        | ["cluster", "status"] => true,
        ["cluster", "log-level"] => flag == "cluster" || FOR_KUBECTL.contains(&flag),
        ["support-bundle"] => FOR_KUBECTL.contains(&flag),
        _ => false,
    }
}

/// All commands with their flags, for parsing and for whatever describes them.
pub(crate) fn tree(called: Called) -> Command {
    built(Cli::command().bin_name(called.words()))
}

/// The same for manual pages, which need none of `help`.
pub(crate) fn tree_without_help() -> Command {
    built(Cli::command().disable_help_subcommand(true))
}

fn built(mut command: Command) -> Command {
    // Only what is built has the shared flags at each command.
    command.build();
    hide_what_means_nothing(&mut command, &[]);
    command
}

fn hide_what_means_nothing(command: &mut Command, path: &[&str]) {
    *command = std::mem::take(command).mut_args(|arg| {
        let id = arg.get_id().as_str();
        let is_meaningless = SHARED.contains(&id) && !takes(path, id);
        if is_meaningless { arg.hide(true) } else { arg }
    });
    for below in command.get_subcommands_mut() {
        let name = below.get_name().to_owned();
        hide_what_means_nothing(below, &[path, &[&name]].concat());
    }
}

/// The shared flags that were typed, by their ids. An environment variable is not typed.
pub(crate) fn typed(matches: &ArgMatches) -> Result<Vec<&'static str>, Failed> {
    let (mut path, mut leaf) = (Vec::new(), matches);
    while let Some((name, below)) = leaf.subcommand() {
        path.push(name);
        leaf = below;
    }
    let is_typed = |id: &&str| leaf.value_source(id) == Some(ValueSource::CommandLine);
    let typed: Vec<&str> = SHARED.into_iter().filter(is_typed).collect();
    match typed.iter().find(|id| !takes(&path, id)) {
        Some(id) => Err(Failed::Usage(format!("{} means nothing to {}", flag(id), path.join(" ")))),
        None => Ok(typed),
    }
}

/// As it is typed.
pub(crate) fn flag(id: &str) -> String {
    format!("--{}", id.replace('_', "-"))
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
