//! What a package needs beside the program: man pages and completions, made from the program's own command line, and the
//! guest SDK.
//!
//! `cargo xtask man DIR`, `cargo xtask completions DIR`, `cargo xtask sdk DIR`.

mod man;
/// The program's own modules, below the name that they know themselves by.
#[path = "../src"]
#[expect(dead_code, reason = "only the definition of the command line is used")]
mod program {
    pub(super) mod cli;
}

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::{Shell, generate_to};
use program::cli;

/// Write what a package of hookvisor needs beside the program
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Write the man pages: from the command line, and from docs/man/*.md
    Man {
        /// Where to write them
        directory: PathBuf,
    },
    /// Write the guest SDK as a package that stands by itself, as `hookvisor new` does
    Sdk {
        /// Where to write it
        directory: PathBuf,
    },
    /// Write the completions for bash, zsh and fish
    Completions {
        /// Where to write them
        directory: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let mut command = cli::Cli::command().name("hookvisor").disable_help_subcommand(true);
    match Args::parse().task {
        Task::Man { directory } => {
            make(&directory)?;
            man::write(command, &directory)
        }
        Task::Sdk { directory } => cli::new::sdk::write(&directory),
        Task::Completions { directory } => {
            make(&directory)?;
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                generate_to(shell, &mut command, "hookvisor", &directory)
                    .context("a completion could not be written")?;
            }
            Ok(())
        }
    }
}

fn make(directory: &PathBuf) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("{} could not be made", directory.display()))
}
