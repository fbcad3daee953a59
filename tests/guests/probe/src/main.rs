//! A hook that does what its first argument says. The same source is built as a program and as a WebAssembly module,
//! for the parity table.
//!
//! The argument is a list of steps separated by `;`, each `name` or `name=value`. A hook whose file name has an `@`
//! runs the steps after it instead, so that several hooks of one event can differ.

use std::fs;
use std::io::{self, Read, Write};
use std::process;
use std::thread;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let own = arguments.first().and_then(|path| Some(path.rsplit('/').next()?.split_once('@')?.1));
    let steps = own.or(arguments.get(1).map(String::as_str)).unwrap_or_default();
    for step in steps.split(';').filter(|step| !step.is_empty()) {
        let (name, value) = step.split_once('=').unwrap_or((step, ""));
        take(name, value, &arguments);
    }
}

fn take(name: &str, value: &str, arguments: &[String]) {
    let number = || number(value);
    match name {
        "exit" => process::exit(value.parse().unwrap_or(99)),
        "stderr" => write_all(io::stderr(), value.replace("\\n", "\n").as_bytes()),
        "stdout" => write_all(io::stdout(), value.replace("\\n", "\n").as_bytes()),
        "stderr-hex" => write_all(io::stderr(), &bytes(value)),
        "flood-stderr" => flood(io::stderr(), number()),
        "flood-stdout" => flood(io::stdout(), number()),
        "read" => read(),
        "cat" => drop(io::copy(&mut io::stdin(), &mut io::stdout())),
        "replace" => replace(value),
        "arguments" => write_all(io::stderr(), format!("{:?}\n", &arguments[1..]).as_bytes()),
        "variables" => {
            let mut names: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
            names.sort();
            write_all(io::stderr(), names.concat().as_bytes());
        }
        // For a native hook of the same event.
        "native" => {}
        "crash" => process::abort(),
        "panic" => panic!("{value}"),
        "connect" => process::exit(if std::net::TcpStream::connect(value).is_ok() { 0 } else { 6 }),
        "udp" => {
            let sent = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"hello", value));
            process::exit(if sent.is_ok() { 0 } else { 7 });
        }
        _ => use_up(name, value),
    }
}

/// Steps that use time, memory or the stack.
fn use_up(name: &str, value: &str) {
    let number = || number(value);
    match name {
        "sleep" => thread::sleep(Duration::from_millis(number())),
        "spin" => loop {
            std::hint::black_box(());
        },
        "work" => {
            (0..number()).fold(0_u64, |sum, n| std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n)));
        }
        "recurse" => write_all(io::stderr(), format!("{}", recurse(number())).as_bytes()),
        "grow" => {
            let mut block = Vec::<u8>::new();
            let room =
                usize::try_from(number()).map_err(drop).and_then(|size| block.try_reserve_exact(size).map_err(drop));
            process::exit(if room.is_ok() { 0 } else { 3 });
        }
        // Allocating more than allowed ends the program.
        "fill" => drop(std::hint::black_box(vec![1_u8; usize::try_from(number()).unwrap_or(usize::MAX)])),
        _ => use_files(name, value),
    }
}

fn use_files(name: &str, value: &str) {
    match name {
        "show" => write_all(io::stderr(), &fs::read(value).unwrap_or_else(|error| error.to_string().into_bytes())),
        "write" => {
            let (path, content) = value.split_once(':').unwrap_or((value, ""));
            if let Err(error) = fs::write(path, content) {
                write_all(io::stderr(), format!("{error}\n").as_bytes());
                process::exit(5);
            }
        }
        "long-path" => use_long_path(number(value)),
        "hard-link" => attempt(value, |from, to| fs::hard_link(from, to)),
        "rename" => attempt(value, |from, to| fs::rename(from, to)),
        "make-directory" => attempt(value, |path, _| fs::create_dir(path)),
        "remove" => attempt(value, |path, _| fs::remove_file(path)),
        "list" => match fs::read_dir(value) {
            Ok(entries) => {
                let mut names: Vec<String> =
                    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
                names.sort();
                write_all(io::stderr(), format!("{}\n", names.join(" ")).as_bytes());
            }
            Err(_) => process::exit(5),
        },
        "count" => match fs::read_dir(value) {
            Ok(entries) => write_all(io::stderr(), format!("{} entries\n", entries.flatten().count()).as_bytes()),
            Err(_) => process::exit(5),
        },
        "remove-all" => attempt(value, |path, _| fs::remove_dir_all(path)),
        // Never closed.
        "hoard" => (0..).try_for_each(|_| fs::File::open(value).map(std::mem::forget)).unwrap_or_default(),
        "open" => process::exit(if fs::File::open(value).is_ok() { 0 } else { 4 }),
        _ => process::exit(98),
    }
}

/// All operations on a path with this many bytes. Each must fail because the name is too long (errno 37).
fn use_long_path(bytes: u64) {
    let path = &format!("/granted/{}", "x/".repeat(usize::try_from(bytes / 2).unwrap_or(0)));
    let results = [
        fs::File::open(path).map(drop),
        fs::metadata(path).map(drop),
        fs::symlink_metadata(path).map(drop),
        fs::create_dir(path),
        fs::remove_dir(path),
        fs::remove_file(path),
        fs::read_link(path).map(drop),
        fs::rename(path, "/granted/to"),
        fs::rename("/granted/file", path),
        fs::hard_link(path, "/granted/to"),
        fs::hard_link("/granted/file", path),
        fs::read_dir(path).map(drop),
    ];
    for (at, result) in results.into_iter().enumerate() {
        let errno = result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0);
        if errno != 37 {
            write_all(io::stderr(), format!("operation {at}: errno {errno}\n").as_bytes());
            process::exit(5);
        }
    }
}

fn number(value: &str) -> u64 {
    value.parse().unwrap_or_else(|_| process::exit(99))
}

/// Tries an operation on the two paths of `FROM:TO`. A failure has its own status.
fn attempt(paths: &str, how: impl Fn(&str, &str) -> io::Result<()>) {
    let (from, to) = paths.split_once(':').unwrap_or((paths, ""));
    if how(from, to).is_err() {
        process::exit(5);
    }
}

/// Output beyond the kept part must not fail, so a failed write has its own status.
fn write_all(mut to: impl Write, bytes: &[u8]) {
    if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
        process::exit(97);
    }
}

/// Copies the document, and replaces every A of `A>B` by B.
fn replace(value: &str) {
    let mut document = String::new();
    match (value.split_once('>'), io::stdin().read_to_string(&mut document)) {
        (Some((from, to)), Ok(_)) => write_all(io::stdout(), document.replace(from, to).as_bytes()),
        _ => process::exit(96),
    }
}

fn flood(mut to: impl Write, mut rest: u64) {
    let block = [b'x'; 65536];
    while rest > 0 {
        let size = rest.min(block.len() as u64);
        write_all(&mut to, &block[..usize::try_from(size).unwrap_or_default()]);
        rest -= size;
    }
}

fn read() {
    let (mut count, mut sum, mut block) = (0_u64, 0_u64, [0_u8; 65536]);
    loop {
        match io::stdin().read(&mut block) {
            Ok(0) => break,
            Ok(n) => {
                count += n as u64;
                sum = block[..n].iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            }
            Err(_) => process::exit(96),
        }
    }
    write_all(io::stderr(), format!("read {count} bytes, {sum:016x}\n").as_bytes());
}

fn recurse(depth: u64) -> u64 {
    let block = std::hint::black_box([depth; 64]);
    if depth == 0 { block[0] } else { recurse(depth - 1).wrapping_add(block[63]) }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
