//! The watchdog: a PCI function whose bite is the machine's business.

use std::sync::Arc;

use devices::alarm::Alarm;
use devices::clock::HostClock;
use devices::i6300esb::I6300esb;
use vmm_protocol::config::{PciDevice, PciKind};

use super::pci::Buses;
use super::{BuildError, Site};
use crate::notices::tell_watchdog;

pub(super) fn build(site: &mut Site<'_>, buses: &Buses) -> Result<(), BuildError> {
    for device in &site.config.pci {
        if let PciKind::Watchdog(watchdog) = &device.kind {
            let expired = tell_watchdog(&device.id, watchdog.action, &site.parts.notices);
            place(site, buses, device, expired)?;
        }
    }
    Ok(())
}

fn place(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    expired: Box<dyn Fn() + Send + Sync>,
) -> Result<(), BuildError> {
    let failed = || BuildError::device(&device.id);
    let watchdog = I6300esb::new(&device.id, Arc::new(HostClock::new()), expired);
    let watchdog = Arc::new(watchdog.map_err(failed())?);
    let alarm = Alarm::new(watchdog.clone()).map_err(failed())?;
    // It works for as long as its thread does.
    drop(site.parts.board_thread.add(alarm).map_err(failed())?);
    buses.plug(site, device.address, watchdog)
}
