//! Guests that write themselves to their own disk and power off, through their agent.

use crate::agent::{Agent, Ask};
use crate::auth::{Access, Subject};
use crate::domain::DomainRef;
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// Where a guest that sleeps keeps its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SleepTarget {
    Memory,
    Disk,
    Hybrid,
}

/// Have a guest sleep (virDomainPMSuspendForDuration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspendGuest {
    pub domain: DomainRef,
    pub target: SleepTarget,
}

impl Operation for SuspendGuest {
    type Output = ();
    const NAME: &'static str = "domain.suspend-guest";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let handle = cx.find(&self.domain)?;
        if self.target != SleepTarget::Disk {
            let text = "guests have no ACPI sleep state S3: one can sleep to its disk, or be paused \
                        (suspend) or saved (managedsave) by Manor";
            return Err(Error::new(Code::Unsupported, text));
        }
        let mut agent = Agent::meet(&handle).await?;
        agent.tell(Ask::new("guest-suspend-disk")).await
    }
}
