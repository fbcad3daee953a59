//! The modules of `src/` import each other without cycles, so each can be read after the modules that it uses. Files and
//! functions are short enough to be read in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module's path, such as `["runtime", "call"]`; the crate's root is empty.
type Module = Vec<String>;
type Imports = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_module_of_the_library_imports_one_that_imports_it() {
    let imports = imports(|file| !is_of_the_program(file));
    assert_eq!(circles(&imports), Vec::<String>::new());
}

#[test]
fn no_module_of_the_program_imports_one_that_imports_it() {
    let imports = imports(is_of_the_program);
    assert_eq!(circles(&imports), Vec::<String>::new());
}

/// The directories below `src/` are layers. They have no cycle either.
#[test]
fn no_layer_of_the_library_imports_one_that_imports_it() {
    let mut layers = Imports::new();
    for (module, imported) in imports(|file| !is_of_the_program(file)) {
        let layer = |module: &Module| module.iter().take(1).cloned().collect::<Module>();
        let imported = imported.iter().map(layer).filter(|other| *other != layer(&module));
        layers.entry(layer(&module)).or_default().extend(imported);
    }
    assert_eq!(circles(&layers), Vec::<String>::new());
}

/// The most lines of a file and of a function.
const LIMITS: [(&str, usize, usize); 4] =
    [("src", 450, 60), ("guest-sdk/src", 450, 60), ("xtask", 450, 60), ("tests", 600, 65)];

#[test]
fn files_and_functions_are_short() {
    let mut too_long = Vec::new();
    for (directory, file_limit, function_limit) in LIMITS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let mut files = Vec::new();
        rust_files(&directory, &mut files);
        for file in files {
            let source = fs::read_to_string(&file).unwrap();
            let lines = source.lines().count();
            if lines > file_limit {
                too_long.push(format!("{}: {lines} lines", file.display()));
            }
            let long = functions(&source).into_iter().filter(|(_, lines)| *lines > function_limit);
            too_long.extend(long.map(|(name, lines)| format!("{}: `{name}` has {lines} lines", file.display())));
        }
    }
    assert_eq!(too_long, Vec::<String>::new());
}

#[test]
fn a_function_s_lines_are_counted() {
    let source = "impl X {\n    pub(crate) async fn a(\n        b: u8,\n    ) {\n        b\n    }\n}\nfn c() {\n}\n\
                  trait T {\n    fn d();\n    fn e(\n    ) -> u8;\n    fn f() {}\n}\n";
    assert_eq!(functions(source), [("a".to_owned(), 5), ("c".to_owned(), 2)]);
}

/// The functions of formatted code, with their lines. Those of one line are left out.
fn functions(source: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.lines().collect();
    let mut functions = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((before, name)) = line.trim_start().split_once("fn ") else { continue };
        let qualifiers = ["pub", "async", "const", "unsafe", "extern"];
        let is_function = before.is_empty() || qualifiers.iter().any(|word| before.starts_with(word));
        if !is_function || line.ends_with([';', '}']) {
            continue;
        }
        let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let indentation = &line[..line.len() - line.trim_start().len()];
        let is_end = |line: &&str| line.strip_prefix(indentation).is_some_and(|rest| rest.starts_with(['}', ')']));
        let ends = lines[at + 1..].iter().enumerate().filter(|(_, line)| is_end(line));
        // The closing parenthesis of long parameters ends a declaration, or is followed by the body.
        let end = ends.map(|(after, line)| (after, line.trim_start())).find(|(_, line)| !line.ends_with('{'));
        if let Some((after, "}")) = end {
            functions.push((name, after + 2));
        }
    }
    functions
}

#[test]
fn a_circle_is_found_and_named() {
    let module = |name: &str| vec![name.to_owned()];
    let mut imports = Imports::new();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")] {
        imports.entry(module(from)).or_default().insert(module(to));
    }
    assert_eq!(circles(&imports), ["b <-> c"]);
    let modules: BTreeSet<Module> = ["a", "b", "c"].map(module).into_iter().collect();
    let source = "use crate::{a, b::{self, X}};\n// use crate::c::Y;\nfn f() { crate::c::g() }\n";
    let found = imported(source, &module("d"), &modules);
    assert_eq!(found, modules);
}

