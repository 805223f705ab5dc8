//! [`Coalesced`]: port writes that KVM keeps in a ring instead of leaving the guest for each of
//! them (`KVM_CAP_COALESCED_PIO`), to be applied before anything that the guest does leave for.
//!
//! A machine has one ring. KVM maps it into every vCPU's run page, and fills it at `last` from
//! whichever vCPU writes; we empty it at `first`. An entry counts as taken only when it is applied,
//! so that a ring seen empty means that every write has reached its device.

use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_CAP_COALESCED_PIO, KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio,
    kvm_coalesced_mmio_ring,
};
use kvm_ioctls::IoEventAddress;

use super::vcpu::RunPage;
use super::{KvmError, Vcpu, Vm, failed};

const PAGE: usize = 4096;
const RING: usize = KVM_COALESCED_MMIO_PAGE_OFFSET as usize * PAGE;
/// As many as fill the page (`KVM_COALESCED_MMIO_MAX`).
const ENTRIES: u32 =
    ((PAGE - size_of::<kvm_coalesced_mmio_ring>()) / size_of::<kvm_coalesced_mmio>()) as u32;

/// Ports of which KVM keeps every write that lies in them as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    pub port: u16,
    pub len: u16,
}

pub struct Coalesced {
    ring: Ring,
    /// Held while writes are applied: whoever finds them gone must find them done, and in order.
    applying: Mutex<()>,
    /// The mapping that the ring lies in.
    _page: Arc<RunPage>,
}

impl Vm {
    /// Have KVM keep writes to `zones` in the ring. None when it cannot, or there is nothing to
    /// keep: every write is an exit then.
    ///
    /// `vcpu` is any of the machine's; none of them may run before all serve the ring.
    pub fn coalesce(&self, vcpu: &Vcpu, zones: &[Zone]) -> Result<Option<Coalesced>, KvmError> {
        let able = self.fd().check_extension_raw(KVM_CAP_COALESCED_PIO.into()) > 0;
        let Some(ring) = vcpu.page.part(RING, PAGE).filter(|_| able && !zones.is_empty()) else {
            return Ok(None);
        };
        for zone in zones {
            self.fd()
                .register_coalesced_mmio(IoEventAddress::Pio(zone.port.into()), zone.len.into())
                .map_err(failed("coalesce port writes"))?;
        }
        let ring = Ring { base: ring.cast() };
        Ok(Some(Coalesced { ring, applying: Mutex::new(()), _page: vcpu.page.clone() }))
    }
}

impl Coalesced {
    /// Have every write that is in the ring applied, in the order in which the guest made them. At
    /// the return those are done, whoever applied them.
    pub fn apply(&self, write: impl FnMut(u16, &[u8])) {
        if !self.ring.is_empty() {
            let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
            self.ring.take(write);
        }
    }
}

struct Ring {
    base: NonNull<kvm_coalesced_mmio_ring>,
}

