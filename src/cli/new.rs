//! `hookvisor new`: creates a hook project.

pub(crate) mod sdk;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::json;

use super::options::Format;
use super::streams::print;

/// Create a new Rust hook, ready to build, test and run
#[derive(Debug, Parser)]
#[command(after_help = "Example: hookvisor new my-policy")]
pub(super) struct Args {
    /// The hook's name: also the name of its package and of the new directory
    #[arg(value_parser = package_name)]
    name: String,
    /// Use the guest SDK in this directory [default: a copy in the new directory]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Each file's path and template.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("new/manifest.toml")),
    (".cargo/config.toml", include_str!("new/cargo.toml")),
    (".gitignore", include_str!("new/gitignore")),
    ("src/main.rs", include_str!("new/main.rs")),
    ("{{name}}.toml", include_str!("new/settings.toml")),
    ("guest.xml", include_str!("new/guest.xml")),
];

const NEXT: &str = "\
Created the hook {{name}}. To test and build it:

  cd {{name}}
  cargo test
  {{target}}
  cargo build --release --target wasm32-wasip1

To try it in a separate hooks directory:

  install -D -m 0755 target/wasm32-wasip1/release/{{name}}.wasm hooks/qemu.d/50-{{name}}.wasm
  install -m 0644 {{name}}.toml hooks/qemu.d/50-{{name}}.toml
  hookvisor check --hooks hooks
  hookvisor run --hooks hooks qemu web1 start < guest.xml

This guest may start, so nothing is printed. A guest with less memory is refused:

  sed s/2048/256/ guest.xml | hookvisor run --hooks hooks qemu web1 start
";

/// The directory of the SDK's copy, in the hook's directory.
const SDK: &str = "hookvisor-guest";

pub(super) fn new(args: Args) -> anyhow::Result<u8> {
    let sdk = match &args.sdk {
        Some(directory) => format!("path = \"{}\"", sdk_path(directory)?),
        None => format!("path = \"{SDK}\""),
    };
    let target = args.sdk.as_deref().and_then(target_script).unwrap_or("rustup target add wasm32-wasip1".to_owned());
    let filled = |template: &str| {
        template.replace("{{target}}", &target).replace("{{name}}", &args.name).replace("{{sdk}}", &sdk)
    };
    let directory = Path::new(&args.name);
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!("{} already exists here", args.name),
        made => made.with_context(|| format!("the directory {} could not be created", args.name))?,
    }
    for (name, template) in FILES {
        let path = directory.join(filled(name));
        let parents = path.parent().map_or(Ok(()), fs::create_dir_all);
        parents
            .and_then(|()| fs::write(&path, filled(template)))
            .with_context(|| format!("{} could not be written", path.display()))?;
    }
    if args.sdk.is_none() {
        sdk::write(&directory.join(SDK))?;
    }
    let next = filled(NEXT);
    let text = match args.format {
        Format::Text => next,
        Format::Json => {
            let commands: Vec<&str> = next.lines().filter_map(|line| line.strip_prefix("  ")).collect();
            let files: Vec<String> = FILES.iter().map(|(name, _)| filled(name)).collect();
            json!({"directory": args.name, "files": files, "commands": commands}).to_string() + "\n"
        }
    };
    print(text.as_bytes())?;
    Ok(0)
}

/// The SDK's absolute path, escaped for a TOML string.
fn sdk_path(directory: &Path) -> anyhow::Result<String> {
    let absolute = directory.canonicalize().with_context(|| format!("there is no SDK in {}", directory.display()))?;
    if !absolute.join("Cargo.toml").is_file() {
        bail!("there is no SDK in {}: it has no Cargo.toml", directory.display());
    }
    match absolute.to_str().filter(|path| !path.contains(char::is_control)) {
        Some(path) => Ok(path.replace('\\', "\\\\").replace('"', "\\\"")),
        None => bail!("{} cannot be written in a Cargo.toml", absolute.display()),
    }
}

/// hookvisor's script that installs the target, which also works without rustup.
fn target_script(sdk: &Path) -> Option<String> {
    let script = sdk.canonicalize().ok()?.parent()?.join("scripts/wasm-targets");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let path = script.to_str().filter(|path| script.is_file() && path.chars().all(is_plain))?;
    Some(format!("{path} wasm32-wasip1"))
}

/// Names that cargo rejects for a binary package: Rust keywords and names that cargo uses.
const TAKEN: &str = "\
    abstract alloc as async await become box break build const continue core crate deps do dyn else enum \
    examples extern false final fn for gen hookvisor-guest if impl in incremental let loop macro match mod move \
    mut override priv proc-macro proc_macro pub ref return self static std struct super test trait true try type \
    typeof unsafe unsized use virtual where while yield";

fn package_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        return Err(
            "a hook's name consists of lower-case letters, digits, `-` and `_`, and begins with a letter".to_owned()
        );
    }
    if name.len() > 64 {
        return Err("a hook's name has at most 64 characters".to_owned());
    }
    if TAKEN.split_whitespace().any(|taken| taken == name) {
        return Err("Rust or cargo uses this name itself".to_owned());
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_cargo_takes() {
        for name in ["policy", "my-policy", "my_policy2", "x"] {
            assert_eq!(package_name(name).as_deref(), Ok(name));
        }
        let long = "x".repeat(65);
        for name in ["", "-x", "2x", "_x", "My", "a b", "a/b", "..", "ü", "a\n", "fn", "test", "build", long.as_str()]
        {
            assert!(package_name(name).is_err(), "{name:?}");
        }
    }
}
