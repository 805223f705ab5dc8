//! Time, as the guest has it.

use serde::{Deserialize, Serialize};

/// The RTC's idea of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Seconds added to UTC.
    pub offset: i64,
    /// Offer kvmclock.
    pub kvmclock: bool,
    #[serde(default)]
    pub timers: Timers,
}

/// What the guest's timers do, where there is a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timers {
    /// Of each vCPU's TSC; none: the host's.
    pub tsc_khz: Option<u32>,
    pub pit: MissedTicks,
    /// The RTC delivers periodic interrupts later that the guest had no time for.
    pub rtc_catches_up: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissedTicks {
    #[default]
    Deliver,
    Drop,
}
