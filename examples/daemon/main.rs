//! A small supervisor: its guests are child processes, and hooks decide which of them start.
//!
//! ```text
//! daemon --hooks DIR --socket PATH            the daemon
//! daemon ctl --socket PATH start web1 sleep 100
//! ```
//!
//! What it is asked for comes over a Unix socket ([`server`]); [`guests`] is where hooks are asked and told. By signals
//! it is told to load its hooks again (SIGHUP), and to end its guests and itself (SIGTERM, SIGINT). If it is killed, its hooks
//! end with it and its guests go on: the next daemon finds them by the [`state`] file, runs their `reconnect` hooks, and tells
//! the hooks of those that have ended.
//!
//! The hooks are those of the driver `daemon-example`, with the command as the document: `start` and `reconnect` can be
//! vetoed, `stopped` is told.

mod ctl;
mod guests;
mod server;
mod state;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, ValueEnum};
use hookvisor::{Cancel, Convention, Operation, Runtime};

use guests::{DRIVER, Guests};
use server::Server;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use state::StateFile;

/// A small supervisor whose guests are child processes
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    client: Option<Client>,
    #[command(flatten)]
    daemon: Option<Daemon>,
}

#[derive(clap::Subcommand)]
enum Client {
    /// Ask a running daemon: `start NAME PROGRAM [ARG…]`, `stop NAME` or `list`
    Ctl(ctl::Ctl),
}

#[derive(Args)]
struct Daemon {
    /// The hooks directory
    #[arg(long, value_name = "DIR")]
    hooks: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Where to keep what is known of the guests [default: the socket's path with .state]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The most hooks to run at once
    #[arg(long, value_name = "N")]
    max_hooks: Option<NonZeroUsize>,
    /// How to write the log, on standard error
    #[arg(long, value_enum, default_value = "text")]
    log: Log,
}

#[derive(Clone, Copy, ValueEnum)]
enum Log {
    Text,
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match (cli.client, cli.daemon) {
        (Some(Client::Ctl(ctl)), _) => ctl.run(),
        (None, Some(daemon)) => daemon.run().map(|()| ExitCode::SUCCESS),
        (None, None) => anyhow::bail!("nothing to do: see --help"),
    }
}

fn convention() -> Convention {
    Convention::new(DRIVER)
        .operation("start", Operation::start())
        .operation("reconnect", Operation::start().guest_is_running())
        .operation("stopped", Operation::shutdown())
        .closed()
}

impl Daemon {
    fn run(self) -> anyhow::Result<()> {
        // First, so that none of them ends the daemon by itself.
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        match self.log {
            Log::Text => tracing_subscriber::fmt().with_writer(std::io::stderr).init(),
            Log::Json => tracing_subscriber::fmt().json().with_writer(std::io::stderr).init(),
        }
        let ending = Cancel::new();
        let mut hooks = Runtime::builder(self.hooks).convention(convention()).end_with_host();
        if let Some(at_once) = self.max_hooks {
            hooks = hooks.max_in_flight(at_once);
        }
        let hooks = hooks.build()?;
        // Held as long as the daemon lives: the socket and the state file that it finds are then a dead one's.
        let lock = server::lock(&self.socket)?;
        let state = self.state.unwrap_or_else(|| self.socket.with_added_extension("state"));
        let guests = Arc::new(Guests::new(hooks.clone(), ending.clone(), StateFile::open(state)?));
        guests.recover();
        let server = Server::listen(&self.socket, Arc::clone(&guests), lock)?;
        tracing::info!(socket = %self.socket.display(), "ready");

        for _ in signals.forever().take_while(|signal| *signal == SIGHUP) {
            match hooks.reload() {
                Ok(()) => tracing::info!("the hooks are loaded again"),
                Err(why) => tracing::error!("the hooks stay as they were: {why}"),
            }
        }
        tracing::info!("ending");
        // Starts that hooks are being asked about are given up; no other begins.
        ending.cancel();
        guests.stop_all();
        server.close();
        tracing::info!("ended");
        Ok(())
    }
}
