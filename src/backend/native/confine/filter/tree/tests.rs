use std::collections::BTreeSet;

use super::*;
use crate::backend::native::confine::filter::{Filter, Questions, Sockets, gate, refused};
use crate::backend::native::confine::support::Support;
use crate::backend::native::spawn::LISTENER_FLAG;

/// Another architecture, i386, and the bit of x32's numbers.
const OTHER: u32 = 0x4000_0003;
const X32: u32 = 1 << 30;
const ADDRESS: u64 = 0x7f12_3456_7890;

/// What a program returns, as the kernel executes it.
fn run(program: &[sock_filter], number: u32, architecture: u32, arguments: [u64; 6]) -> u32 {
    execute(program, number, architecture, arguments).0
}

/// What it returns, and how many instructions it executes.
fn execute(program: &[sock_filter], number: u32, architecture: u32, arguments: [u64; 6]) -> (u32, usize) {
    let (mut at, mut loaded, mut x) = (0, 0_u32, 0);
    for steps in 1.. {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => {
                loaded = match k {
                    0 => number,
                    4 => architecture,
                    k => (arguments[(k as usize - 16) / 8] >> (8 * (k % 8))) as u32,
                }
            }
            0x00 => loaded = k,
            0x54 => loaded &= k,
            0x6c => loaded <<= x,
            0x07 => x = loaded,
            0x87 => loaded = x,
            0x15 => jump(loaded == k),
            0x35 => jump(loaded >= k),
            0x45 => jump(loaded & k != 0),
            0x05 => at += k as usize,
            0x06 => return (k, steps),
            code => unreachable!("{code:#x}"),
        }
    }
    unreachable!("a program ends")
}

/// The same by the rules themselves.
fn verdict(rules: &Rules, number: u32, arguments: [u64; 6]) -> Verdict {
    let of_number = rules.0.get(&i64::from(number)).into_iter().flatten();
    let mut holding = of_number.filter(|(conditions, _)| conditions.iter().all(|condition| condition.holds(arguments)));
    match holding.next() {
        Some((_, verdict)) => *verdict,
        None if number > LAST_KNOWN => Verdict::Hide,
        None => Verdict::Allow,
    }
}

fn programs() -> Vec<(Support, Sockets, Questions)> {
    let of = |bits: i32| {
        let is = |bit: i32| bits & 1 << bit != 0;
        let sockets = Sockets { tcp: is(0), udp: is(1), unix: is(2) };
        let support = Support::of_landlock([1, 3, 7][bits as usize % 3]);
        let questions = Questions {
            broker: is(3),
            connect: sockets != Sockets::default(),
            datagrams: sockets.udp,
            signals: is(4),
            first_program: ADDRESS,
        };
        (support, sockets, questions)
    };
    (0..32).map(of).collect()
}

/// Values at which a rule could decide otherwise, for each argument.
fn spread() -> Vec<[u64; 6]> {
    let mut values: BTreeSet<u64> = (0..=48).collect();
    values.extend((0..64).map(|bit| 1 << bit));
    values.extend([u64::MAX, u32::MAX.into(), 0x484b, ADDRESS, ADDRESS ^ 1, ADDRESS ^ 1 << 40, 0x5401, 0x802c_542a]);
    values.extend((0..32).map(|bit| 1 << 33 | 1 << bit));
    let of = [0, 2, u64::MAX];
    let mut spread = Vec::new();
    for (at, &value) in (0..6).flat_map(|at| values.iter().map(move |value| (at, value))) {
        spread.extend(of.map(|of| {
            let mut arguments = [of; 6];
            arguments[at] = value;
            arguments
        }));
    }
    for domain in 0..20 {
        for kind in 0..20 {
            spread.extend([0, 6, 17, 0x484b].map(|protocol| [domain, kind | 0o2_000_000, protocol, 0, 0, 0]));
        }
    }
    spread
}

#[test]
fn the_program_decides_like_its_rules_for_each_call() -> Result<(), TryFromIntError> {
    let spread = spread();
    let numbers = || (0..600).chain([X32, X32 | 2, X32 | 59, u32::MAX]);
    for (support, sockets, questions) in programs() {
        let Filter { asking, last } = Filter::new(support, sockets, questions)?;
        let mut rules = refused(support, sockets);
        gate::ask(questions, &mut rules);
        for number in numbers() {
            let depends = rules.0.get(&number.into()).is_some_and(|rules| !rules[0].0.is_empty());
            for &arguments in if depends { spread.as_slice() } else { &spread[..1] } {
                let expected = verdict(&rules, number, arguments);
                let decided = run(&asking, number, THIS, arguments);
                assert_eq!(decided, expected.action(), "{number} {arguments:x?} {support:?} {questions:?}");
            }
            if let Some(last) = &last {
                let expected = if number > LAST_KNOWN { Verdict::Hide } else { Verdict::Allow };
                assert_eq!(run(last, number, THIS, [0; 6]), expected.action(), "{number}");
            }
            for program in last.iter().chain([&asking]) {
                assert_eq!(run(program, number, OTHER, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
            }
        }
    }
    Ok(())
}

#[test]
fn a_number_is_found_in_few_steps() -> Result<(), TryFromIntError> {
    // The kernel executes each program for each number when it is installed.
    for (support, sockets, questions) in programs() {
        let program = Filter::new(support, sockets, questions)?.asking;
        let rules = refused(support, sockets);
        for number in (0..470).filter(|&number| !rules.0.contains_key(&number.into())) {
            let (_, steps) = execute(&program, number, THIS, [0; 6]);
            assert!(steps < 25, "{number}: {steps}");
        }
    }
    Ok(())
}

#[test]
fn sending_the_descriptor_is_allowed_once() -> Result<(), TryFromIntError> {
    for (support, sockets, questions) in programs() {
        let Filter { asking, last } = Filter::new(support, sockets, questions)?;
        let flags = (libc::MSG_NOSIGNAL | LISTENER_FLAG) as u64;
        let number = libc::SYS_sendmsg as u32;
        let of_child = [4, ADDRESS, flags, 0, 0, 0];
        assert_eq!(run(&asking, number, THIS, of_child), libc::SECCOMP_RET_ALLOW);
        assert_eq!(last.is_some(), sockets.udp);
        let refuses = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        assert!(last.is_none_or(|last| run(&last, number, THIS, of_child) == refuses));
    }
    Ok(())
}
