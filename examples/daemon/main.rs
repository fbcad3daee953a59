//! A small supervisor: its guests are child processes, and hooks decide which of them start.
//!
//! ```text
//! daemon --hooks DIR --socket PATH            the daemon
//! daemon ctl --socket PATH start web1 sleep 100
//! ```
//!
//! Requests come over a Unix socket ([`server`]). [`guests`] calls the hooks. SIGHUP reloads the hooks; SIGTERM and
//! SIGINT stop the guests and the daemon. If the daemon is killed, its hooks end with it and its guests keep running.
//! The next daemon finds them in the [`state`] file, runs their `reconnect` hooks, and tells the hooks about guests
//! that have ended.
//!
//! The hooks' driver is `daemon-example`, and the document is the guest's command. Hooks can veto `start` and
//! `reconnect`; `stopped` is only reported to them.

mod ctl;
mod guests;
mod metrics;
mod server;
mod state;

use std::net::SocketAddr;
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
    /// The file with the state of the guests [default: the socket's path with .state]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Maximum number of hooks that run at once
    #[arg(long, value_name = "N")]
    max_hooks: Option<NonZeroUsize>,
    /// Address of the metrics (`/metrics`, for Prometheus)
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// Format of the log on standard error
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
        // First, so that no signal ends the daemon by default.
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        match self.log {
            Log::Text => tracing_subscriber::fmt().with_writer(std::io::stderr).init(),
            Log::Json => tracing_subscriber::fmt().json().with_writer(std::io::stderr).init(),
        }
        // Before the hooks are loaded, since loads are counted too.
        if let Some(address) = self.metrics {
            metrics::serve(address)?;
        }
        let ending = Cancel::new();
        let mut hooks = Runtime::builder(self.hooks).convention(convention()).end_with_host();
        if let Some(at_once) = self.max_hooks {
            hooks = hooks.max_in_flight(at_once);
        }
        let hooks = hooks.build()?;
        // Held until the daemon exits. So a socket and a state file that exist now belong to a dead daemon.
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
        // Cancels starts whose hooks are still running, and prevents new ones.
        ending.cancel();
        guests.stop_all();
        server.close();
        tracing::info!("ended");
        Ok(())
    }
}
