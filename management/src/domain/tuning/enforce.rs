//! Tuning put into force in a running domain.

use broker::{BrokerError, Traffic};
use vmm_protocol::config::{DiskErrors, DiskLimits};
use vmm_protocol::control::Request;
use xml::DomainDef;
use xml::device::interface::{Interface, InterfaceType};

use super::Tuning;
use crate::domain::Affects;
use crate::domain::actor::{Actor, Run, blocking};
use crate::error::{Code, Error};
use crate::events::Lifecycle;
use crate::plan;
use crate::store::StoredDomain;
use crate::translate::disk_errors::disk_errors;
use crate::translate::disk_limits::disk_limits;
use crate::translate::{self, bandwidth, tuning};

impl Actor {
    pub(in crate::domain) async fn tune(
        &mut self,
        change: Tuning,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        if live && change.sizes.is_for_a_start() {
            let text = "the maxima of vCPUs and memory cannot change while a guest runs; change the \
                        definition for its next start (--config)";
            return Err(Error::new(Code::InvalidState, text));
        }
        if live && change.numa.is_said() {
            let text = "where memory comes from cannot change while a guest runs; change the \
                        definition for its next start (--config)";
            return Err(Error::new(Code::InvalidState, text));
        }
        if live && change.sizes.vcpus.is_some() {
            self.has_vcpu_hotplug()?;
        }
        // All is found good before anything is changed.
        let new = if live { Some(change.applied(&self.running()?.live.def)?) } else { None };
        let stored = if config { self.stored_tuned(&change)? } else { None };
        if let Some(new) = new {
            let change = |def: &mut DomainDef| {
                // Checked already; what it was started from has the same devices.
                if let Ok(changed) = change.applied(def) {
                    *def = changed;
                }
            };
            self.tune_live(&change, &new).await?;
        }
        if let Some((stored, def)) = stored {
            self.put(stored, def).await?;
            self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        }
        Ok(())
    }

    /// Let the running domain have the limits, shares and pins of `like`.
    pub(in crate::domain) async fn tune_like(&mut self, like: &DomainDef) -> Result<(), Error> {
        let mut new = self.running()?.live.def.clone();
        plan::take_tuning(&mut new, like);
        let change = |def: &mut DomainDef| plan::take_tuning(def, like);
        self.tune_live(&change, &new).await
    }

