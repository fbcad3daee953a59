//! The library for C, built when a test first needs it, and programs in C that use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use super::Hooks;
use super::guests::{native_probe, wasm_probe};
use super::program::command;
use super::skip;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Longer than anything takes, also where a tool makes it fifty times slower; what hangs is killed, and so fails.
const PATIENCE: Duration = Duration::from_secs(300);
/// The exit status that the tools are told to use when they find something.
const FOUND: i32 = 99;

/// The directory with the shared and the static library.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(ROOT).args(["rustc", "--quiet", "--locked", "--lib", "--features", "capi"]);
        succeed(cargo.args(["--crate-type", "staticlib,cdylib", "--target-dir"]).arg(target));
        target.join("debug")
    });
    &LIBRARY
}

/// The directory with the shared library that has symbol versions, linked when a test first needs it.
pub(crate) fn versioned_library() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("versioned");
        let mut link = Command::new(format!("{ROOT}/scripts/link-library"));
        succeed(link.arg(library().join("libhookvisor.a")).arg(&directory));
        directory
    });
    &LIBRARY
}

/// Runs a command that has to succeed, and returns what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What looks over a program's shoulder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    None,
    /// AddressSanitizer with its search for leaks, and the sanitizer of undefined behaviour.
    Sanitizers,
    Valgrind,
}

impl Tool {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::None | Self::Valgrind => &[],
            Self::Sanitizers => &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
        }
    }

    /// Whether it is here, and finds what there is to find. If not, that is told.
    pub(crate) fn works(self) -> bool {
        let compiled = compile("leak", self.flags(), &shared());
        let found = compiled.is_ok_and(|leak| run(self, &leak, &[]).0 == Some(FOUND));
        if !found {
            skip(
                &format!("capi under {self:?}"),
                "it finds no leak here (scripts/install-test-tools valgrind, or a cc with sanitizers)",
            );
        }
        found
    }
}

/// The flags for the shared library.
fn shared() -> Vec<String> {
    let directory = library().display();
    vec![format!("-L{directory}"), "-lhookvisor".to_owned(), format!("-Wl,-rpath,{directory}")]
}

/// The flags for the static library: what Rust says that it needs (`--print native-static-libs`).
fn linked_statically() -> Vec<String> {
    let archive = library().join("libhookvisor.a").display().to_string();
    [&archive, "-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"].map(str::to_owned).into()
}

/// Compiles a program of `tests/capi` or `examples`; the compiler's words if it cannot.
fn compile(name: &str, flags: &[&str], link: &[String]) -> Result<PathBuf, String> {
    let source = if name == "embed" { format!("examples/{name}.c") } else { format!("tests/capi/{name}.c") };
    let mut file_name = name.to_owned();
    for part in flags.iter().chain(link.first().map(String::as_str).iter()) {
        file_name.extend(part.rsplit('/').next().unwrap_or_default().chars().filter(char::is_ascii_alphanumeric));
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi");
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join(file_name);
    let mut cc = Command::new("cc");
    cc.current_dir(ROOT).args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-Iinclude"]);
    let output = cc.args(flags).arg(source).arg("-o").arg(&program).args(link).args(["-pthread", "-ldl"]).output();
    let output = output.unwrap();
    if output.status.success() { Ok(program) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A program of `tests/capi` or `examples` that uses the shared library.
pub(crate) fn program(name: &str, tool: Tool) -> PathBuf {
    compile(name, tool.flags(), &shared()).unwrap()
}

/// The same with the library inside.
pub(crate) fn program_of_one_piece(name: &str) -> PathBuf {
    compile(name, &[], &linked_statically()).unwrap()
}

/// Runs a program with a tool: its exit status, `None` for a signal, and what it wrote to stderr.
pub(crate) fn run(tool: Tool, program: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = if tool == Tool::Valgrind {
        let mut valgrind = command("valgrind");
        valgrind.args(["--quiet", "--leak-check=full", "--num-callers=30", &format!("--error-exitcode={FOUND}")]);
        valgrind.arg(format!("--suppressions={ROOT}/tests/capi/valgrind.supp")).arg(program);
        valgrind
    } else {
        command(program)
    };
    let options = format!("detect_leaks=1:exitcode={FOUND}");
    command.env("ASAN_OPTIONS", &options).env("LSAN_OPTIONS", &options).timeout(PATIENCE);
    match command.args(arguments).output() {
        Ok(output) => (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => (None, error.to_string()),
    }
}

/// What valgrind says of itself: of a system call that is younger than it is, and answered as an old kernel would. What it
/// finds in the program begins with `==`.
fn is_of_valgrind_itself(line: &str) -> bool {
    line.starts_with("--")
}

/// The hooks that the programs of `tests/capi` are written for, and their arguments.
pub(crate) struct World {
    hooks: Hooks,
    kinds: &'static str,
}

impl World {
    pub(crate) fn of_native_hooks() -> Self {
        let hooks = Hooks::new().copy("native.d/10-probe", native_probe());
        Self { hooks: hooks.copy("qemu.d/10@replace=old>new", native_probe()), kinds: "native" }
    }

    pub(crate) fn of_both_kinds() -> Self {
        let hooks = Self::of_native_hooks().hooks.copy("wasm.d/10-probe", wasm_probe());
        drop(hooks.runtime()); // which fills the cache
        Self { hooks, kinds: "both" }
    }

    /// Runs a program, which has to find everything right, and its tool too.
    pub(crate) fn run(&self, tool: Tool, program: &Path, last: &str) {
        let hooks = self.hooks.path().to_str().unwrap();
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
        let (status, said) = run(tool, program, &[hooks, cache, self.kinds, last]);
        let said: String = said.split_inclusive('\n').filter(|line| !is_of_valgrind_itself(line)).collect();
        assert_eq!((status, said.as_str()), (Some(0), ""), "{} with {tool:?}, {}", program.display(), self.kinds);
    }
}
