//! A small host daemon: its guests are child processes, and hooks decide which of them start.
//!
//! It takes one command a line on standard input:
//!
//! ```text
//! start NAME PROGRAM [ARG…]
//! stop NAME
//! list
//! ```
//!
//! `cargo run --example daemon -- HOOKS-DIR`; the hooks are those of the driver `daemon-example`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its answers and its log")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead};
use std::process::{Child, Command};

use hookvisor::{Event, Runtime};

const DRIVER: &str = "daemon-example";

struct Daemon {
    hooks: Runtime,
    guests: BTreeMap<String, Child>,
}

impl Daemon {
    fn start(&mut self, name: &str, program: &[&str]) -> Result<String, Box<dyn Error>> {
        let (executable, arguments) = program.split_first().ok_or("start what?")?;
        if self.guests.contains_key(name) {
            return Err(format!("{name} is running already").into());
        }
        // Asked before: a veto is an error here, and the guest does not start.
        let event = Event::new(DRIVER, name, "start")?.with_document(program.join(" "));
        self.hooks.start(&event).into_result()?;
        match Command::new(executable).args(arguments).spawn() {
            Ok(guest) => {
                let pid = guest.id();
                self.guests.insert(name.to_owned(), guest);
                Ok(format!("{name} runs as process {pid}"))
            }
            Err(error) => {
                // What the hooks did for the start, they are to undo.
                self.tell(name, "stopped")?;
                Err(error.into())
            }
        }
    }

    fn stop(&mut self, name: &str) -> Result<String, Box<dyn Error>> {
        let mut guest = self.guests.remove(name).ok_or_else(|| format!("{name} is not running"))?;
        guest.kill()?;
        guest.wait()?;
        self.tell(name, "stopped")?;
        Ok(format!("{name} is stopped"))
    }

    /// Told after: nothing that a hook does can change what has happened.
    fn tell(&self, name: &str, operation: &str) -> Result<(), Box<dyn Error>> {
        let report = self.hooks.shutdown(&Event::new(DRIVER, name, operation)?);
        if report.failures().next().is_some() {
            eprintln!("{report}");
        }
        Ok(())
    }

    fn obey(&mut self, line: &str) -> Result<String, Box<dyn Error>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => Ok(String::new()),
            ["start", name, program @ ..] => self.start(name, program),
            ["stop", name] => self.stop(name),
            ["list"] => Ok(self.guests.keys().cloned().collect::<Vec<_>>().join("\n")),
            _ => Err("a command is: start NAME PROGRAM [ARG…], stop NAME, or list".into()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("which hooks directory?")?;
    let mut daemon = Daemon { hooks: Runtime::open(directory)?, guests: BTreeMap::new() };
    for line in io::stdin().lock().lines() {
        match daemon.obey(&line?) {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("no: {error}"),
        }
    }
    let running: Vec<String> = daemon.guests.keys().cloned().collect();
    for name in running {
        println!("{}", daemon.stop(&name)?);
    }
    Ok(())
}
