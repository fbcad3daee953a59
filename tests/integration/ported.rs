//! Real hooks, ported (`examples/guests`). The shell version, and the same program in Rust as a module and as a
//! component, get the same events. Their decisions, messages and effects on the host must be equal. So must those
//! of the shell version and the module that share one settings file, by which the one is confined.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hookvisor::{Cache, Decision, Event, Report, Runtime};
use tempfile::TempDir;

use crate::support::guests::{build, wasm, wasm_for};
use crate::support::{Hooks, stderr};

const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests");
/// Compiled once for all tests in this file.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/ported");
const WEB1: &str = include_str!("../../examples/web1.xml");
const WEB2: &str = include_str!("../../examples/web2.xml");

/// The forms of one hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Shell,
    Program,
    Module,
    Component,
    /// The shell version, confined.
    Confined,
    /// The module with the settings of [`Confined`](Self::Confined).
    Twin,
}

const FORMS: [Form; 6] = [Form::Shell, Form::Program, Form::Module, Form::Component, Form::Confined, Form::Twin];
/// What the shell versions run beside the program of their port.
const TOOLS: &str = r#"
[[command]]
program = "/usr/bin/cat"

[[command]]
program = "/usr/bin/cat"
args = [{ regex = ".*/(nr_hugepages|web1)" }]

[[command]]
program = "/usr/bin/sed"
args = ["-n", { regex = "(?s).*" }]

[[command]]
program = "/usr/bin/sed"
args = ["s/ /?/g"]

[[command]]
program = "/usr/bin/grep"
args = ["-q", "<vcpu[^>]* cpuset="]

[[command]]
program = "/usr/bin/head"
args = ["-n", "1"]

[[command]]
program = "/usr/bin/rm"
args = ["*"]
"#;

/// A hook, and substitutes for what it works on.
struct Port {
    name: &'static str,
    /// The program that it runs, as in its settings.
    program: Option<&'static str>,
    /// Each granted directory, and the variable with its path for a hook outside the sandbox.
    directories: &'static [(&'static str, &'static str)],
    /// Variables from its settings.
    env: &'static [(&'static str, &'static str)],
}

/// The substitutes: a directory with a program that records its calls, and one directory for each granted one.
struct StandIn {
    directory: TempDir,
}

/// The result of one event.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    decision: Decision,
    exit_status: u8,
    stderr: String,
}

/// The content of the substitutes afterwards, by file name.
type State = BTreeMap<String, String>;

impl StandIn {
    fn new(port: &Port) -> Self {
        let stand_in = Self { directory: TempDir::new().unwrap() };
        for (directory, _) in port.directories {
            fs::create_dir(stand_in.path_of(directory)).unwrap();
        }
        if let Some(program) = port.program {
            let name = base_name(program);
            let here = stand_in.directory.path().display();
            let script = format!(
                "#!/bin/sh\n{{ echo \"{name} $*\"; cat; }} >>{here}/calls\n\
                 [ ! -e {here}/fail ] || {{ cat {here}/fail >&2; exit 1; }}\n"
            );
            fs::write(stand_in.path_of(program), script).unwrap();
            fs::set_permissions(stand_in.path_of(program), Permissions::from_mode(0o755)).unwrap();
        }
        stand_in
    }

    /// The substitute for a path of the host.
    fn path_of(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(base_name(path))
    }

    fn state(&self, port: &Port) -> State {
        let mut state = State::new();
        let granted = port.directories.iter().map(|(directory, _)| self.path_of(directory));
        for directory in granted.chain([self.directory.path().to_owned()]) {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_file() && port.program.is_none_or(|program| base_name(program) != name) {
                    state.insert(name, fs::read_to_string(path).unwrap());
                }
            }
        }
        state
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

impl Port {
    fn file(&self, extension: &str) -> String {
        fs::read_to_string(Path::new(GUESTS).join(self.name).join(self.name).with_extension(extension)).unwrap()
    }

