//! `hookvisor binfmt`: having the kernel run `.wasm` files by hookvisor.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;

use super::exec::INTERPRETER;
use super::layout::Layout;
use super::streams::print;

/// Have the kernel run executable .wasm files in the sandbox, as libvirt does those in its qemu.d
#[derive(Debug, Parser)]
#[command(after_help = "\
Without an option, prints the entry for /etc/binfmt.d (binfmt.d(5)). Its interpreter is a link to hookvisor by the name \
hookvisor-exec, which runs FILE [ARG...] as `hookvisor exec` does: with the FILE's settings beside it, within the \
limits of /etc/hookvisor/hookvisor.toml.

Example: hookvisor binfmt --install && systemctl restart systemd-binfmt")]
pub(super) struct Args {
    /// Write the entry to /etc/binfmt.d/hookvisor.conf, and make the link if it is not there
    #[arg(long, conflicts_with = "uninstall")]
    install: bool,
    /// Remove the entry and the link
    #[arg(long)]
    uninstall: bool,
    /// Do it below another root directory, as for a package or an image
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// What the link leads to [default: this program; with --root, /usr/bin/hookvisor]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

pub(super) fn binfmt(args: &Args) -> anyhow::Result<u8> {
    let root = std::path::absolute(&args.root)?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None if root == Path::new("/") => env::current_exe().context("this program does not find its own file")?,
        None => PathBuf::from("/usr/bin/hookvisor"),
    };
    let interpreter = program.with_file_name(INTERPRETER);
    let entry = entry(&interpreter)?;
    let link = root.join(interpreter.strip_prefix("/").unwrap_or(&interpreter));
    let file = Layout::below(&root).binfmt();
    if args.install {
        install(&link, &program, &file, &entry)?;
    } else if args.uninstall {
        uninstall(&link, &program, &file)?;
    } else {
        print(entry.as_bytes())?;
    }
    Ok(0)
}

/// The kernel splits the line at its colons, and takes no more than 127 bytes of an interpreter's name.
fn entry(interpreter: &Path) -> anyhow::Result<String> {
    match interpreter.to_str() {
        Some(name) if interpreter.is_absolute() && !name.contains([':', '\n']) && name.len() < 128 => Ok(format!(
            "# WebAssembly hooks run in hookvisor's sandbox. Made by `hookvisor binfmt`.\n\
             :hookvisor:M::\\x00asm::{name}:\n"
        )),
        _ => bail!(
            "{} cannot be an interpreter's name: it has to be absolute, short, and without colons",
            interpreter.display()
        ),
    }
}

fn install(link: &Path, program: &Path, file: &Path, entry: &str) -> anyhow::Result<()> {
    match (fs::read_link(link), link.symlink_metadata()) {
        (Ok(target), _) if target == program => {}
        (_, Ok(_)) => bail!("{} is in the way: it is no link to {}", link.display(), program.display()),
        _ => symlink(program, link).with_context(|| format!("{} could not be made", link.display()))?,
    }
    let made = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(file, entry));
    made.with_context(|| format!("{} could not be written", file.display()))?;
    let (file, link) = (file.display(), link.display());
    let said = format!(
        "{file} is written, for {link}.\nThe kernel knows it after `systemctl restart systemd-binfmt`, or the next start.\n"
    );
    print(said.as_bytes())
}

fn uninstall(link: &Path, program: &Path, file: &Path) -> anyhow::Result<()> {
    if fs::read_link(link).is_ok_and(|target| target == program) {
        fs::remove_file(link).with_context(|| format!("{} could not be removed", link.display()))?;
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} could not be removed", file.display()))
        }
        _ => {
            let file = file.display();
            let said = format!("{file} is gone. The kernel forgets it after `systemctl restart systemd-binfmt`.\n");
            print(said.as_bytes())
        }
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
