//! The small devices of a definition in the VMM's configuration.

use vmm_protocol::config::{Balloon, PciDevice, PciKind};
use xml::device::memballoon::BalloonModel;
use xml::domain::Kib;
use xml::{DomainDef, OnOff};

use super::io_threads::IoThreads;
use super::machine::memory;
use super::machine_devices::device;
use crate::error::Error;

/// Whether the guest has a balloon.
pub(crate) fn has_balloon(def: &DomainDef) -> bool {
    def.devices.mem_balloon.as_ref().is_some_and(|b| b.model != BalloonModel::None)
}

pub(super) fn pci(
    def: &DomainDef,
    io_threads: &mut IoThreads,
    found: &mut Vec<PciDevice>,
) -> Result<(), Error> {
    if let Some(balloon) = def.devices.mem_balloon.as_ref().filter(|_| has_balloon(def)) {
        let on = |value| value == Some(OnOff::On);
        let less = def.current_memory.filter(|current| *current < def.memory.size);
        let kind = PciKind::Balloon(Balloon {
            current: less.map_or(memory(def).size, Kib::bytes),
            deflate_on_oom: on(balloon.autodeflate),
            free_page_reporting: on(balloon.free_page_reporting),
            statistics_period: balloon.stats_period.unwrap_or(0),
            io_thread: io_threads.shared(),
        });
        found.push(device(balloon.alias.as_ref(), balloon.address.as_ref(), kind)?);
    }
    Ok(())
}
