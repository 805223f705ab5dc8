//! Properties that are shown for every value of a small scope.
//!
//! A property asks [`Any`] for its values and asserts what holds of them:
//!
//! ```
//! # fn outside_of_tests() {
//! #[cfg_attr(kani, kani::proof)]
//! #[cfg_attr(not(kani), test)]
//! fn a_mask_is_the_remainder() {
//!     scope::every(|any| {
//!         let (value, exponent) = (any.up_to(70), any.up_to(6));
//!         assert_eq!(value & ((1 << exponent) - 1), value % (1 << exponent));
//!     });
//! }
//! # }
//! ```
//!
//! As an ordinary test it runs once for every combination of what it may choose, choices that depend
//! on earlier ones included. Under `cargo kani` it runs once, and each choice stands for all its
//! values at once. So a property keeps to functions of plain numbers, and its loops to a few rounds.

/// Where a property has its values from.
#[derive(Debug, Default)]
pub struct Any {
    #[cfg(not(kani))]
    odometer: odometer::Odometer,
}

/// Show `property` for everything that it may choose; returns how many cases that were.
///
/// # Panics
/// As the property does, after telling its choices; and if there is no end to them.
pub fn every(property: impl Fn(&mut Any)) -> u64 {
    let mut any = Any::default();
    #[cfg(kani)]
    {
        property(&mut any);
        1
    }
    #[cfg(not(kani))]
    {
        let mut cases = 0;
        loop {
            property(&mut any);
            cases += 1;
            if !any.odometer.advance() {
                return cases;
            }
        }
    }
}

impl Any {
    /// 0, and every number up to `most`.
    pub fn up_to(&mut self, most: u64) -> u64 {
        #[cfg(kani)]
        {
            let value: u64 = kani::any();
            kani::assume(value <= most);
            value
        }
        #[cfg(not(kani))]
        self.odometer.choose(most)
    }

    pub fn flag(&mut self) -> bool {
        self.up_to(1) == 1
    }

    /// Each of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        let last = all.len().checked_sub(1).expect("a choice of something");
        all[self.up_to(last as u64) as usize]
    }

    /// The numbers about which mistakes are made: the least and the greatest, and those at distance
    /// `near` or less from them and from each power of two.
    pub fn edge(&mut self, near: u64) -> u64 {
        let power = self.up_to(64);
        let middle = if power == 64 { 0 } else { 1_u64 << power };
        let distance = self.up_to(2 * near);
        middle.wrapping_add(distance).wrapping_sub(near)
    }
}

#[cfg(not(kani))]
mod odometer {
    /// A scope of more cases than this is not small.
    const MOST: u64 = 50_000_000;

    /// What was chosen in a run, and up to what. From one run to the next it counts on, the last
    /// choice fastest.
    #[derive(Debug, Default)]
    pub(crate) struct Odometer {
        choices: Vec<(u64, u64)>,
        next: usize,
        cases: u64,
    }

    impl Odometer {
        pub(crate) fn choose(&mut self, most: u64) -> u64 {
            let at = self.next;
            self.next += 1;
            if at == self.choices.len() {
                self.choices.push((0, most));
            }
            let (value, of) = self.choices[at];
            assert_eq!(of, most, "a property chooses by its choices and by nothing else");
            value
        }

        /// To the next combination; false if that was the last one.
        pub(crate) fn advance(&mut self) -> bool {
            self.cases += 1;
            assert!(self.cases < MOST, "a scope of more than {MOST} cases is not small");
            self.choices.truncate(std::mem::take(&mut self.next));
            while let Some((value, most)) = self.choices.pop() {
                if value < most {
                    self.choices.push((value + 1, most));
                    return true;
                }
            }
            false
        }
    }

    /// Which case it was is what whoever reads of a failure wants to know.
    impl Drop for Odometer {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let values: Vec<u64> = self.choices.iter().map(|(value, _)| *value).collect();
                #[expect(clippy::print_stderr, reason = "as a failed assertion does")]
                {
                    eprintln!("the case: {values:?}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_combinations_come_once() {
        let seen = RefCell::new(BTreeSet::new());
        let cases = every(|any| {
            let case = (any.up_to(2), any.flag(), any.of(&['a', 'b']));
            assert!(seen.borrow_mut().insert(case), "{case:?} twice");
        });
        assert_eq!((cases, seen.borrow().len()), (12, 12));
    }

    #[test]
    fn choices_depend_on_earlier_ones() {
        let sums = RefCell::new(Vec::new());
        every(|any| {
            let count = any.up_to(3);
            sums.borrow_mut().push((0..count).map(|_| any.up_to(1)).sum::<u64>());
        });
        // 2^0 + 2^1 + 2^2 + 2^3
        assert_eq!(sums.borrow().len(), 15);
    }

    #[test]
    fn edges_are_at_both_ends_and_at_powers_of_two() {
        let edges = RefCell::new(BTreeSet::new());
        every(|any| {
            edges.borrow_mut().insert(any.edge(1));
        });
        let edges = edges.into_inner();
        for value in [0, 1, u64::MAX, 511, 512, 513, 1 << 63, (1 << 63) - 1] {
            assert!(edges.contains(&value), "{value}");
        }
    }

    #[test]
    #[should_panic(expected = "of 3 and 3")]
    fn what_does_not_hold_somewhere_is_found() {
        every(|any| {
            let (left, right) = (any.up_to(5), any.up_to(5));
            assert!(left + right != 6 || left != right, "of {left} and {right}");
        });
    }
}
