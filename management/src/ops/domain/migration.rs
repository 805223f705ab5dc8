//! What clients set before they move a guest to another host, which Manor does not do yet: some set it for every
//! guest, and read it back.

use std::sync::atomic::Ordering;

use crate::auth::{Access, Subject};
use crate::domain::DomainRef;
use crate::domain::handle::FASTEST;
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// How fast a guest may be moved, MiB/s (virDomainMigrateGetMaxSpeed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetMigrationSpeed {
    pub domain: DomainRef,
}

impl Operation for GetMigrationSpeed {
    type Output = u64;
    const NAME: &'static str = "domain.migration-speed";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<u64, Error> {
        Ok(cx.find(&self.domain)?.max_speed.load(Ordering::Relaxed))
    }
}

/// Set it (virDomainMigrateSetMaxSpeed), as libvirt does for as long as the daemon lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMigrationSpeed {
    pub domain: DomainRef,
    /// MiB/s
    pub speed: u64,
}

impl Operation for SetMigrationSpeed {
    type Output = ();
    const NAME: &'static str = "domain.set-migration-speed";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        if self.speed > FASTEST {
            let text = format!("a guest moves with up to {FASTEST} MiB/s, not {}", self.speed);
            return Err(Error::new(Code::InvalidArgument, text));
        }
        cx.find(&self.domain)?.max_speed.store(self.speed, Ordering::Relaxed);
        Ok(())
    }
}
