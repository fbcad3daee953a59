//! `hookvisor binfmt`: registers hookvisor with the kernel as the interpreter of `.wasm` files.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use serde::Serialize;
use serde_json::json;

use super::exec::INTERPRETER;
use super::layout::{self, Layout};
use super::options::Format;
use super::streams::print;

/// Make .wasm files executable: the kernel then runs them with hookvisor, in the sandbox
#[derive(Debug, Parser)]
#[command(after_help = "\
Without an option, prints the entry for /etc/binfmt.d (see binfmt.d(5)). The entry names hookvisor-exec, a link to \
hookvisor. hookvisor-exec FILE [ARG...] works like `hookvisor exec`: it uses the settings next to FILE and the limits in \
/etc/hookvisor/hookvisor.toml. libvirt can then run .wasm files in its own qemu.d.

Example: hookvisor binfmt --install && systemctl restart systemd-binfmt")]
pub(super) struct Args {
    /// Write the entry to /etc/binfmt.d/hookvisor.conf and create the link if it is missing
    #[arg(long, conflicts_with = "uninstall")]
    install: bool,
    /// Remove the entry and the link
    #[arg(long)]
    uninstall: bool,
    /// Use an alternate root directory, for packages and images
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The target of the link [default: this program; with --root, /usr/bin/hookvisor]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Done {
    /// The entry is only shown.
    Nothing,
    Installed,
    Uninstalled,
}

pub(super) fn binfmt(args: &Args) -> anyhow::Result<u8> {
    let root = std::path::absolute(&args.root)?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None if root == Path::new("/") => layout::this_program().context("could not find the path of this program")?,
        None => PathBuf::from("/usr/bin/hookvisor"),
    };
    let interpreter = program.with_file_name(INTERPRETER);
    let entry = entry(&interpreter)?;
    let link = root.join(interpreter.strip_prefix("/").unwrap_or(&interpreter));
    let file = Layout::below(&root).binfmt();
    let done = if args.install {
        install(&link, &program, &file, &entry)?;
        Done::Installed
    } else if args.uninstall {
        uninstall(&link, &program, &file)?;
        Done::Uninstalled
    } else {
        Done::Nothing
    };
    let (file, link) = (file.display().to_string(), link.display().to_string());
    let text = match (args.format, done) {
        (Format::Json, _) => json!({"done": done, "file": file, "link": link, "entry": entry}).to_string() + "\n",
        (Format::Text, Done::Nothing) => entry,
        (Format::Text, Done::Installed) => format!(
            "Wrote {file} (interpreter {link}).\nTo activate it, run `systemctl restart systemd-binfmt`, or reboot.\n"
        ),
        (Format::Text, Done::Uninstalled) => {
            format!("Removed {file}. To deactivate it, run `systemctl restart systemd-binfmt`.\n")
        }
    };
    print(text.as_bytes())?;
    Ok(0)
}

/// The kernel splits the line at colons, and limits the interpreter's path to 127 bytes.
fn entry(interpreter: &Path) -> anyhow::Result<String> {
    match interpreter.to_str() {
        Some(name) if interpreter.is_absolute() && !name.contains([':', '\n']) && name.len() < 128 => Ok(format!(
            "# Run WebAssembly files in hookvisor's sandbox. Written by `hookvisor binfmt`.\n\
             :hookvisor:M::\\x00asm::{name}:\n"
        )),
        _ => bail!(
            "{} cannot be the interpreter: use an absolute path of at most 127 bytes, without colons",
            interpreter.display()
        ),
    }
}

fn install(link: &Path, program: &Path, file: &Path, entry: &str) -> anyhow::Result<()> {
    match (fs::read_link(link), link.symlink_metadata()) {
        (Ok(target), _) if target == program => {}
        (_, Ok(_)) => {
            bail!("{} already exists and is not a link to {}: move or remove it", link.display(), program.display())
        }
        _ => symlink(program, link).with_context(|| format!("{} could not be created", link.display()))?,
    }
    let made = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(file, entry));
    made.with_context(|| format!("{} could not be written", file.display()))
}

fn uninstall(link: &Path, program: &Path, file: &Path) -> anyhow::Result<()> {
    if fs::read_link(link).is_ok_and(|target| target == program) {
        fs::remove_file(link).with_context(|| format!("{} could not be removed", link.display()))?;
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} could not be removed", file.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_what_the_kernel_reads() {
        let of = |name: &str| entry(Path::new(name)).map_err(|e| e.to_string());
        let usual = of("/usr/bin/hookvisor-exec").unwrap_or_default();
        assert_eq!(usual.lines().last(), Some(r":hookvisor:M::\x00asm::/usr/bin/hookvisor-exec:"));
        for name in ["hookvisor-exec", "/a:b/hookvisor-exec", &format!("/{}", "a".repeat(127))] {
            assert!(of(name).is_err(), "{name}");
        }
    }
}
