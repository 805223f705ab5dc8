//! What becomes of a guest that powers off, reboots or crashes: changed while it runs, in its definition, or in both.

use vmm_protocol::config::Action;
use vmm_protocol::control::Request;
use xml::DomainDef;
use xml::domain::{CrashAction, LifecycleAction};

use super::actor::Actor;
use super::link::Affects;
use crate::error::{Code, Error};
use crate::events::Lifecycle;

/// What the guest did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleCause {
    Poweroff,
    Reboot,
    Crash,
}

impl LifecycleCause {
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "poweroff" => Some(Self::Poweroff),
            "reboot" => Some(Self::Reboot),
            "crash" => Some(Self::Crash),
            _ => None,
        }
    }
}

/// What Manor does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleEnd {
    Destroy,
    Restart,
    Preserve,
}

impl LifecycleEnd {
    /// # Errors
    /// Of words that libvirt knows, and of others.
    pub fn of(word: &str) -> Result<Self, Error> {
        match word {
            "destroy" => Ok(Self::Destroy),
            "restart" => Ok(Self::Restart),
            "preserve" => Ok(Self::Preserve),
            "rename-restart" | "coredump-destroy" | "coredump-restart" => {
                let text = format!(
                    "a guest that ends is not given the action {word:?}; there are destroy, restart \
                     and preserve (keep it, for a dump)"
                );
                Err(Error::new(Code::Unsupported, text))
            }
            _ => {
                let text =
                    format!("there is no action {word:?}; there are destroy, restart, preserve");
                Err(Error::new(Code::InvalidArgument, text))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifecycleChange {
    pub cause: LifecycleCause,
    pub end: LifecycleEnd,
}

impl LifecycleChange {
    fn apply(self, def: &mut DomainDef) {
        let action = match self.end {
            LifecycleEnd::Destroy => LifecycleAction::Destroy,
            LifecycleEnd::Restart => LifecycleAction::Restart,
            LifecycleEnd::Preserve => LifecycleAction::Preserve,
        };
        match self.cause {
            LifecycleCause::Poweroff => def.on_poweroff = Some(action),
            LifecycleCause::Reboot => def.on_reboot = Some(action),
            LifecycleCause::Crash => {
                def.on_crash = Some(match self.end {
                    LifecycleEnd::Destroy => CrashAction::Destroy,
                    LifecycleEnd::Restart => CrashAction::Restart,
                    LifecycleEnd::Preserve => CrashAction::Preserve,
                });
            }
        }
    }
}

impl Actor {
    pub(super) async fn set_lifecycle_action(
        &mut self,
        change: LifecycleChange,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        let edit = |def: &mut DomainDef| {
            change.apply(def);
            Ok(())
        };
        let stored = if config { self.stored_changed(edit)? } else { None };
        if live {
            let run = self.running()?;
            let mut def = run.live.def.clone();
            change.apply(&mut def);
            let mut lifecycle = crate::translate::lifecycle(&def);
            if run.record.rebooting {
                lifecycle.on_poweroff = Action::Restart;
            }
            self.tell(Request::SetLifecycle { lifecycle }).await?;
            self.change_live(|def| change.apply(def)).await;
        }
        if let Some((stored, def)) = stored {
            self.put(stored, def).await?;
            self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        }
        Ok(())
    }
}
