//! [`Generation`]: the Virtual Machine Generation ID (Microsoft, "Virtual Machine Generation ID"): a
//! number that is another one wherever the guest may live a second time.
//!
//! It lies in a page of its own at a fixed address that the guest can only read, so that neither
//! firmware nor a kernel has to say where it put it. A state that was saved under another number
//! makes the guest hear of it when it goes on.

use std::io;
use std::sync::Arc;

use memory::{Backing, GuestRam};

use crate::component::{Component, DeviceState, StateError};
use crate::device_memory::{GuestAccess, MemoryMapper, MemoryWindow};

const PAGE: u64 = 4096;

/// Tells the guest, by an ACPI event, that its generation is another.
pub trait GenerationEvent: Send + Sync {
    fn raise(&self);
}

pub struct Generation {
    id: [u8; 16],
    event: Arc<dyn GenerationEvent>,
    _window: Arc<dyn MemoryWindow>,
}

impl Generation {
    /// With `id` in the page at `address`.
    pub fn new(
        id: [u8; 16],
        address: u64,
        mapper: &dyn MemoryMapper,
        event: Arc<dyn GenerationEvent>,
    ) -> io::Result<Self> {
        let memory =
            GuestRam::new(&[(address, PAGE)], &Backing::Anonymous).map_err(io::Error::other)?;
        memory.write_slice(address, &id).map_err(io::Error::other)?;
        let window = mapper.window(&memory, GuestAccess::ReadOnly)?;
        window.place(Some(address))?;
        Ok(Self { id, event, _window: window })
    }
}

impl Component for Generation {
    fn id(&self) -> &str {
        "generation"
    }

    fn kind(&self) -> &'static str {
        "generation"
    }

    /// A guest that restarts is the same one.
    fn reset(&self) {}

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &self.id)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let before: [u8; 16] = state.decode(self.kind(), 1)?;
        if before != self.id {
            self.event.raise();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::sync::Lock;

    const ADDRESS: u64 = 0xfeff_b000;

    #[derive(Default)]
    struct Event(AtomicU32);

    impl GenerationEvent for Event {
        fn raise(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shows what a guest would read.
    #[derive(Default)]
    struct Space(Mutex<Option<(GuestRam, GuestAccess)>>);
    struct Slot;

    impl MemoryWindow for Slot {
        fn place(&self, base: Option<u64>) -> io::Result<()> {
            assert!(matches!(base, Some(ADDRESS)));
            Ok(())
        }
    }

    impl MemoryMapper for Space {
        fn window(
            &self,
            memory: &GuestRam,
            access: GuestAccess,
        ) -> io::Result<Arc<dyn MemoryWindow>> {
            *self.0.hold() = Some((memory.clone(), access));
            Ok(Arc::new(Slot))
        }
    }

    fn generation(id: u8) -> (Generation, Arc<Event>, GuestRam) {
        let (space, event) = (Space::default(), Arc::<Event>::default());
        let generation = Generation::new([id; 16], ADDRESS, &space, event.clone()).unwrap();
        let (memory, access) = space.0.hold().take().unwrap();
        assert_eq!(access, GuestAccess::ReadOnly);
        (generation, event, memory)
    }

    #[test]
    fn a_guest_that_goes_on_under_another_number_is_told_and_reads_the_new_one() {
        let saved = generation(1).0.save().unwrap();
        let (same, event, _) = generation(1);
        same.restore(&saved).unwrap();
        assert_eq!(event.0.load(Ordering::Relaxed), 0);
        let (other, event, memory) = generation(2);
        other.reset();
        other.restore(&saved).unwrap();
        assert_eq!(event.0.load(Ordering::Relaxed), 1);
        assert_eq!(memory.read_obj::<[u8; 16]>(ADDRESS).unwrap(), [2; 16]);
    }
}
