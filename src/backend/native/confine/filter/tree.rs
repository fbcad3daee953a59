//! Compiles rules to a short program that finds a system call's number in few steps.
//!
//! When a filter is installed, the kernel compiles it, and executes it once for each number, to learn which calls it always
//! allows. So a list of comparisons would cost more than everything else that confines a hook.

use std::collections::BTreeMap;
use std::num::TryFromIntError;

use seccompiler::sock_filter;

use super::super::bpf::{
    ANY_BIT, EQUAL, NOT_BELOW, and, answer, from_x, jump, load, load_constant, shift_left_by_x, skip, to_x,
};
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
        let (parts, words) = (self.parts()?, self.words()?);
        let mut backwards = Backwards::default();
        let frequent = backwards.find(&parts, &Backwards::decide)?;
        let hidden = backwards.verdict(Verdict::Hide);
        let words = backwards.find(&words, &Backwards::word)?;
        // What is pushed next goes on at the last instruction.
        if words < backwards.instructions.len() {
            backwards.jump_to(words)?;
        }
        backwards.instructions.extend([
            load(NUMBER),
            to_x(),
            shift_left_by_x(),
            load_constant(1),
            to_x(),
            and(WORD - 1),
        ]);
        let rare = backwards.instructions.len();
        let rare = backwards.compare(NOT_BELOW, LAST_KNOWN + 1, hidden, rare)?;
        backwards.compare(NOT_BELOW, FIRST_RARE, rare, frequent)?;
        let kill = answer(libc::SECCOMP_RET_KILL_PROCESS);
        backwards.instructions.extend([load(NUMBER), kill, jump(EQUAL, THIS, 1, 0), load(ARCHITECTURE)]);
        backwards.instructions.reverse();
        Ok(backwards.instructions)
    }

    fn of(&self, number: u32) -> &[Rule] {
        self.0.get(&number.into()).map_or(ALLOWED, Vec::as_slice)
    }

    /// The rules for frequent calls. A part is not like the one before it.
    fn parts(&self) -> Result<Vec<Part<&[Rule]>>, TryFromIntError> {
        let mut parts = vec![(0, self.of(0))];
        for (&number, _) in self.0.range(..i64::from(FIRST_RARE)) {
            for number in [u32::try_from(number)?, u32::try_from(number + 1)?] {
                let rules = self.of(number);
                if number < FIRST_RARE && parts.last().is_none_or(|(_, before)| *before != rules) {
                    parts.push((number, rules));
                }
            }
        }
        Ok(parts)
    }

    /// The rules for all other known calls. Words in which all calls are allowed become one with those after them.
    fn words(&self) -> Result<Vec<Part<Word<'_>>>, TryFromIntError> {
        let mut words: Vec<Part<Word<'_>>> = Vec::new();
        for first in (FIRST_RARE..=LAST_KNOWN).step_by(WORD.try_into()?) {
            let mut word = Word::default();
            for number in first..(first + WORD).min(LAST_KNOWN + 1) {
                match self.of(number) {
                    [] => {}
                    [(conditions, Verdict::Refuse)] if conditions.is_empty() => word.refused |= 1 << (number - first),
                    rules => word.others.push((number, rules)),
                }
            }
            if words.last().is_none_or(|(_, before)| *before != word) {
                words.push((first, word));
            }
        }
        Ok(words)
    }
}

/// The rules for all numbers from this one on, up to the next part.
type Part<T> = (u32, T);
type Rule = (Vec<Condition>, Verdict);

const ALLOWED: &[Rule] = &[];

/// Programs make most calls by lower numbers. For these, the program contains only instructions that the kernel understands
/// when it looks for calls that are always allowed, and does not execute it for them.
const FIRST_RARE: u32 = 128;

/// The rules for 32 numbers: a bit for each call that is refused with any arguments, and the rules of others. It takes fewer
/// instructions than comparisons. The first number is a multiple of 32.
#[derive(Debug, Default, PartialEq)]
struct Word<'a> {
    refused: u32,
    others: Vec<(u32, &'a [Rule])>,
}

