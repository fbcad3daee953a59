//! Every command in the README and the book is run, and must print what is shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Hooks, skip};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The README's code blocks in a language.
fn blocks(language: &str) -> Vec<String> {
    blocks_of(&Path::new(ROOT).join("README.md"), language)
}

/// The code blocks of a page in a language.
fn blocks_of(page: &Path, language: &str) -> Vec<String> {
    let page = fs::read_to_string(page).unwrap();
    let mut blocks = page.split("\n```");
    let mut found = Vec::new();
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let (info, body) = block.split_once('\n').unwrap();
        if info == language {
            found.push(format!("{body}\n"));
        }
    }
    found
}

/// The output of a command, both streams in order, with `hookvisor` in the PATH.
fn printed(command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_hookvisor")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let shell =
        Command::new("sh").args(["-c", &format!("exec 2>&1; {command}")]).env("PATH", path).current_dir(ROOT).output();
    String::from_utf8(shell.unwrap().stdout).unwrap().replace(ROOT, "/…")
}

/// Whether a line is as shown. `…` stands for any text.
fn is_as_shown(line: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let mut rest = line.strip_prefix(first);
    for part in parts {
        rest = rest.and_then(|rest| rest.find(part).map(|at| &rest[at + part.len()..]));
    }
    rest.is_some_and(|rest| rest.is_empty() || shown.ends_with('…'))
}

/// The pages of the book, in order of their names.
fn pages() -> Vec<PathBuf> {
    let names = fs::read_dir(Path::new(ROOT).join("docs/src")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = names.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.sort();
    pages
}

#[test]
fn every_command_prints_what_the_readme_shows() {
    assert!(commands_print_what_is_shown(&Path::new(ROOT).join("README.md")) >= 7);
}

#[test]
fn every_command_prints_what_the_book_shows() {
    assert!(pages().iter().map(|page| commands_print_what_is_shown(page)).sum::<usize>() >= 1);
}

#[test]
fn every_page_is_in_the_summary_and_every_link_works() {
    let summary = fs::read_to_string(Path::new(ROOT).join("docs/src/SUMMARY.md")).unwrap();
    let mut texts = pages();
    for page in &texts {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name} is not in SUMMARY.md");
    }
    texts.extend(
        ["README.md", "SECURITY.md", "CONTRIBUTING.md", "ARCHITECTURE.md"].map(|name| Path::new(ROOT).join(name)),
    );
    for page in texts {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let is_elsewhere = link.contains("://") || file.is_empty();
            assert!(is_elsewhere || page.parent().unwrap().join(file).exists(), "{}: {link}", page.display());
        }
    }
}

/// mdbook also rejects an invalid SUMMARY.md.
#[test]
fn the_book_builds() {
    let html = tempfile::tempdir().unwrap();
    let mdbook =
        Command::new("mdbook").args(["build", "docs", "--dest-dir"]).arg(html.path()).current_dir(ROOT).output();
    let Ok(built) = mdbook else { return skip("readme::the_book_builds", "mdbook is not installed") };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for page in pages() {
        let name = page.with_extension("html");
        let name = name.file_name().unwrap();
        assert!(name == "SUMMARY.html" || html.path().join(name).exists(), "{} is missing in the book", page.display());
    }
}

#[test]
fn the_book_s_picture_is_what_its_script_draws() {
    let drawn = Command::new(Path::new(ROOT).join("scripts/event-picture")).output().unwrap();
    let picture = fs::read(Path::new(ROOT).join("docs/src/event.svg")).unwrap();
    assert!(drawn.stdout == picture, "run scripts/event-picture > docs/src/event.svg");
}

/// Runs the commands of a page, and returns their number.
fn commands_print_what_is_shown(page: &Path) -> usize {
    let mut commands = 0;
    for block in blocks_of(page, "console") {
        // Only the first line of the first block is a command. The script itself prints the rest.
        let of_script = block.starts_with("$ sh ");
        let mut lines = block.lines().peekable();
        while let Some(command) = lines.next() {
            let command = command.strip_prefix("$ ").unwrap();
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| of_script || !line.starts_with("$ ")) {
                shown.push(line);
            }
            let printed = printed(command);
            let same = printed.lines().count() == shown.len()
                && printed.lines().zip(&shown).all(|(line, shown)| is_as_shown(line, shown));
            assert!(same, "$ {command}\nprinted:\n{printed}\n{} shows:\n{}", page.display(), shown.join("\n"));
            commands += 1;
        }
    }
    commands
}

