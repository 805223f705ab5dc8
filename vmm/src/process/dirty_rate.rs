//! How much memory the guest writes to, measured once: writes are logged for some seconds, and no longer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memory::PAGE;
use vmm_protocol::control::{ControlError, ControlErrorCode as Code, DirtyRate, RunState};

use super::domain::Domain;
use super::refusals::failed;
use super::server::refuse;

/// As libvirt has it.
const LONGEST: u32 = 60;

/// The last measurement.
pub(super) struct Measured {
    pub(super) told: DirtyRate,
    begun: Instant,
    /// It goes on until then.
    until: Option<Instant>,
}

impl Measured {
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

impl Domain {
    pub(super) fn measure_dirty_rate(&mut self, seconds: u32) -> Result<(), ControlError> {
        if !(1..=LONGEST).contains(&seconds) {
            let text = format!("the dirty rate is measured for 1 to {LONGEST} s");
            return Err(refuse(Code::Malformed, text));
        }
        if self.state != RunState::Running {
            return Err(self.not_now("measure the dirty rate of"));
        }
        if self.copied.is_some() {
            let text = "the guest's memory is being copied, which logs its writes";
            return Err(refuse(Code::State, text));
        }
        if self.measured.as_ref().is_some_and(|it| it.until.is_some()) {
            return Err(refuse(Code::Busy, "the dirty rate is being measured already"));
        }
        self.machine.log_writes().map_err(failed)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begun = Instant::now();
        self.measured = Some(Measured {
            told: DirtyRate { started: now.as_secs(), seconds, rate: None },
            begun,
            until: begun.checked_add(Duration::from_secs(seconds.into())),
        });
        Ok(())
    }

    /// It is time, or something else is to log writes.
    pub(super) fn end_measuring(&mut self) {
        let Some(measured) = &mut self.measured else { return };
        if measured.until.take().is_none() {
            return;
        }
        match self.machine.logged_writes() {
            Ok(pages) => measured.told.rate = Some(rate(pages, measured.begun.elapsed())),
            Err(error) => {
                tracing::warn!(%error, "the dirty rate is not known");
                self.measured = None;
            }
        }
    }
}

/// MiB in a second.
fn rate(pages: u64, took: Duration) -> u64 {
    let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    ((pages.saturating_mul(PAGE) >> 10).saturating_mul(1000) / took) >> 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_mib_in_a_second_of_the_time_that_it_took() {
        assert_eq!(rate(256 * 100, Duration::from_secs(2)), 50);
        assert_eq!(rate(256, Duration::from_millis(500)), 2);
        assert_eq!(rate(255, Duration::from_secs(1)), 0);
        assert_eq!(rate(u64::MAX, Duration::ZERO), ((u64::MAX >> 10) * 1000) >> 10);
    }
}
