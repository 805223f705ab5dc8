//! The memory balloon, and what the machine does with it later.

use std::sync::Arc;

use devices::clock::HostClock;
use devices::virtio::balloon::{Balloon, BalloonHandle, BalloonSpec};
use vmm_protocol::config;
use vmm_protocol::control::BalloonStatistics;

use super::virtio::thread;
use super::{BuildError, Site};

pub(super) fn build(
    site: &mut Site<'_>,
    id: &str,
    balloon: &config::Balloon,
) -> Result<Balloon, BuildError> {
    let spec = BalloonSpec {
        memory: site.config.memory.size,
        current: balloon.current,
        deflate_on_oom: balloon.deflate_on_oom,
        free_page_reporting: balloon.free_page_reporting,
        statistics_period: balloon.statistics_period,
        thread: thread(site, balloon.io_thread)?,
        clock: Arc::new(HostClock::new()),
    };
    let device = Balloon::new(spec).map_err(BuildError::device(id))?;
    if site.parts.balloon.replace(device.handle()).is_some() {
        return Err(BuildError::config("balloon", id, "there can be one only"));
    }
    Ok(device)
}

/// What the guest has and says of its memory.
pub(crate) fn statistics(balloon: &BalloonHandle) -> BalloonStatistics {
    let said = balloon.statistics().unwrap_or_default();
    BalloonStatistics {
        memory: balloon.memory(),
        swap_in: said.swap_in,
        swap_out: said.swap_out,
        major_faults: said.major_faults,
        minor_faults: said.minor_faults,
        free: said.free,
        total: said.total,
        available: said.available,
        caches: said.caches,
        huge_allocations: said.huge_allocations,
        huge_failures: said.huge_failures,
        updated: said.updated.as_secs(),
    }
}
