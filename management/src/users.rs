//! [`Users`]: whom VMMs become. Each running domain has a user that no other process has, so that what
//! one VMM might reach is no other's.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Of those that nothing else gives out: containers end below, and above no 32-bit number is signed.
pub(crate) const DEFAULT: RangeInclusive<u32> = 0x7000_0000..=0x7000_ffff;
/// Guests without a daemon have the number of their own process above this.
const FOREGROUND: u32 = 0x7010_0000;

/// The user of a guest that this very process runs without a daemon.
pub(crate) fn foreground() -> u32 {
    FOREGROUND.saturating_add(std::process::id())
}

pub(crate) struct Users {
    range: RangeInclusive<u32>,
    taken: Mutex<BTreeMap<u32, Uuid>>,
}

impl Users {
    pub(crate) fn new(range: RangeInclusive<u32>) -> Self {
        Self { range, taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u32, Uuid>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for `domain`, until it is [given back](Self::give_back); none when all are taken.
    pub(crate) fn take(&self, domain: Uuid) -> Option<u32> {
        let mut taken = self.taken();
        let free = self.range.clone().find(|user| !taken.contains_key(user))?;
        taken.insert(free, domain);
        Some(free)
    }

    /// The user of a domain that ran before this daemon did.
    pub(crate) fn keep(&self, user: u32, domain: Uuid) {
        self.taken().insert(user, domain);
    }

    /// No process of `domain` is left.
    pub(crate) fn give_back(&self, domain: Uuid) {
        self.taken().retain(|_, holder| *holder != domain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_domain_has_a_user_of_its_own_and_gives_it_back() {
        let users = Users::new(10..=12);
        let [one, two, old] = [1, 2, 3].map(Uuid::from_u128);
        users.keep(11, old);
        assert_eq!((users.take(one), users.take(two)), (Some(10), Some(12)));
        assert_eq!(users.take(Uuid::from_u128(4)), None, "an error, and not another's");
        users.give_back(old);
        assert_eq!(users.take(one), Some(11));
        users.give_back(one);
        assert_eq!(users.take(two), Some(10));
    }
}
