//! Sets of CPUs or nodes as libvirt writes them: `0-3,8,^2`.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::value::{Expected, Value};

/// libvirt's own bound on CPU numbers in a set.
const MOST: u32 = 16_384;

/// Kept as ranges, so that a definition full of `0-16383` takes no more memory than its text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuSet(Vec<RangeInclusive<u32>>);

impl CpuSet {
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().cloned().flatten()
    }

    pub fn contains(&self, cpu: u32) -> bool {
        self.0.iter().any(|range| range.contains(&cpu))
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut cpus: Vec<u32> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        let mut set = Self::default();
        cpus.into_iter().for_each(|cpu| set.push(cpu));
        set
    }
}

impl CpuSet {
    /// Add a number above all others.
    fn push(&mut self, cpu: u32) {
        self.push_run(cpu..=cpu);
    }

    /// Add numbers above all others.
    fn push_run(&mut self, run: RangeInclusive<u32>) {
        match self.0.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(*run.start()) => {
                *last = *last.start()..=*run.end();
            }
            _ => self.0.push(run),
        }
    }
}

/// One bit for each number, while a text is read.
struct Members([u64; (MOST / 64) as usize]);

impl Members {
    fn set(&mut self, first: u32, last: u32, member: bool) {
        for (word, start) in self.0.iter_mut().zip((0..).step_by(64)) {
            if last < start || first > start + 63 {
                continue;
            }
            let from = first.saturating_sub(start);
            let to = (last - start).min(63);
            let mask = (u64::MAX >> (63 - (to - from))) << from;
            *word = if member { *word | mask } else { *word & !mask };
        }
    }

    fn runs(&self) -> CpuSet {
        let mut set = CpuSet::default();
        for (word, start) in self.0.iter().zip((0..).step_by(64)) {
            let mut at = 0;
            while let Some(rest) = word.checked_shr(at).filter(|rest| *rest != 0) {
                let first = at + rest.trailing_zeros();
                at = first + (word >> first).trailing_ones();
                set.push_run(start + first..=start + at - 1);
            }
        }
        set
    }
}

impl Value for CpuSet {
    fn parse(text: &str) -> Result<Self, Expected> {
        let mut members = Members([0; (MOST / 64) as usize]);
        for part in text.split(',').map(str::trim) {
            if let Some(out) = part.strip_prefix('^') {
                let out = number(out)?;
                members.set(out, out, false);
            } else {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(Expected::Form("a range that ends after its start"));
                }
                members.set(first, last, true);
            }
        }
        let set = members.runs();
        if set.0.is_empty() {
            Err(Expected::Form("a set with at least one member"))
        } else {
            Ok(set)
        }
    }

    fn print(&self) -> Cow<'_, str> {
        let part = |range: &RangeInclusive<u32>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        Cow::Owned(self.0.iter().map(part).collect::<Vec<_>>().join(","))
    }
}

/// A member's number, below `MOST`.
fn number(text: &str) -> Result<u32, Expected> {
    let number = u32::parse(text.trim()).map_err(|_| Expected::Form("a set such as 0-3,8,^2"))?;
    if number < MOST { Ok(number) } else { Err(Expected::Range(format!("numbers below {MOST}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_exclusions_print_in_canonical_form() {
        assert_eq!(CpuSet::parse("8,0-3,^2").unwrap().print(), "0-1,3,8");
        assert_eq!(
            CpuSet::parse("60-70,127,128,^64,300").unwrap().print(),
            "60-63,65-70,127-128,300"
        );
        assert_eq!(CpuSet::parse("0-16383").unwrap().print(), "0-16383");
        assert_eq!([5, 1, 2, 2].into_iter().collect::<CpuSet>().print(), "1-2,5");
    }

    #[test]
    fn members_are_those_of_the_text() {
        let set = CpuSet::parse("1-3,7").unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 2, 3, 7]);
        assert!(set.contains(2) && !set.contains(4));
    }

    #[test]
    fn a_huge_or_backward_range_is_refused_without_expanding_it() {
        for text in ["0-4294967295", "3-1", "", "a", "^1", "1,,2", "-1", "1-", "16384"] {
            assert!(CpuSet::parse(text).is_err(), "{text}");
        }
    }
}
