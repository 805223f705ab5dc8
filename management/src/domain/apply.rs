//! A definition applied to a domain: stored, and made true in the running guest as far as that can be.
//!
//! ```text
//! stored ─▶ step ─▶ step ─▶ … ─▶ done
//!              └─ fails ─▶ those before taken back, last first ─▶ the old definition stored again
//! ```

use xml::device::Device;
use xml::device::disk::{Disk, Location};

use super::actor::Actor;
use super::handle::Definition;
use super::link::Affects;
use super::media::{MediumAction, MediumChange, MediumSource};
use super::memory::MemoryChange;
use super::plug::Named;
use crate::error::{Code, Error};
use crate::events::Lifecycle;
use crate::plan::{self, Step};
use crate::translate;

const LIVE: Affects = Affects { live: true, config: false };

impl Actor {
    /// Store `new`, and do to the running guest what can be done to it.
    pub(super) async fn apply(
        &mut self,
        new: Definition,
        expected: Option<u64>,
    ) -> Result<(), Error> {
        let old = self.stored("there is no definition to change")?;
        let target = new.def.clone();
        self.redefine(new, expected).await?;
        let Some(run) = &self.run else { return Ok(()) };
        let now = translate::as_defined(&run.live.def);
        let mut done: Vec<Step> = Vec::new();
        for step in plan::steps(&now, &target) {
            let Err(error) = self.step(&step).await else {
                done.push(step);
                continue;
            };
            let what = step.words();
            let mut stays = self.take_back(&done).await;
            if let Err(error) = self.store_again(&old).await {
                stays.push(format!("the stored definition ({})", error.message));
            }
            let rest = match stays.as_slice() {
                [] => "all is as it was before".to_owned(),
                stays => format!("this stays changed: {}", stays.join(", ")),
            };
            let text = format!("cannot {what}: {}; {rest}", error.message);
            return Err(Error::new(error.code, text).with_source(error));
        }
        Ok(())
    }

    /// The definition from before, as the one after those that were stored since.
    async fn store_again(&mut self, old: &Definition) -> Result<(), Error> {
        let mut stored = old.stored.clone();
        let since = self.definition.as_ref().map_or(0, |since| since.stored.generation);
        stored.generation = since.saturating_add(1);
        self.put(stored, old.def.clone()).await?;
        self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Attach(device) => {
                let text = device.to_xml();
                let parsed = translate::device::parse(&text)?;
                self.attach_device(parsed, LIVE).await
            }
            Step::Detach(device) => {
                let named = Named::Like(Box::new(device.clone()));
                self.detach_device(&named, LIVE).await?;
                self.is_gone(device)
            }
            Step::Link { mac, up } => self.set_link(mac, *up, LIVE).await,
            Step::Move { mac, to, .. } => self.move_interface(mac, to).await,
            Step::Medium { target, to, .. } => {
                let action = medium(to);
                let change = MediumChange { disk: target.clone(), action, force: false };
                self.change_medium(change, LIVE).await
            }
            Step::Memory { to, .. } => self.change_memory(MemoryChange::Current(*to), LIVE).await,
            Step::Tune { to, .. } => self.tune_like(to).await,
        }
    }

    /// A guest that was asked and has not let go yet may do so at any time: not what was asked for.
    fn is_gone(&self, device: &Device) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        match translate::device::meant(&run.live.def, device) {
            None => Ok(()),
            Some(_) => {
                let text = "the guest does not let go of it";
                Err(Error::new(Code::Timeout, text))
            }
        }
    }

    /// Undo steps, the last first; what could not be undone comes back in words.
    async fn take_back(&mut self, done: &[Step]) -> Vec<String> {
        let mut stays = Vec::new();
        for step in done.iter().rev() {
            if let Err(error) = self.step(&step.inverse()).await {
                tracing::warn!(domain = self.name, error = %error.chain(), "a step stays done");
                stays.push(format!("{} ({})", step.words(), error.message));
            }
        }
        stays
    }
}

fn medium(disk: &Disk) -> MediumAction {
    let source = |path: &std::path::Path, block| MediumSource { path: path.to_owned(), block };
    match disk.location() {
        Location::File(path) => MediumAction::Update(source(path, false)),
        Location::Block(path) => MediumAction::Update(source(path, true)),
        _ => MediumAction::Eject,
    }
}
