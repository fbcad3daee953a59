//! The output for programs matches the schemas in `docs/schema/`, according to an independent validator.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::program::hookvisor;
use crate::support::{DRIVER, Hooks, skip};

pub(crate) const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema");

/// Each line of standard input is a document. The argument is the schema.
const VALIDATE: &str = "import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in sys.stdin:
    for error in validator.iter_errors(json.loads(line)):
        sys.exit(f'{list(error.absolute_path)}: {error.message}')
";

/// Whether the documents match the schema; `None` without a validator.
pub(crate) fn validate(schema: &str, documents: &str) -> Option<Result<(), String>> {
    let file = Path::new(SCHEMAS).join(format!("{schema}.schema.json"));
    let has_validator =
        Command::new("python3").args(["-c", "import jsonschema"]).output().is_ok_and(|ran| ran.status.success());
    if !has_validator {
        skip("a schema", "Python's jsonschema is not installed (scripts/install-test-tools installs it on Debian)");
        return None;
    }
    let mut python = Command::new("python3")
        .args(["-c", VALIDATE])
        .arg(file)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(documents.as_bytes()).unwrap();
    let ran = python.wait_with_output().unwrap();
    Some(if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) })
}

/// A document in one line.
pub(crate) fn line(document: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(document).unwrap();
    value.to_string() + "\n"
}

#[test]
fn real_output_is_what_the_schemas_say() {
    let hooks = Hooks::new()
        .script("test.d/10-a", "echo a remark >&2; exit 0")
        .script("test.d/20-watching", "exit 1")
        .script("test.d/30-killed", "[ \"$2\" = start ] || kill -9 $$")
        .script("test.d/40-vetoes", "[ \"$2\" != start ] || exit 3")
        .script("test.d/50-after", "exit 0")
        .script("qemu", "echo '<changed/>'");
    hooks.file(
        "test.d/20-watching.toml",
        "mode = 'monitor'\noperations = ['start', 'stopped']\nobjects = ['web*']\n",
        0o644,
    );
    hooks.file("test.d/60-broken", "no interpreter", 0o755);
    hooks.file("test.d/70-skipped", "#!/bin/sh\n", 0o644);
    hooks.file("test.d/web1/stray", "#!/bin/sh\n", 0o755);
    let record = hooks.path().join(".record").display().to_string();
    let json = |arguments: &[&str]| line(&hooks.call(arguments).stdout);
    let mut reports = String::new();
    for event in
        [[DRIVER, "web1", "start"], [DRIVER, "web1", "stopped"], ["qemu", "web1", "restore"], ["qemu", "web1", "strat"]]
    {
        reports += &json(&[&["run", "--format", "json", "--record", &record], &event[..]].concat());
    }
    let Some(valid) = validate("report", &reports) else { return };
    assert_eq!(valid, Ok(()));
    let check =
        |schema: &str, documents: &str| assert_eq!(validate(schema, documents), Some(Ok(())), "{schema}: {documents}");
    check("inventory", &(json(&["list", "--format", "json"]) + &json(&["check", "--format", "json"])));
    check("explanation", &json(&["explain", "--format", "json", DRIVER, "web1", "start"]));
    let change = hookvisor::RecordedChange::now("enabled", Path::new("/hook"), "root");
    hookvisor::Record::at(&record).change(&change).unwrap();
    let history = |arguments: &[&str]| {
        hooks.ran(hookvisor().args(["history", "--record", &record, "--format", "json"]).args(arguments)).stdout
    };
    let entries = history(&[]);
    assert_eq!(entries.lines().count(), 5, "{entries}");
    check("history", &entries);
    check("statistics", &line(&history(&["--stats"])));
    // The validator detects errors.
    let wrong = entries.replace("\"decision\":\"vetoed\"", "\"decision\":\"perhaps\"");
    assert!(validate("history", &wrong).is_some_and(|result| result.is_err()));
    assert!(validate("report", "{}\n").is_some_and(|result| result.is_err()));
}
