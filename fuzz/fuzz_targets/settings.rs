//! `<hook>.toml` with any content must be accepted as a whole or refused in one line.
#![no_main]

use std::collections::BTreeMap;

use hookvisor::fuzzing::settings;
use libfuzzer_sys::fuzz_target;
use toml::{Table, Value};

/// All keys of the settings and of each table.
const KEYS: [&str; 20] = [
    "timeout",
    "confine",
    "memory",
    "processes",
    "files",
    "user",
    "state",
    "sha256",
    "env",
    "env_file",
    "mode",
    "enabled",
    "operations",
    "not_operations",
    "objects",
    "nested",
    "dir",
    "command",
    "connect",
    "secret",
];
const TABLES: [(&str, &[&str]); 4] = [
    ("dir", &["host", "guest", "access"]),
    ("command", &["program", "args", "stdin", "detach", "timeout"]),
    ("connect", &["to", "protocol"]),
    ("secret", &["file", "variable"]),
];

fuzz_target!(|text: &str| {
    match settings(text) {
        Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{why:?}"),
        Ok(may) => {
            assert!(may.iter().all(|what| !what.is_empty()));
            check(&text.parse::<Table>().expect("what was accepted is TOML"), &may);
        }
    }
    // An unknown key is never ignored.
    assert!(settings(&format!("tiemout = \"5s\"\n{text}")).is_err());
});

fn check(written: &Table, may: &[String]) {
    assert!(written.keys().all(|key| KEYS.contains(&key.as_str())), "{written:?}");
    let mut granted = BTreeMap::new();
    for (name, keys) in TABLES {
        let tables = written.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        granted.insert(name, tables.len());
        for table in tables {
            // serde also accepts an array for a table, with the values in the order of the fields.
            let Some(table) = table.as_table() else { panic!("{name} was taken without its keys: {table:?}") };
            assert!(table.keys().all(|key| keys.contains(&key.as_str())), "{table:?}");
            for path in ["host", "program", "file"].iter().filter_map(|key| table.get(*key)?.as_str()) {
                assert!(path.starts_with('/'), "{path:?}");
            }
            check_command(table);
        }
    }
    if let Some(path) = written.get("env_file") {
        assert!(path.as_str().is_some_and(|path| path.starts_with('/')), "{path:?}");
    }
    // The listing shows every grant, once.
    let told = |words: &[&str]| may.iter().filter(|what| words.iter().any(|words| what.starts_with(words))).count();
    assert_eq!(told(&["read /", "write /", "read and write /"]), granted["dir"], "{may:?}");
    assert_eq!(told(&["read the secret /"]), granted["secret"], "{may:?}");
    assert_eq!(told(&["run /"]), granted["command"], "{may:?}");
    assert_eq!(told(&["connect to "]), granted["connect"], "{may:?}");
    assert_eq!(told(&["see the variables in /"]), usize::from(written.contains_key("env_file")), "{may:?}");
    let state = written.get("state").and_then(Value::as_bool).unwrap_or_default();
    assert_eq!(told(&["keep files in its own directory"]), usize::from(state), "{may:?}");
    let env = written.get("env").and_then(Value::as_table);
    assert_eq!(told(&["see the variable "]), env.map_or(0, Table::len), "{may:?}");
    for (name, value) in env.into_iter().flatten() {
        assert!(!name.is_empty() && !name.contains(['=', '\0']), "{name:?}");
        assert!(value.as_str().is_some_and(|value| !value.contains('\0')), "{value:?}");
    }
}

/// The rules for the keys that only a command has.
fn check_command(table: &Table) {
    let detach = table.get("detach").and_then(Value::as_bool).unwrap_or_default();
    // A detached command has a time and no stdin. Any other command has the hook's time.
    assert_eq!(detach, table.contains_key("timeout"), "{table:?}");
    let Some(rule) = table.get("stdin") else { return };
    let rule = rule.as_table().unwrap_or_else(|| panic!("stdin was taken without its key: {rule:?}"));
    assert!(!detach && rule.len() == 1 && (rule.contains_key("regex") || rule.contains_key("lines")), "{table:?}");
}
