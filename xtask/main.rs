//! Generates what a package needs besides the program: man pages and completions from the command line, and the guest
//! SDK.
//!
//! `cargo xtask man DIR`, `cargo xtask completions DIR`, `cargo xtask sdk DIR`.

mod man;
/// The program's own modules, under the names that they use.
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

/// Generate what a package of hookvisor needs besides the program
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Generate the man pages: from the command line, and from docs/man/*.md
    Man {
        /// The output directory
        directory: PathBuf,
    },
    /// Generate the guest SDK as a separate package, as `hookvisor new` does
    Sdk {
        /// The output directory
        directory: PathBuf,
    },
    /// Generate the completions for bash, zsh and fish
    Completions {
        /// The output directory
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
