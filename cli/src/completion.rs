//! `fulmar completion`: scripts for shells.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use clap_complete::aot::{self, Generator};

use crate::arguments::{Called, tree};
use crate::exit::Failed;

/// Print the completion script of a shell
///
/// For example in ~/.bashrc: source <(fulmar completion bash)
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn script(shell: impl Generator) -> Vec<u8> {
    let mut script = Vec::new();
    aot::generate(shell, &mut tree(Called::Fulmar), "fulmar", &mut script);
    script
}

impl Completion {
    pub(crate) fn run(self) -> Result<(), Failed> {
        let script = match self.shell {
            Shell::Bash => script(aot::Shell::Bash),
            Shell::Zsh => script(aot::Shell::Zsh),
            Shell::Fish => script(aot::Shell::Fish),
        };
        Ok(io::stdout().lock().write_all(&script)?)
    }
}
