//! The C library, built when a test first needs it, and C programs that use it.

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
/// Longer than anything takes, even under a tool that is fifty times slower. Whatever hangs is killed, and fails.
const PATIENCE: Duration = Duration::from_secs(300);
/// The exit status that the tools return for a finding.
const FOUND: i32 = 99;

/// The directory with the shared and the static library.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(ROOT).args(["rustc", "--quiet", "--locked", "--lib", "--features", "capi"]);
        cargo.args(["--crate-type", "staticlib,cdylib", "--target-dir"]).arg(target);
        succeed(cargo.arg("--").arg(format!("-Clinker={ROOT}/scripts/link-with-versions")));
        target.join("debug")
    });
    &LIBRARY
}

/// The directory with the shared library of the packages, linked when first needed.
pub(crate) fn versioned_library() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("versioned");
        let mut link = Command::new(format!("{ROOT}/scripts/link-library"));
        succeed(link.arg(library().join("libhookvisor.a")).arg(&directory));
        directory
    });
    &LIBRARY
}

/// The functions of the shared library in this directory, with their versions.
pub(crate) fn symbols(directory: &Path) -> Vec<String> {
    let mut nm = Command::new("nm");
    let listing =
        succeed(nm.args(["-D", "--defined-only", "--with-symbol-versions"]).arg(directory.join("libhookvisor.so")));
    let functions = listing.lines().filter_map(|line| line.split_once(" T "));
    let mut symbols: Vec<String> = functions.map(|(_, symbol)| symbol.to_owned()).collect();
    symbols.sort();
    symbols
}

/// Runs a command that must succeed, and returns its output.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A tool that checks a program while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    None,
    /// AddressSanitizer with leak detection, and the sanitizer for undefined behaviour.
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

    /// Whether the tool is installed and works. If not, this is reported.
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

/// The flags for the static library, as reported by Rust (`--print native-static-libs`).
fn linked_statically() -> Vec<String> {
    let archive = library().join("libhookvisor.a").display().to_string();
    [&archive, "-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"].map(str::to_owned).into()
}

/// Compiles a program of `tests/capi` or `examples`. The error is the compiler's output.
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

/// The same, linked with the static library.
pub(crate) fn program_of_one_piece(name: &str) -> PathBuf {
    compile(name, &[], &linked_statically()).unwrap()
}

/// Runs a program under a tool: its exit status, `None` for a signal, and its stderr.
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

/// valgrind's message about a system call that it does not know and answers like an old kernel. Its findings in the
/// program begin with `==`.
fn is_of_valgrind_itself(line: &str) -> bool {
    line.starts_with("--")
}

/// The hooks for the programs of `tests/capi`, and the programs' arguments.
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

    /// Adds a shell hook.
    pub(crate) fn script(self, name: &str, body: &str) -> Self {
        Self { hooks: self.hooks.script(name, body), ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        self.hooks.path()
    }

    /// Runs a program, which must find everything right, and so must its tool.
    pub(crate) fn run(&self, tool: Tool, program: &Path, last: &str) {
        self.run_to(0, tool, program, &[last]);
    }

    /// Runs a program with further arguments, which must end with this status and say nothing.
    pub(crate) fn run_to(&self, expected: i32, tool: Tool, program: &Path, arguments: &[&str]) {
        let hooks = self.hooks.path().to_str().unwrap();
        let common = [hooks, concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"), self.kinds];
        let (status, said) = run(tool, program, &[&common, arguments].concat());
        let said: String = said.split_inclusive('\n').filter(|line| !is_of_valgrind_itself(line)).collect();
        let what = format!("{} {arguments:?} with {tool:?}, {}", program.display(), self.kinds);
        assert_eq!((status, said.as_str()), (Some(expected), ""), "{what}");
    }
}
