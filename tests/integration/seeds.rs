//! Runs the fuzzer's seeds (`fuzz/seeds`) without the fuzzer.

use std::fs;
use std::path::PathBuf;

use hookvisor::{LaunchError, Termination};

use crate::support::{DRIVER, Hooks, event};

/// The seeds of a fuzz target.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_module_is_refused_or_ends_within_its_limits() {
    let hooks = Hooks::new();
    for (path, seed) in seeds("loader") {
        let module = wat::parse_bytes(&seed).unwrap();
        hooks.file(DRIVER, &module, 0o755);
        let report = hooks.impatient_runtime().run(&event("web1", "start"));
        let ended = &report.hooks[0].termination;
        assert!(
            matches!(
                ended,
                Termination::Exited(_)
                    | Termination::TimedOut { .. }
                    | Termination::Trapped(_)
                    | Termination::NotLaunched(LaunchError::Refused(_))
            ),
            "{}: {report}",
            path.display()
        );
    }
}

#[test]
fn settings_are_accepted_whole_or_refused_in_one_line() {
    for (path, seed) in seeds("settings") {
        let hooks = Hooks::new();
        hooks.file(DRIVER, b"\0asm\x01\0\0\0", 0o755);
        hooks.file("test.toml", seed, 0o644);
        let reason = hooks.runtime().inventory().hooks[0].reason.clone().unwrap();
        let is_wrong = path.file_name().unwrap().to_str().unwrap().contains("-");
        assert_eq!(reason.contains("test.toml: line "), is_wrong, "{}: {reason}", path.display());
        assert!(!reason.contains('\n'), "{}: {reason}", path.display());
    }
}
