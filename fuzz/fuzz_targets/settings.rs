//! `<hook>.toml` with any content must be accepted as a whole or refused in one line.
#![no_main]

use std::collections::BTreeMap;

use hookvisor::fuzzing::settings;
use libfuzzer_sys::fuzz_target;
use toml::{Table, Value};

/// All keys of the settings and of each table.
const KEYS: [&str; 19] = [
    "timeout", "confine", "memory", "processes", "files", "user", "state", "sha256", "env", "mode", "enabled", "operations",
    "not_operations", "objects", "nested", "dir", "command", "connect", "secret",
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
        }
    }
    // The listing shows every grant.
    let told = |words: &str| may.iter().filter(|what| what.starts_with(words)).count();
    assert!(told("read ") + told("write ") >= granted["dir"] + granted["secret"] && told("run ") >= granted["command"]);
    assert!(told("connect to ") >= granted["connect"]);
    for (name, value) in written.get("env").and_then(Value::as_table).into_iter().flatten() {
        assert!(!name.is_empty() && !name.contains(['=', '\0']), "{name:?}");
        assert!(value.as_str().is_some_and(|value| !value.contains('\0')), "{value:?}");
    }
}