#[test]
fn the_settings_shown_are_accepted() {
    let [settings, grants] = blocks("toml").try_into().unwrap();
    let policy = Path::new(ROOT).join("examples/hooks/qemu.d/20-policy.wasm");
    let shown = |settings: &str| {
        let hooks = Hooks::new().copy("qemu.d/20-policy.wasm", &policy);
        hooks.file("qemu.d/20-policy.toml", settings, 0o644);
        let [hook] = hooks.runtime().inventory().hooks.try_into().unwrap();
        hook
    };
    let hook = shown(&settings);
    assert_eq!((hook.reason, hook.timeout.as_secs()), (None, 5));
    assert_eq!((hook.operations, hook.objects), (Some(vec!["prepare".into()]), Some(vec!["web*".into()])));
    // This machine may not have what they grant, and a module cannot use all of it.
    let hook = shown(&grants);
    assert!(hook.reason.is_some_and(|reason| reason.starts_with("its settings ")));
    let may = [
        "use 32.0 MiB of memory",
        "read and write /sys/kernel/mm/hugepages as /hugepages",
        "run /usr/bin/systemctl set-property --runtime * /AllowedCPUs=[0-9,-]*/",
        "connect to 127.0.0.1:9090",
    ];
    assert_eq!(hook.may, may);
}

#[test]
fn the_check_runs_the_test_command() {
    let check = fs::read_to_string(Path::new(ROOT).join(".ci/run")).unwrap();
    for command in blocks("sh").iter().flat_map(|block| block.lines()) {
        assert!(check.lines().any(|line| line.starts_with(command)), "{command}");
    }
}

#[test]
fn the_embedding_shown_asks_before_and_tells_after() {
    let example = fs::read_to_string(Path::new(ROOT).join("examples/embed.rs")).unwrap();
    let shown = blocks("rust,no_run").into_iter().find(|block| block.starts_with("use hookvisor::{Event")).unwrap();
    assert!(example.ends_with(&format!("\n\n{shown}")), "examples/embed.rs is not what the README shows");
    let hooks = Hooks::new().script("mydaemon", "echo \"$@: $(cat)\" >&2; exit $(cat \"$0.$2.bak\")");
    let embedded = |start: &str, stopped: &str| {
        hooks.file("mydaemon.start.bak", start, 0o644);
        hooks.file("mydaemon.stopped.bak", stopped, 0o644);
        printed(&format!("cargo run --quiet --example embed -- {}", hooks.path().display()))
            .replace(&hooks.path().display().to_string(), "DIR")
    };
    let failed = "Hook script execution failed: Hook script DIR/mydaemon failed with error code";
    assert_eq!(embedded("0", "0"), "");
    assert_eq!(embedded("7", "0"), format!("Error: {failed} 7: web1 start - -: {{\"memory\": 512}}\n"));
    assert_eq!(embedded("0", "8"), format!("{failed} 8: web1 stopped - -: {{\"memory\": 512}}\n"));
}

/// The module in `examples/hooks` exists so that the first command needs no WebAssembly target. It must behave like its
/// source.
#[test]
fn the_prebuilt_policy_does_what_its_source_does() {
    let hooks = |policy: &Path| {
        let hooks = Hooks::new();
        hooks.file("qemu", fs::read(policy).unwrap(), 0o755);
        hooks
    };
    let prebuilt = hooks(&Path::new(ROOT).join("examples/hooks/qemu.d/20-policy.wasm"));
    let built = hooks(&crate::support::guests::wasm("policy"));
    for document in ["web1.xml", "web2.xml"] {
        let document = fs::read(Path::new(ROOT).join("examples").join(document)).unwrap();
        for operation in ["prepare", "start", "release"] {
            let event = hookvisor::Event::new("qemu", "web", operation).unwrap().with_document(document.clone());
            let said = |hooks: &Hooks| {
                let report = hooks.runtime().run(&event);
                (report.exit_status(), report.hooks[0].stderr.clone())
            };
            assert_eq!(said(&prebuilt), said(&built), "{operation}");
        }
    }
}