    /// Written down first: should the daemon die now, the next one puts it into force.
    async fn tune_live(
        &mut self,
        change: &(dyn Fn(&mut DomainDef) + Sync),
        new: &DomainDef,
    ) -> Result<(), Error> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let (record, old) = (run.record.clone(), run.live.def.clone());
        run.record.tuning = Some(old.to_xml());
        self.change_live(change).await;
        let result = self.enforce(Some(&old), new).await;
        let Some(run) = &mut self.run else { return result };
        run.record.tuning = None;
        if result.is_ok() {
            self.keep_record().await;
            return result;
        }
        run.record = record;
        self.show_live(old.clone()).await;
        if let Err(error) = self.enforce(Some(new), &old).await {
            let error = error.chain();
            tracing::warn!(domain = self.name, error, "a limit stays changed");
        }
        result
    }

    /// The stored definition as it shall be; none if it is so already.
    fn stored_tuned(&self, change: &Tuning) -> Result<Option<(StoredDomain, DomainDef)>, Error> {
        let old = self.stored("it has no definition to change")?;
        let mut change = change.clone();
        // A tap's name may be of this run alone; the MAC address is in both definitions.
        let live = self.run.as_ref().map(|run| &run.live.def);
        for interface in &mut change.interfaces {
            let found =
                live.and_then(|live| crate::domain::link::mac_of(live, &interface.interface));
            if let Some(mac) = found {
                interface.interface = mac.to_string();
            }
        }
        let def = change.applied(&old.def)?;
        if def == old.def {
            return Ok(None);
        }
        let mut stored = old.stored.clone();
        stored.generation = stored.generation.saturating_add(1);
        stored.xml = def.to_xml();
        Ok(Some((stored, def)))
    }

    /// Put into force what `new` says and `old` does not; without `old` all that `new` says.
    async fn enforce(&mut self, old: Option<&DomainDef>, new: &DomainDef) -> Result<(), Error> {
        self.enforce_limits(old, new).await?;
        self.enforce_threads(old, new).await?;
        self.enforce_disks(old, new).await?;
        self.enforce_vcpus(old, new).await?;
        self.enforce_traffic(old, new).await
    }

    async fn enforce_traffic(&self, old: Option<&DomainDef>, new: &DomainDef) -> Result<(), Error> {
        let none = &Vec::new();
        let mut before = old.map_or(none, |old| &old.devices.interfaces).iter();
        let mut changed = Vec::new();
        // A running domain has the same interfaces, in the same order.
        for interface in &new.devices.interfaces {
            // Its group's is that of its start.
            let own = |interface| bandwidth::traffic(interface, None);
            let traffic = own(interface);
            let was = before.next().map(own).unwrap_or_default();
            let tap = interface.target.as_ref().and_then(|target| target.dev.clone());
            if let (true, Some(tap)) = (traffic != was, tap) {
                changed.push((tap, traffic));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let node = self.node.clone();
        blocking(move || {
            for (tap, traffic) in changed {
                node.broker.shape(&tap, traffic)?;
            }
            Ok(())
        })
        .await
    }

    /// Taps of the user's own outlive the guest that was limited.
    pub(in crate::domain) async fn release_taps(&self, def: &DomainDef) {
        let limited = |interface: &&Interface| interface.bandwidth.is_some();
        let own = |interface: &&Interface| interface.kind == InterfaceType::Ethernet;
        let interfaces = def.devices.interfaces.iter().filter(limited).filter(own);
        let tap = |interface: &Interface| interface.target.as_ref()?.dev.clone();
        let taps: Vec<String> = interfaces.filter_map(tap).collect();
        if taps.is_empty() {
            return;
        }
        let node = self.node.clone();
        let released = blocking(move || {
            for tap in taps {
                match node.broker.shape(&tap, Traffic::default()) {
                    // It was made for the guest, and went with it.
                    Err(BrokerError::NoInterface { .. }) => {}
                    other => other?,
                }
            }
            Ok(())
        });
        if let Err(error) = released.await {
            let error = error.chain();
            tracing::warn!(domain = self.name, error, "a tap stays limited");
        }
    }

    async fn enforce_disks(
        &mut self,
        old: Option<&DomainDef>,
        new: &DomainDef,
    ) -> Result<(), Error> {
        self.enforce_error_policies(old, new).await?;
        let of = |def: &DomainDef| disk_limits(&translate::with_aliases(def));
        let (old, new) = (old.map(of).unwrap_or_default(), of(new));
        let gone = old.iter().filter(|was| new.iter().all(|is| is.id != was.id));
        let lifted: Vec<_> =
            gone.map(|was| DiskLimits { id: was.id.clone(), ..DiskLimits::default() }).collect();
        let changed = new.into_iter().filter(|is| !old.contains(is));
        for limits in changed.chain(lifted) {
            self.tell(Request::LimitDisk(limits)).await?;
        }
        Ok(())
    }

    async fn enforce_error_policies(
        &mut self,
        old: Option<&DomainDef>,
        new: &DomainDef,
    ) -> Result<(), Error> {
        let of = |def: &DomainDef| disk_errors(&translate::with_aliases(def));
        let (old, new) = (old.map(of).unwrap_or_default(), of(new));
        let gone = old.iter().filter(|was| new.iter().all(|is| is.id != was.id));
        let usual: Vec<_> = gone.map(|was| DiskErrors::usual(&was.id)).collect();
        let changed = new.into_iter().filter(|is| !old.contains(is));
        for errors in changed.chain(usual) {
            self.tell(Request::SetErrorPolicy(errors)).await?;
        }
        Ok(())
    }

    async fn enforce_limits(&self, old: Option<&DomainDef>, new: &DomainDef) -> Result<(), Error> {
        let limits = tuning::limits(new);
        if limits == old.map(tuning::limits).unwrap_or_default() {
            return Ok(());
        }
        let Some(cgroup) = self.running()?.record.cgroup.clone() else {
            return Err(self.no_cgroup());
        };
        let node = self.node.clone();
        blocking(move || Ok(node.broker.limit(&cgroup, limits)?)).await
    }

    async fn enforce_threads(&self, old: Option<&DomainDef>, new: &DomainDef) -> Result<(), Error> {
        let rules = match old {
            Some(old) => {
                let before = tuning::threads(old);
                let all = tuning::threads(new).into_iter();
                all.filter(|rule| !before.contains(rule)).collect()
            }
            None => tuning::new_threads(new),
        };
        let run = self.running()?;
        let (Some(process), false) = (run.record.process, rules.is_empty()) else { return Ok(()) };
        let cgroup = run.record.cgroup.clone();
        let node = self.node.clone();
        blocking(move || Ok(node.broker.tune_threads(process, cgroup.as_deref(), rules)?)).await
    }

    /// What of tuning can only be put into force when the VMM is there.
    pub(in crate::domain) async fn tune_new(&mut self) -> Result<(), Error> {
        let Some(Run { live, .. }) = &self.run else { return Ok(()) };
        let live = live.clone();
        self.enforce_threads(None, &live.def).await
    }

    /// The daemon before this one died between writing a change down and making it.
    pub(in crate::domain) async fn finish_tuning(&mut self) {
        let Some(run) = &mut self.run else { return };
        let Some(old) = run.record.tuning.take() else { return };
        let (old, new) = (translate::stored(&old).ok(), run.live.def.clone());
        if let Err(error) = self.enforce(old.as_ref(), &new).await {
            let error = error.chain();
            tracing::warn!(domain = self.name, error, "not all limits are in force");
        }
        self.keep_record().await;
    }

    fn no_cgroup(&self) -> Error {
        let text = format!(
            "domain {:?} was started without a cgroup of version 2, which its limits need; the host \
             has to have one when it starts",
            self.name
        );
        Error::new(Code::ResourceMissing, text)
    }
}