    /// A hooks directory with one form of the hook and its settings.
    fn installed(&self, form: Form, stand_in: &StandIn) -> Hooks {
        let hooks = Hooks::new();
        match form {
            Form::Shell | Form::Program => {
                let content = match form {
                    Form::Shell => self.file("sh").into_bytes(),
                    _ => fs::read(build(self.name, None)).unwrap(),
                };
                hooks.file("qemu.d/10-hook", content, 0o755);
                hooks.file("qemu.d/10-hook.toml", self.settings_outside(stand_in), 0o644);
            }
            Form::Module | Form::Component => {
                let built = if form == Form::Module { wasm(self.name) } else { wasm_for(self.name, "wasm32-wasip2") };
                hooks.file("qemu.d/10-hook.wasm", fs::read(built).unwrap(), 0o755);
                hooks.file("qemu.d/10-hook.toml", self.settings_inside(stand_in), 0o644);
            }
            Form::Confined => {
                hooks.file("qemu.d/10-hook", self.file("sh"), 0o755);
                hooks.file("qemu.d/10-hook.toml", self.settings_shared(stand_in), 0o644);
            }
            Form::Twin => {
                hooks.file("qemu.d/10-hook.wasm", fs::read(wasm(self.name)).unwrap(), 0o755);
                hooks.file("qemu.d/10-hook.toml", self.settings_shared(stand_in), 0o644);
            }
        }
        hooks
    }

    /// The port's own settings, with the substitutes as the granted paths.
    fn settings_inside(&self, stand_in: &StandIn) -> String {
        self.settings_with(stand_in, |directory| {
            format!("host = {:?}\nguest = {directory:?}\n", stand_in.path_of(directory))
        })
    }

    /// The same for a script and a module, which both find the stand-ins by their variables.
    fn settings_shared(&self, stand_in: &StandIn) -> String {
        let settings = self.settings_with(stand_in, |directory| format!("host = {:?}\n", stand_in.path_of(directory)));
        let settings: Vec<&str> = settings.lines().filter(|line| !line.starts_with("env = ")).collect();
        let variables: Vec<String> =
            self.variables(stand_in).iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        format!("confine = true\nenv = {{ {} }}\n{}\n{TOOLS}", variables.join(", "), settings.join("\n"))
    }

    fn settings_with(&self, stand_in: &StandIn, directory_by: impl Fn(&str) -> String) -> String {
        let mut settings = self.file("toml");
        let mut replace = |granted: String, by: String| {
            assert_eq!(settings.matches(&granted).count(), 1, "{granted} in {settings}");
            settings = settings.replace(&granted, &by);
        };
        for (directory, _) in self.directories {
            replace(format!("host = {directory:?}\n"), directory_by(directory));
        }
        if let Some(program) = self.program {
            replace(format!("program = {program:?}\n"), format!("program = {:?}\n", stand_in.path_of(program)));
        }
        settings
    }

    /// A hook outside the sandbox has no grants. It finds the substitutes through its variables.
    fn settings_outside(&self, stand_in: &StandIn) -> String {
        let variables = self.variables(stand_in);
        let lines: String = variables.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
        format!("[env]\n{lines}")
    }

    fn variables(&self, stand_in: &StandIn) -> Vec<(&'static str, String)> {
        let path = format!("{}:{}", stand_in.directory.path().display(), std::env::var("PATH").unwrap());
        let places = self.directories.iter().map(|(path, name)| (*name, stand_in.path_of(path).display().to_string()));
        let given = self.env.iter().map(|(name, value)| (*name, (*value).to_owned()));
        places.chain(given).chain([("PATH", path)]).collect()
    }

