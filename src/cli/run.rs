//! `hookvisor run`: runs the hooks of one event.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use hookvisor::{OneLook, Record, Report, RuntimeBuilder};

use super::installed::Installed;
use super::interrupt::Interrupts;
use super::options::{EventArgs, Format, HooksArgs, duration, usage_error};
use super::streams::{complain, complain_of, document, pass_on, print};

/// Run the hooks for one event; the document is read from standard input
#[derive(Debug, Parser)]
#[command(after_help = "\
Failures are reported on standard error. If hooks change the document (libvirt's migrate and restore), the new document \
goes to standard output. With --format json, standard output always gets the whole report instead.

Example: hookvisor run qemu web1 prepare begin - < web1.xml")]
pub(super) struct Args {
    #[command(flatten)]
    hooks: HooksArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Timeout of each hook without its own `timeout` setting, such as 5s [default: from the configuration, or 90s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Report what the hooks would veto, but veto nothing
    #[arg(long)]
    monitor: bool,
    /// Print what the hooks write to standard output, unless it is a document
    #[arg(long)]
    stdout: bool,
    /// Record the event in this file [default: from hookvisor.toml; no record for another hooks directory]
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Also show the stderr of hooks that succeeded
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    event: EventArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<u8> {
    let event = match args.event.event() {
        Ok(event) => event.with_document(document()?),
        Err(error) => usage_error::<Args>("run", &error),
    };
    // From here to the launch of the first hook.
    let _one_look = OneLook::begin();
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
    if let Some(meant) = runtime.similar_driver(event.driver()).filter(|_| runtime.inventory().hooks.is_empty()) {
        let driver = event.driver();
        usage_error::<Args>(
            "run",
            &format!(
                "driver {driver} has no hooks: did you mean {meant}? Otherwise add `known_drivers = [\"{driver}\"]` to \
                 hookvisor.toml"
            ),
        );
    }
    let call = runtime.call(&event);
    let call = if args.monitor { call.monitor() } else { call };
    let mut report = if args.stdout { call.keep_stdout().run() } else { call.run() };
    // The process is about to exit: dropping the runtime would only cost time.
    std::mem::forget(runtime);
    interrupts.release()?;
    match args.format {
        Format::Json => {
            note_stdout(&mut report);
            print(format!("{}\n", report.to_json()).as_bytes())?;
        }
        Format::Text => {
            if args.verbose {
                let remarks = report.hooks.iter().filter_map(|hook| hook.remark(report.event.driver()));
                remarks.for_each(|remark| complain(format!("{remark}\n").as_bytes()));
            }
            complain_of(|| report.to_text(), || report.shown());
            show_stdout(&report, args.stdout)?;
            if let Some(document) = &report.document {
                pass_on(document)?;
            }
        }
    }
    interrupts.obey()?;
    Ok(report.exit_status())
}

/// Prints the hooks' stdout, or adds a note to a failure report that it was dropped. A filter's stdout is its document.
fn show_stdout(report: &Report, is_wanted: bool) -> anyhow::Result<()> {
    if report.event.is_filter() {
        return Ok(());
    }
    for hook in &report.hooks {
        if is_wanted {
            pass_on(&hook.stdout)?;
        }
        if hook.stdout_dropped > 0 && (is_wanted || report.failures().next().is_some()) {
            let (path, dropped) = (hook.path.display(), hook.stdout_dropped);
            let what =
                if is_wanted { "which is more than the limit" } else { "which are dropped: use --stdout to see them" };
            complain(format!("note: {path} wrote {dropped} bytes to stdout, {what}\n").as_bytes());
        }
    }
    Ok(())
}

/// Adds the same note to each hook, for programs that read the report.
fn note_stdout(report: &mut Report) {
    if report.event.is_filter() {
        return;
    }
    for hook in report.hooks.iter_mut().filter(|hook| hook.stdout_dropped > 0) {
        hook.notes.push(format!("wrote {} bytes to stdout, which were dropped", hook.stdout_dropped));
    }
}
