//! [`Watermark`]: tells, once, when a file is written to beyond a place of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// None is set.
const NOWHERE: u64 = u64::MAX;

type Tell = Box<dyn Fn(u64, u64) + Send + Sync>;

pub struct Watermark {
    place: AtomicU64,
    tell: Tell,
}

impl Watermark {
    /// `tell` hears the place, and how many bytes beyond it the write ended, from whichever thread wrote.
    #[must_use]
    pub fn new(tell: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { place: AtomicU64::new(NOWHERE), tell: Box::new(tell) }
    }

    /// From the next write on; none: no more.
    pub fn set(&self, place: Option<u64>) {
        self.place.store(place.unwrap_or(NOWHERE), Ordering::Relaxed);
    }

    /// What is not passed yet.
    #[must_use]
    pub fn place(&self) -> Option<u64> {
        Some(self.place.load(Ordering::Relaxed)).filter(|place| *place != NOWHERE)
    }

    /// Something is written up to `end`.
    #[inline]
    pub fn reach(&self, end: u64) {
        let place = self.place.load(Ordering::Relaxed);
        if end > place {
            self.pass(place, end);
        }
    }

    #[cold]
    fn pass(&self, place: u64, end: u64) {
        // Of several writers one tells.
        let passed =
            self.place.compare_exchange(place, NOWHERE, Ordering::Relaxed, Ordering::Relaxed);
        if passed.is_ok() {
            (self.tell)(place, end - place);
        }
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watermark").field(&self.place()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_first_write_beyond_the_place_is_told_and_no_other() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = told.clone();
        let mark = Watermark::new(move |place, excess| ear.lock().unwrap().push((place, excess)));
        mark.reach(u64::MAX);
        mark.set(Some(100));
        mark.reach(100);
        assert_eq!((mark.place(), told.lock().unwrap().len()), (Some(100), 0));
        mark.reach(107);
        mark.reach(200);
        assert_eq!((mark.place(), told.lock().unwrap().clone()), (None, vec![(100, 7)]));
        mark.set(Some(300));
        mark.set(None);
        mark.reach(400);
        assert_eq!(told.lock().unwrap().len(), 1);
    }
}
