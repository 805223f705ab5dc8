//! Names and UUIDs for what a definition leaves open.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// How many there were; none are counted while it is 0.
static COUNTED: AtomicU64 = AtomicU64::new(0);

/// From now on they are the same in each run of this program, if it makes them in the same order.
pub(crate) fn count_identities() {
    // Whoever asked for it first has begun.
    let _ = COUNTED.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
}

pub(crate) struct NewIds;

impl xml::Identity for NewIds {
    fn uuid(&mut self) -> Uuid {
        match counted() {
            None => Uuid::new_v4(),
            Some(number) => {
                Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("manor test {number}").as_bytes())
            }
        }
    }

    fn mac(&mut self) -> [u8; 3] {
        match counted() {
            None => {
                let [a, b, c, ..] = *Uuid::new_v4().as_bytes();
                [a, b, c]
            }
            Some(number) => {
                let [.., a, b, c] = number.to_be_bytes();
                [a, b, c]
            }
        }
    }
}

fn counted() -> Option<u64> {
    let next = |number: u64| (number > 0).then(|| number.wrapping_add(1).max(1));
    COUNTED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
}
