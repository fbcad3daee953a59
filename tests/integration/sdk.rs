//! The guest SDK on its three targets: a program, a module and a component from one source behave the same.

use std::path::PathBuf;

use hookvisor::{Decision, Event, Report, Runtime};

use crate::support::guests::{build, wasm, wasm_for};
use crate::support::{Hooks, stderr};

const MODULE: &str = "wasm32-wasip1";
const COMPONENT: &str = "wasm32-wasip2";

/// The hook for a target, with these settings. Native without a target.
fn installed(target: Option<&str>, settings: &str) -> Hooks {
    let hooks = Hooks::new();
    let built: PathBuf = target.map_or_else(|| build("sdk", None), |target| wasm_for("sdk", target));
    let name = if target.is_some() { "10-sdk.wasm" } else { "10-sdk" };
    let hooks = hooks.copy(&format!("qemu.d/{name}"), &built);
    hooks.file("qemu.d/10-sdk.toml", settings, 0o644);
    hooks
}

fn event(operation: &str, what: &str) -> Event {
    Event::new("qemu", "web1", operation).unwrap().with_extra(what).unwrap().with_document("<domain/>")
}

fn ended(report: &Report) -> (u8, String) {
    (report.exit_status(), stderr(report))
}

fn forms(settings: &str) -> [(Hooks, Runtime); 3] {
    [None, Some(MODULE), Some(COMPONENT)].map(|target| {
        let hooks = installed(target, settings);
        let runtime = hooks.runtime();
        (hooks, runtime)
    })
}

#[test]
fn every_kind_of_verdict_arrives_from_every_target() {
    for (hooks, runtime) in forms("env = { MODE = 'strict' }") {
        let run = |operation, what: &str| runtime.run(&event(operation, what));
        for status in [1, 2, 7, 77, 124, 125, 126, 127, 128, 134, 137, 200, 254, 255] {
            let report = run("start", &format!("status={status}"));
            assert_eq!(ended(&report), (status, format!("status {status}\n")), "{}", hooks.path().display());
        }
        assert_eq!(ended(&run("start", "status=0")), (0, String::new()));
        // 256 is not a status. The error that says so vetoes.
        assert_eq!(ended(&run("start", "status=256")), (1, "number too large to fit in target type\n".to_owned()));
        assert_eq!(ended(&run("start", "dance")), (1, "\"dance\" is nothing to do\n".to_owned()));
        assert_eq!(ended(&run("start", "setting=MODE")), (1, "strict\n".to_owned()));
        assert_eq!(ended(&run("start", "setting=PWD_OF_THE_HOST")), (1, "not set\n".to_owned()));

        let report = run("migrate", "shout");
        assert_eq!((report.decision, report.document.as_deref()), (Decision::Proceed, Some(b"<DOMAIN/>".as_slice())));
    }
}

/// The allowed shell command: one script with `-c`.
const SHELL: &str = "[[command]]\nprogram = '/bin/sh'\nargs = ['-c', '*']\n";

#[test]
fn a_command_s_output_and_end_arrive_on_every_target() {
    let granted = [(None, ""), (Some(MODULE), SHELL), (Some(COMPONENT), SHELL)];
    for (target, settings) in granted {
        let hooks = installed(target, settings);
        let runtime = hooks.runtime();
        let ran = |command: &str| ended(&runtime.run(&event("start", &format!("run={command}")))).1;
        for (command, told) in [
            ("/bin/sh -c true", "it exited with 0, wrote 0 bytes and said \"\""),
            ("/bin/sh -c cat;_cat_/dev/null", "it exited with 0, wrote 9 bytes and said \"\""),
            ("/bin/sh -c echo_no_>&2;_exit_200", "it exited with 200, wrote 0 bytes and said \"no\""),
            ("/bin/sh -c kill_-9_$$", "it was killed by signal 9, wrote 0 bytes and said \"\""),
            (
                "/bin/sh -c head_-c_3000000_/dev/zero;_cat_>&2",
                "it exited with 0, wrote 3000000 bytes and said \"<domain/>\"",
            ),
            ("/bin/sh -c pwd;_env_|_grep_-qx_LC.ALL=C_||_exit_9", "it exited with 0, wrote 2 bytes and said \"\""),
        ] {
            assert_eq!(ran(command), format!("{told}\n"), "{target:?}: {command}");
        }
    }
}

