//! `hookvisor new`: the new project builds, tests and runs with the printed commands.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::guests::provide;

const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guest-sdk");
const LOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");

/// Keeps compiled code in a directory of the test.
const WITH_A_CACHE: &str = "\
hookvisor() {
    case $1 in
    new) command hookvisor \"$@\" ;;
    *) subcommand=$1; shift; command hookvisor \"$subcommand\" --cache \"$CACHE\" \"$@\" ;;
    esac
}
";

/// A shell in `directory` whose `hookvisor` is the one under test. It uses no network.
fn shell(directory: &Path, script: &str) -> Output {
    let hookvisor = Path::new(env!("CARGO_BIN_EXE_hookvisor")).parent().unwrap();
    let cargo = Path::new(env!("CARGO")).parent().unwrap();
    let path = format!("{}:{}:{}", hookvisor.display(), cargo.display(), std::env::var("PATH").unwrap());
    Command::new("/bin/sh")
        .args(["-ec", &format!("umask 022\n{WITH_A_CACHE}{script}")])
        .current_dir(directory)
        .env("PATH", path)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CACHE", directory.join("cache"))
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("HOOKVISOR_LOG")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_new_hook_builds_tests_and_runs_by_the_commands_that_are_printed() {
    provide("wasm32-wasip1");
    let here = TempDir::new().unwrap();
    let made = shell(here.path(), &format!("hookvisor new my-policy --sdk '{SDK}'"));
    assert!(made.status.success(), "{}", stderr(&made));
    // The versions that this workspace has already downloaded.
    fs::copy(LOCK, here.path().join("my-policy/Cargo.lock")).unwrap();

    let printed = stdout(&made);
    let mut commands: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(commands.len(), 9, "{printed}");
    // The target is installed. The script finds it without a network.
    assert!(commands[2].ends_with("/scripts/wasm-targets wasm32-wasip1"), "{printed}");
    let veto = commands.pop().unwrap();
    let tried = shell(here.path(), &commands.join("\n"));
    let said = stdout(&tried);
    assert_eq!(tried.status.code(), Some(0), "{said}{}", stderr(&tried));
    assert!(said.contains("3 passed; 0 failed"), "{said}");
    assert!(
        said.contains(
            "/hooks/qemu.d/50-my-policy.wasm; only for operations prepare, start; may see the variable MIN_MEMORY_MIB;"
        ),
        "{said}"
    );

    let package = here.path().join("my-policy");
    let logged = shell(&package, "HOOKVISOR_LOG=info hookvisor run --hooks hooks qemu web1 start < guest.xml");
    assert!(stderr(&logged).contains("guest web1 has 2048 MiB of memory"), "{logged:?}");

    let vetoed = shell(&package, veto);
    let why = "qemu failed with error code 1: guest web1 has 256 MiB of memory and needs 512: virsh edit web1\n";
    assert_eq!(vetoed.status.code(), Some(1));
    assert!(stderr(&vetoed).ends_with(&format!("/hooks/qemu.d/50-my-policy.wasm {why}")), "{vetoed:?}");
}

#[test]
fn the_template_is_formatted_as_cargo_does_it() {
    let here = TempDir::new().unwrap();
    let formatted =
        shell(here.path(), &format!("hookvisor new my-policy --sdk '{SDK}' && cd my-policy && cargo fmt --check"));
    assert!(formatted.status.success(), "{}{}", stdout(&formatted), stderr(&formatted));
}

#[test]
fn existing_files_are_left_alone() {
    let here = TempDir::new().unwrap();
    fs::create_dir(here.path().join("mine")).unwrap();
    let refused = shell(here.path(), "hookvisor new mine");
    assert_eq!(
        (refused.status.code(), stderr(&refused).as_str()),
        (Some(125), "hookvisor: mine already exists here\n")
    );
    assert_eq!(fs::read_dir(here.path().join("mine")).unwrap().count(), 0);
}

#[test]
fn an_invalid_call_creates_nothing() {
    let here = TempDir::new().unwrap();
    for (arguments, status, why) in [
        ("Policy", 2, "a hook's name consists of lower-case letters"),
        ("../policy", 2, "a hook's name consists of lower-case letters"),
        ("fn", 2, "Rust or cargo uses this name itself"),
        ("policy --sdk /nowhere", 125, "no SDK in /nowhere: No such file"),
        ("policy --sdk /", 125, "no SDK in /: it has no Cargo.toml"),
    ] {
        let refused = shell(here.path(), &format!("hookvisor new {arguments}"));
        assert_eq!(refused.status.code(), Some(status), "{arguments}");
        assert!(stderr(&refused).contains(why), "{arguments}: {}", stderr(&refused));
    }
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0);
}

#[test]
fn without_an_sdk_the_program_writes_its_own_copy() {
    let here = TempDir::new().unwrap();
    let said = stdout(&shell(here.path(), "hookvisor new policy"));
    assert!(said.contains("\n  rustup target add wasm32-wasip1\n"), "{said}");
    let hook = here.path().join("policy");
    let manifest = fs::read_to_string(hook.join("Cargo.toml")).unwrap();
    let dependency = "hookvisor-guest = { path = \"hookvisor-guest\", features = [\"libvirt\", \"log\"] }";
    assert!(manifest.contains(dependency), "{manifest}");
    for file in ["src/lib.rs", "src/libvirt/domain.rs", "wit/hookvisor.wit"] {
        let ours = fs::read(Path::new(SDK).join(file)).unwrap();
        assert_eq!(fs::read(hook.join("hookvisor-guest").join(file)).unwrap(), ours, "{file}");
    }
    // The versions that this workspace has already downloaded.
    fs::copy(LOCK, hook.join("Cargo.lock")).unwrap();
    let built = shell(&hook, "cargo test");
    assert!(stdout(&built).contains("3 passed; 0 failed"), "{built:?}");
}
