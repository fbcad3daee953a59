//! Bounded capture of output: its first part, its last part, and the number of bytes between.

use std::collections::VecDeque;

/// A hook's output on one stream. It accepts any amount, so a hook never blocks or fails because of its own output.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    first: Vec<u8>,
    first_limit: usize,
    last: VecDeque<u8>,
    last_limit: usize,
    dropped: u64,
}

/// The kept bytes in order, and the position of the gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Captured {
    pub(crate) bytes: Vec<u8>,
    /// Where in `bytes` the dropped ones belong.
    pub(crate) gap: usize,
    pub(crate) dropped: u64,
}

impl Capture {
    /// Keeps `limit` bytes: half from the start and half from the end.
    pub(crate) fn both_ends(limit: usize) -> Self {
        Self { first_limit: limit - limit / 2, last_limit: limit / 2, ..Self::default() }
    }

    /// Keeps the first `limit` bytes.
    pub(crate) fn beginning(limit: usize) -> Self {
        Self { first_limit: limit, ..Self::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = self.first_limit - self.first.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.first.extend_from_slice(first);
        if rest.is_empty() {
            return;
        }
        let kept = &rest[rest.len().saturating_sub(self.last_limit)..];
        let surplus = (self.last.len() + kept.len()).saturating_sub(self.last_limit);
        self.last.drain(..surplus);
        self.last.extend(kept);
        self.dropped += (rest.len() - kept.len() + surplus) as u64;
    }

    pub(crate) fn finish(self) -> Captured {
        let gap = self.first.len();
        let mut bytes = self.first;
        let (front, back) = self.last.as_slices();
        bytes.extend_from_slice(front);
        bytes.extend_from_slice(back);
        Captured { bytes, gap, dropped: self.dropped }
    }
}

impl Captured {
    /// The text for a person. A line shows where bytes were dropped and how many.
    pub(crate) fn shown(&self) -> Vec<u8> {
        let mut shown = self.bytes.clone();
        if self.dropped > 0 {
            let note = format!("\n[… {} bytes left out …]\n", self.dropped);
            shown.splice(self.gap..self.gap, note.into_bytes());
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(mut capture: Capture, writes: &[&str]) -> (String, u64) {
        writes.iter().for_each(|w| capture.push(w.as_bytes()));
        let captured = capture.finish();
        (String::from_utf8_lossy(&captured.shown()).into_owned(), captured.dropped)
    }

    #[test]
    fn output_up_to_the_limit_is_kept_whole() {
        for writes in [&["0123456789"][..], &["01234", "56789"], &["0", "12345678", "9"]] {
            assert_eq!(captured(Capture::both_ends(10), writes), ("0123456789".to_owned(), 0), "{writes:?}");
        }
    }

    #[test]
    fn beyond_the_limit_the_middle_is_dropped_and_counted() {
        for writes in [&["abcdeXXXXXvwxyz"][..], &["abc", "deXXXX", "X", "vwxyz"], &["abcdeXXXXXv", "w", "x", "y", "z"]]
        {
            let expected = "abcde\n[… 5 bytes left out …]\nvwxyz".to_owned();
            assert_eq!(captured(Capture::both_ends(10), writes), (expected, 5), "{writes:?}");
        }
    }

    #[test]
    fn with_a_limit_of_zero_it_only_counts() {
        assert_eq!(captured(Capture::beginning(0), &["abc", "de"]).1, 5);
    }
}