    /// Runs the events in each form on a host prepared by `prepare`, and checks that all results are equal.
    fn runs_alike(&self, prepare: impl Fn(&StandIn), events: &[Event]) -> (Vec<Outcome>, State) {
        let mut expected = None;
        for form in FORMS {
            let stand_in = StandIn::new(self);
            prepare(&stand_in);
            let hooks = self.installed(form, &stand_in);
            let runtime = hooks.builder().cache(Cache::open(CACHE).unwrap()).build().unwrap();
            let outcomes: Vec<Outcome> = events.iter().map(|event| outcome(&runtime, event)).collect();
            let found = (outcomes, stand_in.state(self));
            let expected =
                expected.get_or_insert_with(|| (found.0.iter().map(Outcome::copy).collect(), found.1.clone()));
            assert_eq!(&found, expected, "{} as {form:?}", self.name);
        }
        expected.unwrap()
    }
}

impl Outcome {
    fn copy(&self) -> Self {
        Self { stderr: self.stderr.clone(), ..*self }
    }
}

fn outcome(runtime: &Runtime, event: &Event) -> Outcome {
    let report = runtime.run(event);
    let notes: Vec<&String> = report.hooks.iter().flat_map(|hook| &hook.notes).collect();
    assert!(notes.is_empty(), "{notes:?}");
    Outcome { decision: report.decision, exit_status: report.exit_status(), stderr: said(&report) }
}

/// The hook's output; empty if its settings exclude the event.
fn said(report: &Report) -> String {
    if report.hooks.is_empty() { String::new() } else { stderr(report) }
}

fn event(operation: &str, document: &str) -> Event {
    Event::new("qemu", "web1", operation).unwrap().with_document(document.to_owned())
}

fn vetoed(message: &str) -> Outcome {
    Outcome { decision: Decision::Vetoed, exit_status: 1, stderr: format!("{message}\n") }
}

fn passed(decision: Decision) -> Outcome {
    Outcome { decision, exit_status: 0, stderr: String::new() }
}

#[test]
fn hugepages_are_reserved_and_freed_alike() {
    let port = Port {
        name: "hugepages",
        program: None,
        directories: &[
            ("/sys/kernel/mm/hugepages/hugepages-2048kB", "HUGEPAGES_POOL"),
            ("/run/hugepages", "HUGEPAGES_STATE"),
        ],
        env: &[],
    };
    let eight_pages = |stand_in: &StandIn| {
        fs::write(stand_in.path_of("hugepages-2048kB").join("nr_hugepages"), "8\n").unwrap();
    };
    let asking = WEB1.replace("  <vcpu", "  <memoryBacking>\n    <hugepages/>\n  </memoryBacking>\n  <vcpu");
    let no_memory = asking.replace("<memory unit", "<maxMemory unit").replace("</memory>", "</maxMemory>");

    let (outcomes, state) = port.runs_alike(eight_pages, &[event("prepare", &asking), event("start", &asking)]);
    assert_eq!(outcomes, [passed(Decision::Proceed), passed(Decision::Proceed)]);
    assert_eq!((state["nr_hugepages"].as_str(), state["web1"].as_str()), ("2056\n", "2048\n"));

    let life = [event("prepare", &asking), event("release", &asking), event("release", &asking)];
    let (outcomes, state) = port.runs_alike(eight_pages, &life);
    assert_eq!(outcomes, [Decision::Proceed, Decision::Notified, Decision::Notified].map(passed));
    assert_eq!(state, State::from([("nr_hugepages".into(), "8\n".into())]));

    let (outcomes, state) = port.runs_alike(eight_pages, &[event("prepare", WEB1), event("prepare", &no_memory)]);
    assert_eq!(outcomes, [passed(Decision::Proceed), vetoed("the domain XML has no <memory>")]);
    assert_eq!(state, State::from([("nr_hugepages".into(), "8\n".into())]));
}

const NFT: Port = Port { name: "port-forward", program: Some("/usr/sbin/nft"), directories: &[], env: &[] };

/// web1 with a port to forward.
fn forwarding(address: &str, port: &str) -> String {
    let forward = format!(
        "<metadata>\n    <forward:ports xmlns:forward=\"https://example.org/libvirt/port-forward/1.0\" \
         address=\"{address}\">\n      <forward:port protocol=\"tcp\" host=\"8080\" guest=\"80\"/>\n      \
         <forward:port {port}/>\n    </forward:ports>\n"
    );
    WEB1.replace("<metadata>\n", &forward)
}

#[test]
fn ports_are_forwarded_alike() {
    let web1 = forwarding("192.168.122.10", "protocol=\"udp\" host=\"5353\" guest=\"53\"");
    let table = "table ip guest-5b7d2c1e-8f0a-4f63-9c1d-0e6a4b2f7a31";
    let down = format!("nft -f -\n{table}\ndelete {table}\n");
    let up = format!(
        "{table} {{\nchain prerouting {{\ntype nat hook prerouting priority dstnat; policy accept;\n\
         tcp dport 8080 dnat to 192.168.122.10:80\nudp dport 5353 dnat to 192.168.122.10:53\n}}\n}}\n"
    );

    let life =
        ["prepare", "start", "started", "reconnect", "stopped", "release"].map(|operation| event(operation, &web1));
    let (outcomes, state) = NFT.runs_alike(|_| (), &life);
    assert!(outcomes.iter().all(|outcome| outcome.exit_status == 0), "{outcomes:?}");
    assert_eq!(state["calls"], format!("{down}{up}{down}{up}{down}"));

    let (outcomes, state) = NFT.runs_alike(|_| (), &[event("started", WEB1), event("stopped", WEB1)]);
    assert_eq!(outcomes, [passed(Decision::Proceed), passed(Decision::Notified)]);
    assert_eq!(state, State::new());
}

#[test]
fn metadata_that_is_no_port_vetoes_alike_and_runs_nothing() {
    let good = "protocol=\"tcp\" host=\"1\" guest=\"2\"";
    for (address, port, message) in [
        ("here", good, "\"here\" is not an IPv4 address"),
        ("1.1.1.1;drop", good, "\"1.1.1.1;drop\" is not an IPv4 address"),
        (
            "10.0.0.1",
            "protocol=\"icmp\" host=\"1\" guest=\"2\"",
            "\"icmp\" is not a protocol that can be forwarded: use tcp or udp",
        ),
        ("10.0.0.1", "protocol=\"tcp\" host=\"1;drop\" guest=\"2\"", "\"1;drop\" is not a host port"),
        ("10.0.0.1", "protocol=\"tcp\" host=\"1\" guest=\"65536\"", "\"65536\" is not a guest port"),
    ] {
        let (outcomes, state) = NFT.runs_alike(|_| (), &[event("started", &forwarding(address, port))]);
        assert_eq!((outcomes, state), (vec![vetoed(message)], State::new()));
    }
}

#[test]
fn a_program_that_fails_vetoes_alike_in_its_words() {
    let fail = |stand_in: &StandIn| fs::write(stand_in.path_of("fail"), "Error: Operation not supported\n").unwrap();
    let web1 = forwarding("192.168.122.10", "protocol=\"udp\" host=\"5353\" guest=\"53\"");
    let (outcomes, _) = NFT.runs_alike(fail, &[event("started", &web1), event("stopped", &web1)]);
    let said = "nft exited with 1: Error: Operation not supported";
    assert_eq!(outcomes, [vetoed(said), Outcome { decision: Decision::Notified, ..vetoed(said) }]);
}

#[test]
fn processors_are_kept_free_alike() {
    let port = Port {
        name: "cpu-isolation",
        program: Some("/usr/bin/systemctl"),
        directories: &[],
        env: &[("HOST_CPUS", "0-1"), ("ALL_CPUS", "0-7")],
    };
    let pinned = WEB1.replace("<vcpu placement='static'>", "<vcpu placement='static' cpuset='2-7'>");
    let calls = |cpus: &str| -> String {
        let units = ["system.slice", "user.slice", "init.scope"];
        units.map(|unit| format!("systemctl set-property --runtime -- {unit} AllowedCPUs={cpus}\n")).concat()
    };
    let life = ["prepare", "start", "started", "stopped", "release"].map(|operation| event(operation, &pinned));
    let (outcomes, state) = port.runs_alike(|_| (), &life);
    assert!(outcomes.iter().all(|outcome| outcome.exit_status == 0), "{outcomes:?}");
    assert_eq!(state["calls"], calls("0-1") + &calls("0-7"));

    let (_, state) = port.runs_alike(|_| (), &[event("prepare", WEB1), event("release", WEB1)]);
    assert_eq!(state, State::new());

    let fail = |stand_in: &StandIn| fs::write(stand_in.path_of("fail"), "Access denied\n").unwrap();
    let (outcomes, state) = port.runs_alike(fail, &[event("prepare", &pinned)]);
    assert_eq!(outcomes, [vetoed("systemctl exited with 1: Access denied")]);
    assert_eq!(state["calls"].lines().count(), 1);
}

#[test]
fn the_policy_decides_alike() {
    let port = Port { name: "policy", program: None, directories: &[], env: &[] };
    let events = [("prepare", WEB1), ("start", WEB1), ("prepare", WEB2), ("start", WEB2), ("started", WEB2)];
    let (outcomes, _) = port.runs_alike(|_| (), &events.map(|(operation, document)| event(operation, document)));
    let no_owner = "guest web1 has no owner: \
                    add <inventory:owner>NAME</inventory:owner> to its <metadata> (virsh edit web1)";
    let proceed = || passed(Decision::Proceed);
    assert_eq!(outcomes, [proceed(), proceed(), vetoed(no_owner), vetoed(no_owner), proceed()]);
}
