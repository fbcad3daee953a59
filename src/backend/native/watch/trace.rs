//! Parses strace's output: the files that a hook's own processes opened, and the programs that they started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::backend::native::confine::needs::always_allowed;
use crate::needs::{Needs, UDP};

/// strace options, besides `-y -f -qq -s 4096`: the traced calls.
pub(super) const CALLS: &str = "trace=%file,%process,%network,kill,ptrace,setns,unshare,init_module,finit_module,bpf";

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
struct TracedCall<'a> {
    pid: u32,
    name: &'a str,
    arguments: Vec<&'a str>,
    /// The result, without the name of an error.
    result: &'a str,
    /// What the result is, if it is a descriptor.
    described: &'a str,
    failed: bool,
}

/// The result of the trace. Its first line is the start of the hook. The hook can execute `own`: its own file and its
/// interpreters.
pub(super) fn read(trace: &str, hook: &Path, own: &[PathBuf]) -> Needs {
    let lines = joined(trace);
    let calls: Vec<TracedCall<'_>> = lines.iter().filter_map(|line| parse(line)).collect();
    // A child's first lines can come before the line with its creation.
    let mut parents = BTreeMap::new();
    for call in calls.iter().filter(|call| is_fork(call.name)) {
        if let Ok(child) = call.result.parse::<u32>() {
            parents.insert(child, call.pid);
        }
    }
    let mut reader = Reader {
        needs: Needs::default(),
        hook,
        own,
        parents,
        foreign: BTreeSet::new(),
        first: true,
        cwd: BTreeMap::new(),
        datagrams: Datagrams::default(),
    };
    calls.iter().for_each(|call| reader.take(call));
    reader.needs
}

struct Reader<'a> {
    needs: Needs,
    hook: &'a Path,
    own: &'a [PathBuf],
    parents: BTreeMap<u32, u32>,
    /// Processes that run another program. Their actions are not the hook's.
    foreign: BTreeSet<u32>,
    /// Whether the hook has not started yet.
    first: bool,
    cwd: BTreeMap<u32, String>,
    datagrams: Datagrams,
}

/// UDP sockets.
#[derive(Default)]
struct Datagrams {
    /// The address that each is connected to.
    connected: BTreeMap<String, Option<String>>,
    /// The addresses that something was sent to.
    used: BTreeSet<String>,
}

