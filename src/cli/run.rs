//! `hookvisor run`: one event.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use hookvisor::{Event, EventError, HookReport, LIBVIRT_DRIVERS, Record, Report, RuntimeBuilder};

use super::installed::Installed;
use super::interrupt::Interrupts;
use super::options::{Format, HooksArgs, duration};
use super::streams::{complain, document, print};

/// Run the hooks of one event, with the document on standard input
#[derive(Debug, Parser)]
#[command(after_help = "\
A failure is reported on standard error. A document that hooks have changed (libvirt's migrate and restore) goes to \
standard output. With --format json, the whole report goes to standard output instead, always.

Example: hookvisor run qemu web1 prepare begin - < web1.xml")]
pub(super) struct Args {
    #[command(flatten)]
    hooks: HooksArgs,
    /// How the report is written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// How long a hook may take, if its own settings do not say, such as 5s [default: as the configuration says, 90s if it does not]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Report what the hooks would veto, and let nothing be vetoed
    #[arg(long)]
    monitor: bool,
    /// Pass on what the hooks write to standard output; only a document has another use for it
    #[arg(long)]
    stdout: bool,
    /// Record the event in this file [default: as hookvisor.toml says, for its hooks directory; none for another]
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Show also what hooks that succeeded wrote to stderr
    #[arg(short, long)]
    verbose: bool,
    /// The driver, whose hooks are called: qemu, lxc, network, or any name
    driver: String,
    /// The guest, or - for none
    object: String,
    /// What happens to it: prepare, start, started, stopped, release, …
    operation: String,
    /// The part of the operation [default: the one that belongs to it, or -]
    #[arg(value_name = "SUB-OPERATION")]
    sub_operation: Option<String>,
    /// One more argument for the hooks [default: -]
    extra: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<u8> {
    let event = match event(&args) {
        Ok(event) => event.with_document(document()?),
        Err(error) => usage_error(&error),
    };
    let mut installed = Installed::of(args.hooks)?;
    if let Some(timeout) = args.timeout {
        installed.config.set_timeout(timeout);
    }
    let record = args.record.map_or_else(|| installed.record(), |file| Some(Record::at(file)));
    let interrupts = Interrupts::catch()?;
    let runtime = installed.builder()?.only_driver(event.driver()).cancel(&interrupts.cancel).for_one_event();
    let record = record.map(|record| record.caller("hookvisor run"));
    let runtime = record.into_iter().fold(runtime, RuntimeBuilder::record).build()?;
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    if runtime.lacks_compiled_code() {
        super::full::take_over(event.document());
    }
    if let Some(meant) = misspelt(event.driver()).filter(|_| runtime.inventory().hooks.is_empty()) {
        usage_error(&format!("there are no hooks for driver {}: is {meant} meant?", event.driver()));
    }
    let call = runtime.call(&event);
    let call = if args.monitor { call.monitor() } else { call };
    let report = if args.stdout { call.keep_stdout().run() } else { call.run() };
    // The process ends here, and all that it has with it: nothing is gained by taking it apart first.
    std::mem::forget(runtime);
    match args.format {
        Format::Json => print(format!("{}\n", report.to_json()).as_bytes())?,
        Format::Text => {
            if args.verbose {
                complain(&remarks(&report));
            }
            complain(&report.to_text());
            show_stdout(&report, args.stdout)?;
            if let Some(document) = &report.document {
                print(document)?;
            }
        }
    }
    interrupts.obey()?;
    Ok(report.exit_status())
}

/// Passes on what the hooks wrote to stdout. Where a report is shown, notes that nobody reads it. A filter's stdout is its
/// document.
fn show_stdout(report: &Report, is_wanted: bool) -> anyhow::Result<()> {
    if report.event.is_filter() {
        return Ok(());
    }
    for hook in &report.hooks {
        if is_wanted {
            print(&hook.stdout)?;
        }
        if hook.stdout_dropped > 0 && (is_wanted || report.failures().next().is_some()) {
            let (path, dropped) = (hook.path.display(), hook.stdout_dropped);
            let what = if is_wanted { "more than is kept" } else { "which nobody reads: --stdout shows it" };
            complain(format!("note: {path} wrote {dropped} bytes to stdout, {what}\n").as_bytes());
        }
    }
    Ok(())
}

/// What the hooks that succeeded wrote to stderr.
fn remarks(report: &Report) -> Vec<u8> {
    let succeeded = report.hooks.iter().filter(|hook| hook.termination.is_success() && !hook.stderr.is_empty());
    let remark = |hook: &HookReport| {
        let beginning =
            format!("Hook script {} {} succeeded, and wrote to stderr: ", hook.path.display(), report.event.driver());
        [beginning.as_bytes(), hook.stderr.trim_ascii_end(), b"\n"].concat()
    };
    succeeded.flat_map(remark).collect()
}

/// As clap's own: the message, and how `run` is used.
fn usage_error(error: &impl std::fmt::Display) -> ! {
    Args::command().bin_name("hookvisor run").error(ErrorKind::ValueValidation, error).exit()
}

/// The driver of libvirt's that a name could be a slip for. Names of three letters are too alike to tell.
fn misspelt(driver: &str) -> Option<&'static str> {
    let is_near = |name: &&str| {
        let slips = if name.len() < 6 { 1 } else { 2 };
        name.len() > 3 && strsim::osa_distance(&driver.to_lowercase(), name) <= slips
    };
    LIBVIRT_DRIVERS.into_iter().filter(|_| !LIBVIRT_DRIVERS.contains(&driver)).find(is_near)
}

fn event(args: &Args) -> Result<Event, EventError> {
    let mut event = Event::new(&args.driver, &args.object, &args.operation)?;
    if let Some(sub_operation) = &args.sub_operation {
        event = event.with_sub_operation(sub_operation)?;
    }
    if let Some(extra) = &args.extra {
        event = event.with_extra(extra)?;
    }
    Ok(event)
}