// SAFETY: the address of a mapping that `Coalesced` keeps. Its indices are accessed as atomics, its
// entries only by whoever holds `applying`.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    fn is_empty(&self) -> bool {
        // `last` before `first`: entries up to this `last` are done if `first` has come so far.
        let last = self.last().load(Ordering::Acquire);
        self.first().load(Ordering::Acquire) == last
    }

    /// Take what is there now, and no more: other vCPUs may go on filling the ring for ever.
    fn take(&self, mut write: impl FnMut(u16, &[u8])) {
        let last = self.last().load(Ordering::Acquire);
        let mut next = self.first().load(Ordering::Relaxed);
        for _ in 0..ENTRIES {
            if next == last {
                return;
            }
            if let Some((port, data, len)) = self.entry(next) {
                write(port, &data[..len]);
            }
            next = (next + 1) % ENTRIES;
            self.first().store(next, Ordering::Release);
        }
    }

    /// Port, data and its length, if it is what was asked for. It is KVM's word, but a wrong one
    /// would be memory corruption.
    fn entry(&self, index: u32) -> Option<(u16, [u8; 8], usize)> {
        if index >= ENTRIES {
            return None;
        }
        let start = offset_of!(kvm_coalesced_mmio_ring, coalesced_mmio);
        // SAFETY: entry `index` lies in the page, by the check above. KVM does not write entries
        // between `first` and `last`, and finished this one before it moved `last`.
        let entry = unsafe {
            let entries = self.base.byte_add(start).cast::<kvm_coalesced_mmio>();
            entries.add(index as usize).read()
        };
        // SAFETY: both members of the union are the same plain number.
        let is_port = unsafe { entry.__bindgen_anon_1.pio } == 1;
        let (port, len) = (u16::try_from(entry.phys_addr).ok()?, usize::try_from(entry.len).ok()?);
        (is_port && (1..=entry.data.len()).contains(&len)).then_some((port, entry.data, len))
    }

    fn first(&self) -> &AtomicU32 {
        // SAFETY: a field of the mapped page, which every side accesses as a whole word.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.base.as_ptr()).first) }
    }

    fn last(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.base.as_ptr()).last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring that KVM might have filled.
    struct Fake {
        ring: Ring,
        page: Box<[u64; PAGE / 8]>,
    }

    impl Fake {
        fn new(first: u32, last: u32) -> Self {
            let mut page = Box::new([0; PAGE / 8]);
            let ring = Ring { base: NonNull::from(&mut *page).cast() };
            ring.first().store(first, Ordering::Relaxed);
            ring.last().store(last, Ordering::Relaxed);
            Self { ring, page }
        }

        /// As KVM does it.
        fn push(&mut self, port: u64, data: &[u8], len: u32, pio: u32) {
            let last = self.ring.last().load(Ordering::Relaxed);
            let mut bytes = [0; 8];
            bytes[..data.len()].copy_from_slice(data);
            let at = 1 + 3 * last as usize;
            let words = [port, u64::from(pio) << 32 | u64::from(len), u64::from_le_bytes(bytes)];
            self.page[at..at + 3].copy_from_slice(&words);
            self.ring.base = NonNull::from(&mut *self.page).cast();
            self.ring.last().store((last + 1) % ENTRIES, Ordering::Relaxed);
        }

        fn take(&self) -> Vec<(u16, Vec<u8>)> {
            let mut taken = Vec::new();
            self.ring.take(|port, data| taken.push((port, data.to_vec())));
            taken
        }
    }

    #[test]
    fn writes_come_out_in_order_around_the_end_of_the_ring() {
        let mut fake = Fake::new(ENTRIES - 1, ENTRIES - 1);
        assert!(fake.ring.is_empty());
        fake.push(0xcf8, &[1, 2, 3, 4], 4, 1);
        fake.push(0x70, &[5], 1, 1);
        assert!(!fake.ring.is_empty());
        assert_eq!(fake.take(), [(0xcf8, vec![1, 2, 3, 4]), (0x70, vec![5])]);
        assert!(fake.ring.is_empty());
        assert_eq!(fake.ring.first().load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_write_stays_in_the_ring_until_it_is_applied() {
        let mut fake = Fake::new(0, 0);
        fake.push(0x70, &[1], 1, 1);
        let ring = &fake.ring;
        ring.take(|_, _| assert!(!ring.is_empty()));
        assert!(ring.is_empty());
    }

    #[test]
    fn what_arrives_meanwhile_is_left_for_the_next_time() {
        let mut fake = Fake::new(0, 0);
        fake.push(0x70, &[1], 1, 1);
        let (ring, mut taken) = (&fake.ring, 0);
        ring.take(|_, _| {
            taken += 1;
            ring.last().fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(taken, 1);
        assert!(!ring.is_empty());
    }

    #[test]
    fn entries_that_make_no_sense_are_skipped() {
        let mut fake = Fake::new(0, 0);
        fake.push(0x70, &[1], 1, 0); // memory
        fake.push(0x1_0070, &[1], 1, 1);
        fake.push(0x70, &[1], 9, 1);
        fake.push(0x70, &[1], 0, 1);
        fake.push(0x70, &[1], u32::MAX, 1);
        fake.push(0x70, &[7; 8], 8, 1);
        assert_eq!(fake.take(), [(0x70, vec![7; 8])]);
    }

    #[test]
    fn indices_outside_the_ring_end() {
        for (first, last) in [(u32::MAX - 1, 3), (0, ENTRIES), (0, u32::MAX), (ENTRIES, 1)] {
            assert!(Fake::new(first, last).take().is_empty());
        }
    }
}