const WORD: u32 = u32::BITS;

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
        self.jump_to(place)
    }

    fn jump_to(&mut self, place: Place) -> Result<Place, TryFromIntError> {
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
    fn find<T>(
        &mut self,
        parts: &[Part<T>],
        decide: &impl Fn(&mut Self, &T) -> Result<Place, TryFromIntError>,
    ) -> Result<Place, TryFromIntError> {
        let (low, high) = parts.split_at(middle(parts));
        match (low, high) {
            ([_, ..], [(first, _), ..]) => {
                let (low, high) = (self.find(low, decide)?, self.find(high, decide)?);
                self.compare(NOT_BELOW, *first, high, low)
            }
            (_, [(_, only), ..]) => decide(self, only),
            (_, []) => Ok(self.verdict(Verdict::Allow)),
        }
    }

    /// Decides by the bit of the number, which is in the register X.
    fn word(&mut self, word: &Word<'a>) -> Result<Place, TryFromIntError> {
        let mut place = self.verdict(Verdict::Allow);
        for (number, rules) in word.others.iter().rev() {
            let decision = self.decide(rules)?;
            place = self.compare(EQUAL, *number, decision, place)?;
        }
        if !word.others.is_empty() {
            place = self.push(load(NUMBER));
        }
        if word.refused != 0 {
            let refused = self.verdict(Verdict::Refuse);
            self.compare(ANY_BIT, word.refused, refused, place)?;
            place = self.push(from_x());
        }
        Ok(place)
    }

    fn decide(&mut self, rules: &&'a [Rule]) -> Result<Place, TryFromIntError> {
        if let Some((_, place)) = self.decisions.iter().find(|(like, _)| like == rules) {
            return Ok(*place);
        }
        let mut place = self.verdict(Verdict::Allow);
        for (number, (conditions, verdict)) in rules.iter().enumerate().rev() {
            let before = number.checked_sub(1).and_then(|before| rules.get(before));
            let loaded = before.and_then(|(conditions, _)| only_word(conditions));
            place = self.rule(conditions, *verdict, loaded, place)?;
        }
        if rules.iter().any(|(conditions, _)| !conditions.is_empty()) {
            self.decisions.push((*rules, place));
        }
        Ok(place)
    }

    /// Returns the verdict if all conditions hold, and goes on at `next` otherwise. `loaded`: the word that was loaded
    /// before, if it is always the same.
    fn rule(
        &mut self,
        conditions: &[Condition],
        verdict: Verdict,
        loaded: Option<u32>,
        next: Place,
    ) -> Result<Place, TryFromIntError> {
        let mut held = self.verdict(verdict);
        for (number, &Condition { at, mask, value, if_equal }) in conditions.iter().enumerate().rev() {
            let (then, otherwise) = if if_equal { (held, next) } else { (next, held) };
            held = self.compare(EQUAL, value, then, otherwise)?;
            let is_masked = mask != u32::MAX;
            if is_masked {
                held = self.push(and(mask));
            }
            let loaded = match number.checked_sub(1).and_then(|before| conditions.get(before)) {
                Some(before) => only_word(std::slice::from_ref(before)),
                None => loaded,
            };
            if loaded != Some(at) {
                held = self.push(load(at));
            }
        }
        Ok(held)
    }
}

/// Where about half of the numbers are on each side. So the kernel takes few steps for all of them together.
fn middle<T>(parts: &[Part<T>]) -> usize {
    let (Some((first, _)), Some((last, _))) = (parts.first(), parts.last()) else { return 0 };
    let middle = first.midpoint(*last);
    parts.partition_point(|(first, _)| *first <= middle).min(parts.len() - 1)
}

/// The word that is loaded after these conditions, whether they hold or not.
fn only_word(conditions: &[Condition]) -> Option<u32> {
    let first = conditions.first()?;
    conditions.iter().all(|other| other.at == first.at && other.mask == u32::MAX).then_some(first.at)
}

#[cfg(test)]
mod tests;
