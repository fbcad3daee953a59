//! Compiles rules to a program that finds a system call's number in few steps.
//!
//! When a filter is installed, the kernel executes it once for each number, to learn which calls it always allows. So a
//! list of comparisons would cost more than everything else that confines a hook.

use std::collections::BTreeMap;
use std::num::TryFromIntError;

use seccompiler::sock_filter;

use super::super::bpf::{EQUAL, NOT_BELOW, and, answer, jump, load, skip};
use super::conditions::{Condition, Verdict};
use super::refused::LAST_KNOWN;

/// Offsets in seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const THIS: u32 = 0xc000_003e;
#[cfg(not(target_arch = "x86_64"))]
const THIS: u32 = 0xc000_00b7;

/// For each number: conditions, and what happens to the call if they all hold. The first such rule decides. A call
/// without one is allowed, unless its number is newer than this list.
#[derive(Debug, Default)]
pub(super) struct Rules(BTreeMap<i64, Vec<Rule>>);

impl Rules {
    /// Adds a rule after the others of this number.
    pub(super) fn add(&mut self, number: i64, conditions: &[Condition], verdict: Verdict) {
        self.0.entry(number).or_default().push((conditions.to_vec(), verdict));
    }

    pub(super) fn refuse(&mut self, number: i64) {
        self.add(number, &[], Verdict::Refuse);
    }

    pub(super) fn refuse_if(&mut self, number: i64, conditions: &[Condition]) {
        self.add(number, conditions, Verdict::Refuse);
    }

    pub(super) fn compile(&self) -> Result<Vec<sock_filter>, TryFromIntError> {
        let mut parts: Vec<Part<'_>> = vec![(0, ALLOWED)];
        for (&number, rules) in &self.0 {
            let number = u32::try_from(number)?;
            begin(&mut parts, (number, rules));
            begin(&mut parts, (number + 1, ALLOWED));
        }
        begin(&mut parts, (LAST_KNOWN + 1, HIDDEN));
        let mut backwards = Backwards::default();
        backwards.find(&parts)?;
        let kill = answer(libc::SECCOMP_RET_KILL_PROCESS);
        backwards.instructions.extend([load(NUMBER), kill, jump(EQUAL, THIS, 1, 0), load(ARCHITECTURE)]);
        backwards.instructions.reverse();
        Ok(backwards.instructions)
    }
}

/// The rules for all numbers from this one on, up to the next part.
type Part<'a> = (u32, &'a [Rule]);
type Rule = (Vec<Condition>, Verdict);

const ALLOWED: &[Rule] = &[];
const HIDDEN: &[Rule] = &[(Vec::new(), Verdict::Hide)];

/// Begins a part. A part without a number is dropped, and one that is like the part before it becomes one with that.
fn begin<'a>(parts: &mut Vec<Part<'a>>, part: Part<'a>) {
    parts.pop_if(|(first, _)| *first == part.0);
    if parts.last().is_none_or(|(_, rules)| *rules != part.1) {
        parts.push(part);
    }
}

/// Instructions from the last to the first, since all jumps go forwards.
#[derive(Default)]
struct Backwards<'a> {
    instructions: Vec<sock_filter>,
    returns: Vec<(Verdict, Place)>,
    decisions: Vec<(&'a [Rule], Place)>,
}

/// An instruction, as the number of instructions from there to the end.
type Place = usize;

/// A jump skips 255 instructions at most. The last few are left for the second of two places.
const REACH: usize = 250;

impl<'a> Backwards<'a> {
    fn push(&mut self, instruction: sock_filter) -> Place {
        self.instructions.push(instruction);
        self.instructions.len()
    }

    fn is_near(&self, place: Place) -> bool {
        self.instructions.len() - place < REACH
    }

    /// The same place, or a jump to it that is in reach.
    fn near(&mut self, place: Place) -> Result<Place, TryFromIntError> {
        if self.is_near(place) {
            return Ok(place);
        }
        let count = u32::try_from(self.instructions.len() - place)?;
        Ok(self.push(skip(count)))
    }

    /// Where a verdict is returned.
    fn verdict(&mut self, verdict: Verdict) -> Place {
        let of_verdict = self.returns.iter().rfind(|(of, _)| *of == verdict);
        if let Some((_, place)) = of_verdict.filter(|(_, place)| self.is_near(*place)) {
            return *place;
        }
        let place = self.push(answer(verdict.action()));
        self.returns.push((verdict, place));
        place
    }

    fn compare(&mut self, code: u16, value: u32, then: Place, otherwise: Place) -> Result<Place, TryFromIntError> {
        let (then, otherwise) = (self.near(then)?, self.near(otherwise)?);
        let here = self.instructions.len();
        Ok(self.push(jump(code, value, u8::try_from(here - then)?, u8::try_from(here - otherwise)?)))
    }

    /// Finds the part of a number by halves.
    fn find(&mut self, parts: &[Part<'a>]) -> Result<Place, TryFromIntError> {
        let (low, high) = parts.split_at(parts.len() / 2);
        match (low, high) {
            ([_, ..], [(first, _), ..]) => {
                let (low, high) = (self.find(low)?, self.find(high)?);
                self.compare(NOT_BELOW, *first, high, low)
            }
            (_, high) => self.decide(high.first().map_or(ALLOWED, |(_, rules)| rules)),
        }
    }

    fn decide(&mut self, rules: &'a [Rule]) -> Result<Place, TryFromIntError> {
        if let Some((_, place)) = self.decisions.iter().find(|(like, _)| *like == rules) {
            return Ok(*place);
        }
        let mut place = self.verdict(Verdict::Allow);
        for (conditions, verdict) in rules.iter().rev() {
            place = self.rule(conditions, *verdict, place)?;
        }
        if rules.iter().any(|(conditions, _)| !conditions.is_empty()) {
            self.decisions.push((rules, place));
        }
        Ok(place)
    }

    /// Returns the verdict if all conditions hold, and goes on at `next` otherwise.
    fn rule(&mut self, conditions: &[Condition], verdict: Verdict, next: Place) -> Result<Place, TryFromIntError> {
        let mut held = self.verdict(verdict);
        for (number, &Condition { at, mask, value, if_equal }) in conditions.iter().enumerate().rev() {
            let (then, otherwise) = if if_equal { (held, next) } else { (next, held) };
            held = self.compare(EQUAL, value, then, otherwise)?;
            let is_masked = mask != u32::MAX;
            if is_masked {
                held = self.push(and(mask));
            }
            let before = number.checked_sub(1).and_then(|before| conditions.get(before));
            let is_loaded = before.is_some_and(|before| before.at == at && before.mask == u32::MAX);
            if !is_loaded {
                held = self.push(load(at));
            }
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests;