#[test]
fn a_refused_command_differs_from_one_that_cannot_be_run() {
    let gone = tempfile::tempdir().unwrap();
    let program = gone.path().join("tool");
    for target in [MODULE, COMPONENT] {
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let hooks = installed(Some(target), &format!("[[command]]\nprogram = {program:?}\n"));
        let runtime = hooks.runtime();
        let ran = |command: &str| runtime.run(&event("start", &format!("run={command}")));

        let refused = ran("/bin/sh -c true");
        let said = stderr(&refused);
        assert!(said.starts_with("refused: this hook may not run /bin/sh: "), "{target}: {said}");
        assert!(
            refused.hooks[0].notes[0]
                .contains("\n    [[command]]\n    program = \"/bin/sh\"\n    args = [\"-c\", \"true\"]"),
            "{:?}",
            refused.hooks[0].notes
        );

        std::fs::remove_file(&program).unwrap();
        let said = stderr(&ran("tool"));
        assert!(said.starts_with(&format!("not run: {} could not be run: ", program.display())), "{target}: {said}");
        assert!(!said.contains("tool could not be run: tool"), "{said}");
    }
}

#[test]
fn what_a_hook_logs_reaches_the_runtime_s_log_by_its_level() {
    for target in [MODULE, COMPONENT] {
        let hooks = installed(Some(target), "");
        let logged = |level: &str| {
            let mut command = hooks.command("run");
            command.arg("--hooks").arg(hooks.path()).args(["qemu", "web1", "start", "begin", "log"]);
            let ran = hooks.ran(command.env("HOOKVISOR_LOG", level));
            assert_eq!(ran.status, 0, "{ran:?}");
            let name = "hookvisor: DIR/qemu.d/10-sdk.wasm: ";
            let lines = ran.stderr.split_inclusive('\n').filter_map(|line| line.strip_prefix(name));
            lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
        };
        let all = ["an error", "a warning", "an info", "a debug line", "a trace"];
        for (level, kept) in [("error", 1), ("warn", 2), ("info", 3), ("debug", 4), ("trace", 5)] {
            let lines = logged(level);
            assert_eq!(lines.len(), kept, "{target} {level}: {lines:?}");
            assert!(lines.iter().zip(all).all(|(line, expected)| line.starts_with(expected)), "{lines:?}");
        }
    }
}

/// The modules that a guest imports from.
fn imports(package: &str) -> Vec<String> {
    let module = wasmtime::Module::from_file(&wasmtime::Engine::default(), wasm(package)).unwrap();
    let mut imports: Vec<String> = module.imports().map(|import| import.module().to_owned()).collect();
    imports.sort_unstable();
    imports.dedup();
    imports
}

#[test]
fn a_module_imports_what_it_uses_and_nothing_else() {
    assert_eq!(imports("policy"), ["wasi_snapshot_preview1"]);
    assert_eq!(imports("hugepages"), ["wasi_snapshot_preview1"]);
    assert_eq!(imports("port-forward"), ["hookvisor", "wasi_snapshot_preview1"]);
}

#[test]
fn a_component_imports_what_it_uses_and_nothing_else() {
    let engine = wasmtime::Engine::default();
    let imports = |package| {
        let component = wasmtime::component::Component::from_file(&engine, wasm_for(package, COMPONENT)).unwrap();
        let names = component.component_type().imports(&engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        names.into_iter().filter(|name| name.starts_with("hookvisor:")).collect::<Vec<_>>()
    };
    assert_eq!(imports("policy"), [""; 0]);
    assert_eq!(imports("port-forward"), ["hookvisor:hook/commands@0.1.0"]);
    let all = ["commands", "logging", "unix"].map(|interface| format!("hookvisor:hook/{interface}@0.1.0"));
    let mut imported = imports("sdk");
    imported.sort();
    assert_eq!(imported, all);
}

#[test]
fn every_target_is_told_the_driver() {
    for (_hooks, runtime) in forms("") {
        let report = runtime.run(&event("start", "driver"));
        assert_eq!(ended(&report), (1, "qemu\n".to_owned()), "{report}");
    }
}
