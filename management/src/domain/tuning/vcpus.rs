//! The number of vCPUs of a running guest.
//!
//! ```text
//! more:  VMM told → they are there
//! fewer: VMM told → the guest is asked → it ejects one after the other → the VMM says so
//! ```

use tokio::time::Instant;
use vmm_protocol::control::{EventKind as VmmEvent, Reply, Request};
use xml::DomainDef;

use crate::domain::actor::{Actor, Link, vmm_error};
use crate::domain::plug::LETTING_GO;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::journal::Origin;
use crate::translate::{machine, tuning};

impl Actor {
    /// # Errors
    /// When those of the running guest are there for good.
    pub(super) fn has_vcpu_hotplug(&self) -> Result<(), Error> {
        if machine::has_vcpu_hotplug(&self.running()?.live.def) {
            return Ok(());
        }
        let text = format!(
            "vCPUs of domain {:?} cannot change while the guest runs: it was started with all of them, \
             for good. A definition that says how many there are at first (<vcpu current='1'>4</vcpu>, \
             setvcpus --config) lets them come and go from its next start on, though not on a microvm",
            self.name
        );
        Err(Error::new(Code::InvalidState, text))
    }

    pub(super) async fn enforce_vcpus(
        &mut self,
        old: Option<&DomainDef>,
        new: &DomainDef,
    ) -> Result<(), Error> {
        let count = tuning::vcpus(new);
        if !machine::has_vcpu_hotplug(new) || old.map(tuning::vcpus) == Some(count) {
            return Ok(());
        }
        self.tell(Request::SetVcpus { count }).await?;
        let deadline = Instant::now() + LETTING_GO;
        while self.present_vcpus().await? > count {
            if !self.wait_for_vcpus(deadline).await {
                let text = format!(
                    "the guest does not do without the vCPUs that are more than {count}: it has no \
                     driver for that, or is busy"
                );
                return Err(Error::new(Code::Timeout, text));
            }
        }
        Ok(())
    }

    /// As many as the VMM has.
    async fn present_vcpus(&mut self) -> Result<u16, Error> {
        let run = self.running()?;
        let Link::Up { vmm, .. } = &run.link else { return Err(self.unreachable()) };
        let vmm = vmm.clone();
        let within = std::time::Duration::from_secs(self.node.config.domains.command_timeout);
        let answer = vmm.ask(Request::Statistics, within).await;
        let answer = answer.map_err(|error| vmm_error(&self.name, error))?;
        let Reply::Statistics(statistics) = answer else {
            return Err(self.unreachable());
        };
        let present = statistics.vcpus.iter().filter(|vcpu| !vcpu.absent).count();
        Ok(u16::try_from(present).unwrap_or(u16::MAX))
    }

    /// Serve events until one says that their number is another; false when there came none.
    async fn wait_for_vcpus(&mut self, deadline: Instant) -> bool {
        loop {
            let Some(run) = &mut self.run else { return false };
            let Link::Up { events, .. } = &mut run.link else { return false };
            let event = tokio::select! {
                biased;
                destroy = self.destroys.recv() => {
                    self.destroy = destroy;
                    return false;
                }
                event = tokio::time::timeout_at(deadline, events.recv()) => event,
            };
            let Ok(Some(event)) = event else { return false };
            let is_it = matches!(event.kind, VmmEvent::VcpusChanged { .. });
            Box::pin(self.on_event(event)).await;
            if is_it {
                return true;
            }
        }
    }

    /// What the VMM did, or the guest by itself.
    pub(in crate::domain) async fn on_vcpus_changed(&mut self, count: u16, origin: Option<Origin>) {
        let Some(run) = &self.run else { return };
        let def = &run.live.def;
        let max = def.vcpu.as_ref().map_or(1, |vcpu| vcpu.max);
        if !machine::has_vcpu_hotplug(def) || count == 0 || count > max {
            return;
        }
        if tuning::vcpus(def) != count {
            self.change_live(|def| {
                if let Some(vcpu) = &mut def.vcpu {
                    vcpu.current = Some(count);
                }
            })
            .await;
        }
        self.announce(EventKind::VcpusChange { count }, origin);
    }
}
