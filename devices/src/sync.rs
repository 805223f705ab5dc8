//! Locks that outlive a panic: a poisoned device lock must not take the other vCPUs down with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) trait Lock<T> {
    /// The guard, also when another holder panicked: device state is plain data, valid at any point.
    fn hold(&self) -> MutexGuard<'_, T>;
}

impl<T> Lock<T> for Mutex<T> {
    fn hold(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
