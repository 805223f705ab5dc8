//! Sets of CPUs or nodes as libvirt writes them: `0-3,8,^2`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::value::{Expected, Value};

/// libvirt's own bound on CPU numbers in a set.
const MOST: u32 = 16_384;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl Value for CpuSet {
    fn parse(text: &str) -> Result<Self, Expected> {
        let number = |text: &str| -> Result<u32, Expected> {
            let number =
                u32::parse(text.trim()).map_err(|_| Expected::Form("a set such as 0-3,8,^2"))?;
            if number >= MOST {
                Err(Expected::Range(format!("numbers below {MOST}")))
            } else {
                Ok(number)
            }
        };
        let mut set = BTreeSet::new();
        for part in text.split(',').map(str::trim) {
            if let Some(out) = part.strip_prefix('^') {
                set.remove(&number(out)?);
            } else if let Some((first, last)) = part.split_once('-') {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(Expected::Form("a range that ends after its start"));
                }
                set.extend(first..=last);
            } else {
                set.insert(number(part)?);
            }
        }
        if set.is_empty() {
            Err(Expected::Form("a set with at least one member"))
        } else {
            Ok(Self(set))
        }
    }

    fn print(&self) -> Cow<'_, str> {
        let mut parts: Vec<String> = Vec::new();
        let mut rest = self.iter().peekable();
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| *next == last + 1) {
                last = next;
            }
            parts.push(if first == last { first.to_string() } else { format!("{first}-{last}") });
        }
        Cow::Owned(parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_exclusions_print_in_canonical_form() {
        assert_eq!(CpuSet::parse("8,0-3,^2").unwrap().print(), "0-1,3,8");
    }

    #[test]
    fn a_huge_or_backward_range_is_refused_without_expanding_it() {
        for text in ["0-4294967295", "3-1", "", "a", "^1", "1,,2", "-1"] {
            assert!(CpuSet::parse(text).is_err(), "{text}");
        }
    }
}
