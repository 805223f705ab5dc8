//! A bus: address ranges and the devices behind them, for port I/O and for memory-mapped I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

/// A device as a bus sees it. `offset` counts from the start of the range it was inserted at.
///
/// Accesses come from any vCPU at any time, 1 to 8 bytes wide, and may be mis-sized or unaligned:
/// a device ignores what its registers do not allow, and never fails.
pub trait BusDevice: Send + Sync {
    /// For diagnostics.
    fn name(&self) -> &str;

    /// Fill `data`. Bytes that mean nothing read as all ones.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Take `data`; what should happen to the machine comes back.
    fn write(&self, offset: u64, data: &[u8]) -> Effect;
}

/// What a register write asks of the machine. The vCPU that wrote carries it out after the access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    None,
    /// The guest asked for a reset (port 0xCF9, i8042, ACPI reset register).
    Reset,
    /// The guest powered itself off (ACPI S5).
    PowerOff,
    /// The guest told us that it crashed (pvpanic).
    Panicked,
}

/// A range taken by another device already.
#[derive(Debug, thiserror::Error)]
#[error("{bus} range {base:#x}+{len:#x} of {name} overlaps {other}")]
pub struct Overlap {
    pub bus: &'static str,
    pub base: u64,
    pub len: u64,
    pub name: String,
    pub other: String,
}

#[derive(Clone)]
struct Route {
    base: u64,
    /// Inclusive, so that a range may end at the top of the address space.
    last: u64,
    device: Arc<dyn BusDevice>,
}

/// Routes are published as a whole and read without a lock: a BAR moves while other vCPUs access.
pub struct Bus {
    name: &'static str,
    routes: ArcSwap<Vec<Route>>,
    unhandled: AtomicU64,
}

impl Bus {
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, routes: ArcSwap::default(), unhandled: AtomicU64::new(0) }
    }

    /// Put `device` at `base .. base + len`.
    ///
    /// # Errors
    /// [`Overlap`] when any byte of the range is taken, or the range is empty or wraps.
    pub fn insert(&self, base: u64, len: u64, device: Arc<dyn BusDevice>) -> Result<(), Overlap> {
        let overlap = |other: &str| Overlap {
            bus: self.name,
            base,
            len,
            name: device.name().to_owned(),
            other: other.to_owned(),
        };
        let last = len
            .checked_sub(1)
            .and_then(|last| base.checked_add(last))
            .ok_or_else(|| overlap("the end of the address space"))?;
        let mut result = Ok(());
        self.routes.rcu(|routes| {
            let at = routes.partition_point(|route| route.base < base);
            let taken = routes[..at]
                .last()
                .filter(|before| before.last >= base)
                .or_else(|| routes.get(at).filter(|after| after.base <= last));
            let mut next = Vec::clone(routes);
            result = match taken {
                Some(route) => Err(overlap(route.device.name())),
                None => {
                    next.insert(at, Route { base, last, device: device.clone() });
                    Ok(())
                }
            };
            next
        });
        result
    }

    /// Take away the range that starts at `base`, if there is one.
    pub fn remove(&self, base: u64) {
        self.routes.rcu(|routes| {
            routes.iter().filter(|route| route.base != base).cloned().collect::<Vec<_>>()
        });
    }

    /// Reads that nobody answers are all ones, as on a bus with pull-ups.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        let routes = self.routes.load();
        match find(&routes, address, data.len()) {
            Some(route) => route.device.read(address - route.base, data),
            None => {
                self.unhandled.fetch_add(1, Ordering::Relaxed);
                data.fill(0xff);
            }
        }
    }

    /// Writes that nobody takes are dropped.
    pub fn write(&self, address: u64, data: &[u8]) -> Effect {
        let routes = self.routes.load();
        match find(&routes, address, data.len()) {
            Some(route) => route.device.write(address - route.base, data),
            None => {
                self.unhandled.fetch_add(1, Ordering::Relaxed);
                Effect::None
            }
        }
    }

    /// Accesses that no device answered, since start.
    #[must_use]
    pub fn unhandled(&self) -> u64 {
        self.unhandled.load(Ordering::Relaxed)
    }
}

/// The route that holds all of `address .. address + len`. An access that straddles the end of a
/// range belongs to nobody.
fn find(routes: &[Route], address: u64, len: usize) -> Option<&Route> {
    let last = address.checked_add((len as u64).checked_sub(1)?)?;
    let at = routes.partition_point(|route| route.base <= address);
    routes[..at].last().filter(|route| last <= route.last)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo(&'static str);

    impl BusDevice for Echo {
        fn name(&self) -> &str {
            self.0
        }
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn write(&self, _offset: u64, _data: &[u8]) -> Effect {
            Effect::Reset
        }
    }

    fn bus() -> Bus {
        let bus = Bus::new("port");
        bus.insert(0x10, 0x10, Arc::new(Echo("low"))).unwrap();
        bus.insert(u64::MAX - 7, 8, Arc::new(Echo("top"))).unwrap();
        bus
    }

    #[test]
    fn an_access_reaches_the_device_at_its_offset() {
        let mut data = [0; 2];
        bus().read(0x14, &mut data);
        assert_eq!(data, [4, 4]);
        assert_eq!(bus().write(u64::MAX, &[1]), Effect::Reset);
    }

    #[test]
    fn unclaimed_and_straddling_reads_are_all_ones_and_counted() {
        let bus = bus();
        for (address, len) in [(0xf, 1), (0x1f, 2), (0x20, 1), (u64::MAX, 2), (0x10, 0)] {
            let mut data = vec![0; len];
            bus.read(address, &mut data);
            assert!(data.iter().all(|byte| *byte == 0xff), "{address:#x}");
        }
        assert_eq!(bus.unhandled(), 5);
    }

    #[test]
    fn a_taken_empty_or_wrapping_range_is_refused() {
        let bus = bus();
        for (base, len) in [(0x8, 0x9), (0x1f, 1), (0x0, 0x100), (0x40, 0), (u64::MAX, 2)] {
            assert!(bus.insert(base, len, Arc::new(Echo("new"))).is_err(), "{base:#x}+{len:#x}");
        }
    }

    #[test]
    fn a_removed_range_can_be_taken_again() {
        let bus = bus();
        bus.remove(0x10);
        bus.insert(0x8, 0x10, Arc::new(Echo("new"))).unwrap();
    }
}