impl Reader<'_> {
    fn take(&mut self, call: &TracedCall<'_>) {
        if self.is_foreign(call.pid) {
            return;
        }
        match call.name {
            "execve" if !call.failed => self.execute(call),
            "chdir" if !call.failed => {
                let path = self.path(call, 0);
                self.cwd.insert(call.pid, path);
            }
            "open" | "creat" => self.open(call, 0),
            "openat" | "openat2" => self.open(call, 1),
            "mkdir" | "rmdir" | "unlink" | "truncate" | "mknod" => self.change(call, 0),
            "mkdirat" | "unlinkat" | "mknodat" => self.change(call, 1),
            "rename" | "link" => (0..2).for_each(|at| self.change(call, at)),
            "renameat" | "renameat2" | "linkat" => [1, 3].into_iter().for_each(|at| self.change(call, at)),
            "symlink" => self.change(call, 1),
            "symlinkat" => self.change(call, 2),
            "socket" if call.arguments.first().is_some_and(|family| family.starts_with("AF_INET")) => {
                self.create_socket(call);
            }
            "connect" => self.connect(call),
            "sendto" | "sendmsg" | "sendmmsg" => self.send(call),
            "getsockname" => self.look_up(call),
            "chmod" | "fchmodat" | "chown" | "lchown" | "fchownat" | "utimensat" | "setxattr" => {
                let at = usize::from(call.name.ends_with("at"));
                let what =
                    format!("{} of {}: use a command for it, such as install(1)", call.name, self.path(call, at));
                self.needs.not_grantable.insert(what);
            }
            "mount" | "umount2" | "ptrace" | "setns" | "unshare" | "init_module" | "finit_module" | "bpf" => {
                self.needs.not_grantable.insert(format!("{}: run a command that does it", call.name));
            }
            "kill" => {
                let target = call.arguments.first().and_then(|pid| pid.trim_start_matches('-').parse::<u32>().ok());
                let own = target.is_none_or(|pid| pid == call.pid || self.parents.contains_key(&pid) || pid == 0);
                if !own {
                    self.needs
                        .not_grantable
                        .insert("a signal to another process: run a command that sends it".to_owned());
                }
            }
            _ => {}
        }
    }

    /// Whether a process or one of its ancestors runs another program.
    fn is_foreign(&mut self, pid: u32) -> bool {
        let mut at = Some(pid);
        let foreign = std::iter::from_fn(|| {
            let now = at?;
            at = self.parents.get(&now).copied();
            Some(now)
        })
        .take(self.parents.len() + 1)
        .any(|pid| self.foreign.contains(&pid));
        if foreign {
            self.foreign.insert(pid);
        }
        foreign
    }

    fn execute(&mut self, call: &TracedCall<'_>) {
        if std::mem::take(&mut self.first) {
            return;
        }
        let program = self.path(call, 0);
        if Path::new(&program).canonicalize().is_ok_and(|program| self.own.contains(&program)) {
            return;
        }
        let arguments = call.arguments.get(1).map(|list| strings(list)).unwrap_or_default();
        self.foreign.insert(call.pid);
        self.needs.commands.insert((program, arguments.get(1..).unwrap_or_default().to_vec()));
    }

    fn open(&mut self, call: &TracedCall<'_>, at: usize) {
        let flags = call.arguments.get(at + 1).copied().unwrap_or("O_WRONLY");
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"].iter().any(|flag| flags.contains(flag));
        if call.failed {
            return;
        }
        let path = self.path(call, at);
        self.file(path, writes, flags.contains("O_DIRECTORY"));
    }

    fn change(&mut self, call: &TracedCall<'_>, at: usize) {
        if !call.failed {
            let path = self.path(call, at);
            self.file(path, true, false);
        }
    }

    fn file(&mut self, path: String, writes: bool, is_directory: bool) {
        let is_own = Path::new(&path) == self.hook;
        if !is_own && !always_allowed(Path::new(&path), writes) {
            self.needs.file(path, writes, is_directory);
        }
    }

    fn create_socket(&mut self, call: &TracedCall<'_>) {
        if call.arguments.get(1).is_some_and(|kind| kind.contains("SOCK_DGRAM")) {
            self.datagrams.connected.insert(call.described.to_owned(), None);
        }
    }

    fn connect(&mut self, call: &TracedCall<'_>) {
        let address = call.arguments.get(1).copied().unwrap_or_default();
        if address.contains("AF_UNIX") {
            let path = address.split('"').nth(1).unwrap_or_default();
            if path.starts_with('/') {
                if !call.failed {
                    self.needs.connections.insert(path.to_owned());
                }
            } else {
                self.needs
                    .not_grantable
                    .insert(format!("a connection to the Unix socket {path:?}: run a command that makes it"));
            }
            return;
        }
        let Some(address) = internet_address(address) else { return };
        match self.datagrams.connected.get_mut(socket(call)) {
            Some(connected) => {
                let address = format!("{address}{UDP}");
                *connected = Some(address.clone());
                self.needs.connections.insert(address);
            }
            None => {
                self.needs.connections.insert(address);
            }
        }
    }

    /// A datagram, with an address or to the one that the socket is connected to.
    fn send(&mut self, call: &TracedCall<'_>) {
        let Some(connected) = self.datagrams.connected.get(socket(call)) else { return };
        let named = match call.name {
            "sendto" => call.arguments.get(4).copied(),
            _ => call.arguments.get(1).and_then(|message| between(message, "msg_name={", "}")),
        };
        let named = named.and_then(internet_address).map(|address| format!("{address}{UDP}"));
        if let Some(address) = named.or_else(|| connected.clone()) {
            self.datagrams.used.insert(address.clone());
            self.needs.connections.insert(address);
        }
    }

    /// The C library connects a UDP socket to each address of a host in order to see which source address it would have. It
    /// sends nothing.
    fn look_up(&mut self, call: &TracedCall<'_>) {
        if let Some(Some(address)) = self.datagrams.connected.get(socket(call))
            && !self.datagrams.used.contains(address)
        {
            self.needs.connections.remove(address);
        }
    }

    /// A path argument as an absolute path. With `-y`, strace shows the directory that it is relative to.
    fn path(&self, call: &TracedCall<'_>, at: usize) -> String {
        let path =
            call.arguments.get(at).map(|text| strings(text).into_iter().next().unwrap_or_default()).unwrap_or_default();
        if path.starts_with('/') {
            return path;
        }
        let directory =
            at.checked_sub(1).and_then(|at| call.arguments.get(at)).and_then(|text| between(text, "<", ">"));
        let directory =
            directory.map(str::to_owned).or_else(|| self.working_directory(call.pid)).unwrap_or_else(|| "/".to_owned());
        format!("{}/{path}", directory.trim_end_matches('/'))
    }

    fn working_directory(&self, pid: u32) -> Option<String> {
        self.cwd.get(&pid).cloned().or_else(|| self.working_directory(*self.parents.get(&pid)?))
    }
}

