//! [`Places`]: what each user of the host has of a socket that several use, so that none has all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections each user has, by its number.
#[derive(Debug)]
pub(crate) struct Places {
    /// Of one user at a time.
    most: u32,
    taken: Mutex<HashMap<u32, u32>>,
}

impl Places {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// One more of this user, until what is returned is dropped; none if it has too many.
    pub(crate) fn take(self: &Arc<Self>, user: u32) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(user).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), user })
    }
}

#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    user: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_the_others() {
        let places = Places::new(64);
        let mut mine: Vec<_> = std::iter::from_fn(|| places.take(1000)).collect();
        assert_eq!(mine.len(), 64);
        let other = places.take(1001);
        assert!(other.is_some());
        mine.pop();
        assert!(places.take(1000).is_some());
        drop((mine, other));
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
