//! The Python package: the wheel is built, installed in a new virtual environment, and used there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use hookvisor::{Convention, DocumentFormat, Event, Operation};

use crate::support::Hooks;
use crate::support::capi::{ROOT, Tool, program, versioned_library};
use crate::support::guests::wasm_probe;
use crate::support::skip;

/// The interpreter of an environment with the wheel; `None` if this machine cannot create one.
fn python() -> Option<&'static Path> {
    static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let _none_yet = std::fs::remove_dir_all(&directory);
        let made = Command::new("python3").args(["-m", "venv"]).arg(directory.join("venv")).output();
        if !made.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let python = directory.join("venv/bin/python");
        let library = versioned_library().join("libhookvisor.so");
        let wheel =
            ran(Command::new(&python).arg(format!("{ROOT}/python/build_wheel.py")).arg(&directory).arg(library));
        ran(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--no-index", wheel.trim()]));
        Some(python)
    });
    if PYTHON.is_none() {
        skip("the Python package", "no virtual environment can be made (apt-get install python3-venv)");
    }
    PYTHON.as_deref()
}

fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

#[test]
fn the_readme_and_the_documentation_of_the_package_are_true() {
    let Some(python) = python() else { return };
    let readme = format!("{ROOT}/python/README.md");
    ran(Command::new(python).args(["-m", "doctest", &readme]));
    let modules = "import doctest, hookvisor._report, hookvisor._calls\n\
        results = [doctest.testmod(module) for module in (hookvisor._report, hookvisor._calls)]\n\
        assert all(result.attempted > 0 and result.failed == 0 for result in results), results";
    ran(Command::new(python).args(["-c", modules]));
}

/// mypy finds no mistake in the annotations of the installed package, nor in the README's code that uses them.
#[test]
fn the_types_of_the_package_are_right() {
    if std::env::var_os("HOOKVISOR_SLOW_TESTS").is_none() {
        return skip("the types of the Python package", "HOOKVISOR_SLOW_TESTS=1 is not set");
    }
    let Some(python) = python() else { return };
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "0", "mypy"];
    if !Command::new(python).args(pip).output().is_ok_and(|output| output.status.success()) {
        return skip("the types of the Python package", "mypy cannot be installed from PyPI");
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let mypy = || {
        let mut mypy = Command::new(python);
        mypy.current_dir(&directory).args(["-m", "mypy"]);
        mypy
    };
    ran(mypy().args(["--strict", "--package", "hookvisor"]));
    let readme = std::fs::read_to_string(format!("{ROOT}/python/README.md")).unwrap();
    let code = readme.lines().filter_map(|line| line.strip_prefix(">>> ").or_else(|| line.strip_prefix("... ")));
    std::fs::write(directory.join("readme.py"), code.flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
    // It knows which guests have a report.
    ran(mypy().args(["--check-untyped-defs", "--no-strict-optional", "readme.py"]));
    std::fs::write(directory.join("wrong.py"), "import hookvisor\nhookvisor.Runtime(5)\n").unwrap();
    assert!(!mypy().arg("wrong.py").output().unwrap().status.success(), "the package's types are not seen");
}

#[test]
fn the_installed_package_does_what_it_promises() {
    let Some(python) = python() else { return };
    ran(Command::new(python).arg(format!("{ROOT}/tests/python/test_hookvisor.py")).current_dir("/"));
}

/// Accesses to freed memory, which ctypes allows. Values of the interpreter's own are uninitialized at its end, and it leaves
/// memory to the end of the process, so neither counts here; `Load` in the package's tests looks for leaks.
#[test]
fn valgrind_finds_no_misuse_of_memory() {
    if !Tool::Valgrind.works() {
        return;
    }
    let Some(python) = python() else { return };
    let hooks = Hooks::new();
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--undef-value-errors=no", "--error-exitcode=99"]);
    valgrind.arg(format!("--suppressions={ROOT}/tests/capi/valgrind.supp"));
    valgrind.arg(python).arg(format!("{ROOT}/tests/python/memory.py")).arg(hooks.path());
    // Python's own allocator hides what is freed.
    ran(valgrind.env("PYTHONMALLOC", "malloc"));
}

/// Events from Rust, C and Python, with a convention and hooks of both kinds: the reports differ only in durations.
#[test]
fn the_same_event_has_the_same_report_in_every_language() {
    const DOCUMENT: &str = "{\"memory\": 512}";
    const CONVENTION: &str = "[convention.mydaemon]\nended_by = 'delete'\n\
        operations = { create = 'start', configure = { stage = 'start', filter = 'json' }, delete = 'shutdown' }\n";
    const IN_PYTHON: &str = "\
        import sys, hookvisor\n\
        _, directory, cache, conventions, operation, document = sys.argv\n\
        event = hookvisor.Event('mydaemon', 'stderr=hi', operation, document=document)\n\
        try: report = hookvisor.Runtime(directory, cache=cache, conventions=conventions).run(event)\n\
        except hookvisor.Veto as veto: report = veto.report\n\
        print(report.json, end='')";
    let Some(python) = python() else { return };
    let hooks = Hooks::new()
        .script("mydaemon.d/10-ok", "echo fine >&2")
        .script(
            "mydaemon.d/20-policy",
            "case $2 in create) cat >&2; exit 3 ;; delete) kill -9 $$ ;; *) sed s/512/1024/ ;; esac",
        )
        .copy("mydaemon.d/30-sandboxed", wasm_probe());
    let convention = Convention::new("mydaemon")
        .operation("create", Operation::start())
        .operation("configure", Operation::filter(DocumentFormat::Json))
        .operation("delete", Operation::shutdown())
        .ended_by("delete");
    let in_rust = hooks.builder().convention(convention).build().unwrap();
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
    for (operation, decision, exit_status, reports) in
        [("create", "vetoed", 3, 2), ("configure", "proceed", 0, 3), ("delete", "notified", 137, 3)]
    {
        let event = Event::new("mydaemon", "stderr=hi", operation).unwrap().with_document(DOCUMENT);
        let arguments =
            |mut command: Command| ran(command.arg(hooks.path()).args([cache, CONVENTION, operation, DOCUMENT]));
        let mut interpreter = Command::new(python);
        interpreter.args(["-c", IN_PYTHON]);
        let all = [
            in_rust.run(&event).to_json(),
            arguments(Command::new(program("json", Tool::None))),
            arguments(interpreter),
        ];
        let [in_rust, in_c, in_python] = all.map(|json| without_durations(&json));
        assert_eq!(
            (&in_rust["decision"], &in_rust["exit_status"]),
            (&decision.into(), &exit_status.into()),
            "{in_rust}"
        );
        assert_eq!(in_rust["hooks"].as_array().unwrap().len(), reports, "{in_rust}");
        assert_eq!((&in_c, &in_python), (&in_rust, &in_rust), "{operation}");
    }
}

fn without_durations(json: &str) -> serde_json::Value {
    let mut report: serde_json::Value = serde_json::from_str(json).unwrap();
    for hook in report["hooks"].as_array_mut().unwrap() {
        assert!(hook["duration_us"].take().is_u64());
    }
    report
}
