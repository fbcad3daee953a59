//! The binary interface of libhookvisor. A program that was built with it must run with every later version.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::capi::{ROOT, library, succeed, symbols, versioned_library};

/// The interface as lines: symbols with their version, prototypes, values of enumerations, fields with offset and size.
fn interface() -> &'static BTreeSet<String> {
    static INTERFACE: LazyLock<BTreeSet<String>> = LazyLock::new(read_interface);
    &INTERFACE
}

fn read_interface() -> BTreeSet<String> {
    let header = fs::read_to_string(Path::new(ROOT).join("include/hookvisor.h")).unwrap();
    let code = without_comments(&header);
    let mut lines: BTreeSet<String> = layout(&code).lines().map(str::to_owned).collect();
    let statements = code.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ");
    let flat = statements.split_whitespace().collect::<Vec<_>>().join(" ");
    for statement in flat.split(';').filter(|statement| statement.contains(" hookvisor_") && statement.ends_with(')')) {
        let prototype = statement.rsplit(['{', '}', '"']).next().unwrap().replace("HOOKVISOR_MUST_USE", "");
        lines.insert(format!("function {}", prototype.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    lines.extend(symbols(versioned_library()).into_iter().map(|symbol| format!("symbol {symbol}")));
    lines
}

fn without_comments(header: &str) -> String {
    let mut parts = header.split("/*");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |code, part| code + part.split_once("*/").map_or("", |(_, rest)| rest))
}

/// The compiler's layout of the structures and enumerations.
fn layout(code: &str) -> String {
    let mut program = "#include <stdio.h>\n#include <hookvisor.h>\nint main(void)\n{\n".to_owned();
    for (kind, body, name) in definitions(code) {
        for item in body.split([';', ',']).map(str::trim).filter(|item| !item.is_empty()) {
            let field = item.split(['[', '=']).next().unwrap().trim().rsplit([' ', '*']).next().unwrap();
            match kind {
                "enum" => writeln!(program, "printf(\"value {field} %d\\n\", (int){field});"),
                _ => writeln!(
                    program,
                    "printf(\"field {name}.{field} %zu %zu\\n\", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));"
                ),
            }
            .unwrap();
        }
    }
    program.push_str("return 0;\n}\n");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi");
    fs::create_dir_all(&directory).unwrap();
    let [source, binary] = ["layout.c", "layout"].map(|name| directory.join(name));
    fs::write(&source, program).unwrap();
    succeed(Command::new("cc").arg(format!("-I{ROOT}/include")).arg(&source).arg("-o").arg(&binary));
    succeed(&mut Command::new(binary))
}

/// Kind, body and name of each `typedef struct { … } name;`.
fn definitions(code: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    code.split("typedef ").skip(1).filter_map(|definition| {
        let (kind, rest) = definition.split_once(" {")?;
        let (body, rest) = rest.split_once('}')?;
        let (name, _) = rest.split_once(';')?;
        matches!(kind, "enum" | "struct").then_some((kind, body, name.trim()))
    })
}

#[test]
fn nothing_that_a_program_was_built_with_is_gone_or_moved() {
    let file = Path::new(ROOT).join("tests/capi/abi-0.1.txt");
    let promised: BTreeSet<String> = fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect();
    let now = interface();
    if std::env::var_os("HOOKVISOR_WRITE_ABI").is_some() {
        let text: String = now.iter().flat_map(|line| [line, "\n"]).collect();
        return fs::write(&file, text).unwrap();
    }
    let broken: Vec<_> = promised.difference(now).collect();
    assert_eq!(broken, [""; 0], "these are gone or have moved; programs that use them break");
    let new: Vec<_> = now.difference(&promised).collect();
    assert_eq!(
        new,
        [""; 0],
        "append these to {}: HOOKVISOR_WRITE_ABI=1 cargo test --test integration abi",
        file.display()
    );
}

#[test]
fn every_function_of_the_header_has_a_version() {
    let now = interface();
    let of = |word: &str| now.iter().filter_map(|line| line.strip_prefix(word)).collect::<Vec<_>>();
    let (symbols, functions) = (of("symbol "), of("function "));
    assert_eq!(symbols.len(), functions.len(), "{symbols:?} {functions:?}");
    assert!(symbols.iter().all(|symbol| symbol.contains("@@HOOKVISOR_")), "{symbols:?}");
}

/// What cargo links with `scripts/link-with-versions` is what packages get from `scripts/link-library`.
#[test]
fn every_way_to_link_the_library_gives_the_same_versions() {
    assert_eq!(symbols(library()), symbols(versioned_library()));
}