/// The socket that a call is about.
fn socket<'a>(call: &TracedCall<'a>) -> &'a str {
    call.arguments.first().and_then(|descriptor| between(descriptor, "<", ">")).unwrap_or_default()
}

/// The address and port of a `struct sockaddr`.
fn internet_address(text: &str) -> Option<String> {
    let port = between(text, "port=htons(", ")")?;
    let host = between(text, "inet_addr(\"", "\"").map(str::to_owned);
    let host = host.or_else(|| between(text, "inet_pton(AF_INET6, \"", "\"").map(|host| format!("[{host}]")))?;
    Some(format!("{host}:{port}"))
}

fn is_fork(name: &str) -> bool {
    matches!(name, "clone" | "clone3" | "fork" | "vfork")
}

/// The lines, with the two halves of interrupted calls joined.
fn joined(trace: &str) -> Vec<String> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in trace.lines() {
        let (pid, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(pid, start.trim_end().to_owned());
        } else if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            let start = begun.remove(pid).unwrap_or_default();
            lines.push(format!("{pid} {start}{end}"));
        } else {
            lines.push(format!("{pid} {rest}"));
        }
    }
    lines
}

fn parse(line: &str) -> Option<TracedCall<'_>> {
    let (pid, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once('(')?;
    let (arguments, rest) = split(rest)?;
    let result = rest.trim_start().strip_prefix('=')?.trim_start();
    let value = result.split([' ', '<']).next().unwrap_or_default();
    Some(TracedCall {
        pid: pid.parse().ok()?,
        name,
        arguments,
        result: value,
        described: between(result, "<", ">").unwrap_or_default(),
        failed: value.starts_with('-') || value == "?",
    })
}