fn is_of_the_program(file: &Path) -> bool {
    file.starts_with("cli") || ["main.rs", "cli.rs"].iter().any(|name| file == Path::new(name))
}

/// The imports of each module, without tests.
fn imports(belongs: impl Fn(&Path) -> bool) -> Imports {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let sources: BTreeMap<Module, String> = files
        .iter()
        .filter_map(|file| Some((file.strip_prefix(&src).ok()?, file)))
        .filter(|(name, _)| belongs(name) && !name.ends_with("tests.rs"))
        .map(|(name, file)| (module(name), fs::read_to_string(file).unwrap()))
        .collect();
    assert!(sources.len() > 10, "{sources:?}");
    let modules: BTreeSet<Module> = sources.keys().cloned().collect();
    sources.iter().map(|(module, source)| (module.clone(), imported(source, module, &modules))).collect()
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // The template of a new hook.
            if !path.ends_with("cli/new") {
                rust_files(&path, files);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn module(file: &Path) -> Module {
    let path = file.with_extension("");
    let parts: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts == ["lib"] || parts == ["main"] { Vec::new() } else { parts }
}

fn imported(source: &str, module: &Module, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let source = source.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let mut code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut paths = Vec::new();
    while let Some(at) = code.find("use ") {
        let is_a_word = code[..at].chars().next_back().is_none_or(char::is_whitespace);
        let Some(end) = code[at..].find(';').filter(|_| is_a_word) else {
            code.replace_range(at..at + 4, "    ");
            continue;
        };
        expand("", code[at + 4..at + end].trim(), &mut paths);
        code.replace_range(at..=at + end, "");
    }
    // A path inside other code.
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let is_its_beginning = !code[..at].ends_with([':', '$']);
            let end = code[at..].find(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).unwrap_or_default();
            if is_its_beginning {
                paths.push(code[at..at + end].to_owned());
            }
        }
    }
    for child in modules.iter().filter(|other| other.len() == module.len() + 1 && other.starts_with(module)) {
        let start = format!("{}::", child[module.len()]);
        let is_a_word = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        if code.match_indices(&start).any(|(at, _)| is_a_word(at)) {
            paths.push(start.trim_end_matches(':').to_owned());
        }
    }
    let targets = paths.iter().filter_map(|path| resolve(path, module, modules));
    targets.filter(|target| target != module).collect()
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((before, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        paths.push(format!("{prefix}{name}").trim_end_matches("::self").to_owned());
        return;
    };
    let prefix = format!("{prefix}{}", before.trim());
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner[start..at].trim();
                if !part.is_empty() {
                    expand(&prefix, part, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The module that a path leads into; `None` for another crate.
fn resolve(path: &str, module: &Module, modules: &BTreeSet<Module>) -> Option<Module> {
    let mut parts = path.split("::").peekable();
    let mut at = match parts.peek().copied() {
        Some("crate") => Vec::new(),
        Some("self" | "super") => module.clone(),
        Some(first) => [module.as_slice(), &[first.to_owned()]].concat(),
        None => return None,
    };
    let is_rooted = ["crate", "self", "super"].contains(&parts.peek().copied().unwrap_or_default());
    if !is_rooted && !modules.contains(&at) {
        return None;
    }
    for part in parts.skip(usize::from(!is_rooted)) {
        match part {
            "crate" | "self" => {}
            "super" => {
                at.pop();
            }
            name => {
                let below = [at.as_slice(), &[name.to_owned()]].concat();
                if !modules.contains(&below) {
                    break;
                }
                at = below;
            }
        }
    }
    Some(at)
}

/// The sets of modules that can reach each other.
fn circles(imports: &Imports) -> Vec<String> {
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        imports.keys().map(|module| (module, reachable(module, imports))).collect();
    let mut circles = BTreeSet::new();
    for (module, reached) in &reach {
        let circle: Vec<String> = reached
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(module)) && reached.contains(module))
            .map(|module| if module.is_empty() { "the root".to_owned() } else { module.join("::") })
            .collect();
        if !circle.is_empty() {
            circles.insert(circle.join(" <-> "));
        }
    }
    circles.into_iter().collect()
}

fn reachable<'a>(from: &Module, imports: &'a Imports) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = imports.get(from).into_iter().flatten().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(imports.get(module).into_iter().flatten());
        }
    }
    reached
}