/// The arguments of a call up to its closing bracket, and the rest.
fn split(text: &str) -> Option<(Vec<&str>, &str)> {
    let mut arguments = Vec::new();
    let (mut depth, mut start, mut quoted, mut escaped, mut named) = (0_u32, 0, false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !named => quoted = !quoted,
            _ if quoted => {}
            '<' => named = true,
            '>' => named = false,
            _ if named => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                arguments.push(text[start..at].trim());
                return Some((arguments, &text[at + 1..]));
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                arguments.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// The strings in an argument, such as a path or a list of paths.
fn strings(text: &str) -> Vec<String> {
    let mut strings = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('"') {
        let (string, after) = string(&rest[at + 1..]);
        strings.push(string);
        rest = after;
    }
    strings
}

/// A string up to its closing quotation mark without C escapes, and the rest.
fn string(text: &str) -> (String, &str) {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (String::from_utf8_lossy(&bytes).into_owned(), &text[at + 1..]),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some('r') => bytes.push(b'\r'),
                Some('v') => bytes.push(0x0b),
                Some('f') => bytes.push(0x0c),
                Some(digit @ '0'..='7') => {
                    let mut value = digit.to_digit(8).unwrap_or_default();
                    for _ in 0..2 {
                        let Some(next) = chars.peek().and_then(|(_, c)| c.to_digit(8)) else { break };
                        value = value * 8 + next;
                        chars.next();
                    }
                    bytes.push(u8::try_from(value).unwrap_or(b'?'));
                }
                Some(other) => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
                None => {}
            },
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    (String::from_utf8_lossy(&bytes).into_owned(), "")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parsed_whatever_its_strings_contain() {
        let line = r#"7 openat(AT_FDCWD</a,b>, "/x\",(\303\244\n", O_RDONLY|O_CLOEXEC) = 3</x>"#;
        let arguments = vec!["AT_FDCWD</a,b>", r#""/x\",(\303\244\n""#, "O_RDONLY|O_CLOEXEC"];
        let call = TracedCall { pid: 7, name: "openat", arguments, result: "3", described: "/x", failed: false };
        assert_eq!(parse(line).as_ref(), Some(&call));
        assert_eq!(strings(call.arguments[1]), ["/x\",(ä\n"]);
        assert_eq!(strings(r#"["ls", "", "-l"]"#), ["ls", "", "-l"]);
        let failed = parse(r#"7 execve("/bin/x", ["x"], 0x7f /* 3 vars */) = -1 ENOENT (No such file)"#);
        assert!(failed.is_some_and(|call| call.failed));
        assert_eq!(parse("7 +++ exited with 0 +++"), None);
    }

    #[test]
    fn what_a_command_reads_is_not_the_hooks() {
        let trace = "1 execve(\"/h\", [\"/h\", \"web1\"], 0x7f /* 3 vars */) = 0\n\
                     1 openat(AT_FDCWD</>, \"/sys/a/enabled\", O_RDONLY) = 3</sys/a/enabled>\n\
                     1 vfork( <unfinished ...>\n\
                     2 execve(\"/bin/ls\", [\"ls\", \"/srv\"], 0x7f /* 3 vars */ <unfinished ...>\n\
                     1 <... vfork resumed>) = 2\n\
                     2 <... execve resumed>) = 0\n\
                     2 openat(AT_FDCWD</>, \"/srv\", O_RDONLY|O_DIRECTORY) = 3</srv>\n\
                     2 clone(child_stack=NULL) = 3\n\
                     3 openat(AT_FDCWD</>, \"/srv/x\", O_WRONLY) = 3</srv/x>\n\
                     1 chdir(\"/run/hook\") = 0\n\
                     1 open(\"state\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</run/hook/state>\n\
                     1 connect(4<socket:[9]>, {sa_family=AF_INET, sin_port=htons(9090), sin_addr=inet_addr(\"127.0.0.1\")}, 16) = 0\n";
        let needs = read(trace, Path::new("/h"), &[]);
        let files: Vec<_> = needs.files.iter().map(|(path, used)| (path.as_str(), used.writes)).collect();
        assert_eq!(files, [("/run/hook/state", true), ("/sys/a/enabled", false)]);
        let commands: Vec<_> =
            needs.commands.iter().map(|(program, args)| (program.as_str(), args.join(" "))).collect();
        assert_eq!(commands, [("/bin/ls", "/srv".to_owned())]);
        assert_eq!(needs.connections.into_iter().collect::<Vec<_>>(), ["127.0.0.1:9090"]);
    }

    #[test]
    fn datagrams_count_where_they_are_sent_and_not_where_a_name_is_looked_up() {
        let to =
            |port: u16| format!("{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr(\"127.0.0.1\")}}");
        let sockets = (1..6)
            .map(|inode| format!("1 socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 3<socket:[{inode}]>\n"));
        let trace = format!(
            "1 execve(\"/h\", [\"/h\"], 0x7f) = 0\n{}1 connect(3<socket:[1]>, {}, 16) = 0\n\
             1 connect(3<socket:[2]>, {}, 16) = 0\n1 getsockname(3<socket:[2]>, {}, [28 => 16]) = 0\n\
             1 sendto(3<socket:[3]>, \"port=htons(9)\", 1, 0, {}, 16) = 1\n\
             1 sendmsg(3<socket:[4]>, {{msg_name={}, msg_namelen=16, msg_iovlen=1}}, 0) = 1\n\
             1 connect(3<socket:[5]>, {}, 16) = 0\n1 sendmmsg(3<socket:[5]>, [{{msg_hdr={{msg_name=NULL}}}}], 1, 0) = 1\n\
             1 getsockname(3<socket:[5]>, {}, [28 => 16]) = 0\n",
            sockets.collect::<String>(),
            to(1),
            to(2),
            to(4000),
            to(3),
            to(4),
            to(5),
            to(4001)
        );
        let needs = read(&trace, Path::new("/h"), &[]);
        let expected = [1, 3, 4, 5].map(|port| format!("127.0.0.1:{port} (UDP)"));
        assert_eq!(needs.connections.into_iter().collect::<Vec<_>>(), expected);
    }
}
