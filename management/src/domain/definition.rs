//! Commands that change a domain's stored definition.

use std::path::Path;
use std::sync::Arc;

use xml::DomainDef;

use super::TurnChange;
use super::actor::{Actor, in_place};
use super::handle::{Definition, Undefine, Variables};
use crate::cloud_init::Seed;
use crate::error::{Code, Error};
use crate::events::{EventKind, Lifecycle};
use crate::store::StoredDomain;
use crate::translate;

impl Actor {
    pub(super) async fn put(&mut self, stored: StoredDomain, def: DomainDef) -> Result<(), Error> {
        let (store, object) = (self.node.store.clone(), stored.clone());
        in_place(move || store.put(&object).map_err(Error::from)).await?;
        self.definition = Some(Arc::new(Definition { stored, def }));
        Ok(())
    }

    pub(super) async fn define(
        &mut self,
        new: Definition,
        seed: Option<Seed>,
    ) -> Result<(), Error> {
        let mut stored = new.stored;
        let old = self.definition.clone();
        if let Some(old) = &old {
            stored.generation = old.stored.generation.saturating_add(1);
            (stored.autostart, stored.turn) = (old.stored.autostart, old.stored.turn);
            // What the guest sees stays what it was.
            stored.platform = old.stored.platform;
        }
        self.put_seed(seed).await?;
        let stored = self.put(stored, new.def).await;
        self.tidy_seed().await;
        stored?;
        let lifecycle =
            if old.is_some() { Lifecycle::DefinedUpdated } else { Lifecycle::DefinedAdded };
        self.announce_lifecycle(lifecycle, None, None);
        Ok(())
    }

    pub(super) async fn redefine(
        &mut self,
        new: Definition,
        expected: Option<u64>,
    ) -> Result<(), Error> {
        let generation = self.stored("it has no definition to replace")?.stored.generation;
        if expected.is_some_and(|expected| expected != generation) {
            let text = format!("the definition of domain {:?} was changed meanwhile", self.name);
            return Err(Error::new(Code::Changed, text));
        }
        self.define(new, None).await
    }

    /// The stored definition, for a command that only a persistent domain takes.
    pub(super) fn stored(&self, what: &str) -> Result<Arc<Definition>, Error> {
        self.definition.clone().ok_or_else(|| {
            let text = format!("domain {:?} is transient: {what}", self.name);
            Error::new(Code::InvalidState, text)
        })
    }

    /// The stored definition as `change` makes it; none if it is so already.
    pub(super) fn stored_changed(
        &self,
        change: impl FnOnce(&mut DomainDef) -> Result<(), Error>,
    ) -> Result<Option<(StoredDomain, DomainDef)>, Error> {
        let old = self.stored("it has no definition to change")?;
        let mut def = old.def.clone();
        change(&mut def)?;
        if def == old.def {
            return Ok(None);
        }
        let mut stored = old.stored.clone();
        stored.generation = stored.generation.saturating_add(1);
        stored.xml = def.to_xml();
        Ok(Some((stored, def)))
    }

    pub(super) async fn undefine(&mut self, what: Undefine) -> Result<(), Error> {
        let definition = self.stored("there is no definition to forget")?;
        let (node, uuid, name) = (self.node.clone(), self.uuid, self.name.clone());
        let (runs, variables) = (self.run.is_some(), what.variables);
        if self.managed_save && !what.managed_save {
            let text = format!(
                "domain {name:?} has a saved state for its next start: say that it is to go too \
                 (--managed-save, managed_save=true), or take it up with a start"
            );
            return Err(Error::new(Code::InvalidState, text));
        }
        let snapshots = self.snapshots().whole().count();
        if snapshots > 0 && !what.snapshots {
            let text = format!(
                "domain {name:?} has {snapshots} snapshot(s): delete them (snapshot-delete), or say that \
                 they are to be forgotten too, with what they hold left where it is \
                 (--snapshots-metadata, snapshots=forget)"
            );
            return Err(Error::new(Code::InvalidState, text));
        }
        let saved = node.managed_save(uuid);
        in_place(move || {
            let own = translate::variables(&definition.def).map(|(path, _)| path);
            let own = match own {
                Some(path) if node.broker.is_there(path)? => Some(path),
                _ => None,
            };
            match (own, variables) {
                (Some(path), None) => return Err(variables_left(&name, path)),
                (Some(path), Some(Variables::Delete)) if runs => {
                    return Err(variables_in_use(&name, path));
                }
                // First the variables: after a crash in between, this can be asked for again.
                (Some(path), Some(Variables::Delete)) => node.broker.remove_variables(path)?,
                (_, _) => {}
            }
            node.remove_own_saved(&saved)?;
            // A definition without its snapshots is whole; the other way round they would be lost.
            crate::domain::snapshot::forget(&node, uuid)?;
            node.store.remove(uuid).map_err(Error::from)
        })
        .await?;
        self.managed_save = false;
        self.definition = None;
        self.tidy_seed().await;
        self.announce_lifecycle(Lifecycle::UndefinedRemoved, None, None);
        Ok(())
    }

    /// The new name is reserved by whoever sent the command.
    pub(super) async fn rename(&mut self, name: String) -> Result<(), Error> {
        let old = self.stored("it cannot be renamed")?;
        if self.run.is_some() {
            let text = format!("domain {:?} runs; it can be renamed when it is off", self.name);
            return Err(Error::new(Code::InvalidState, text));
        }
        let mut def = old.def.clone();
        translate::rename(&mut def, &name)?;
        let mut stored = old.stored.clone();
        stored.generation = stored.generation.saturating_add(1);
        stored.name = name.clone();
        stored.xml = def.to_xml();
        self.put(stored, def).await?;
        self.announce_lifecycle(Lifecycle::UndefinedRenamed, None, None);
        self.name = name;
        self.announce_lifecycle(Lifecycle::DefinedRenamed, None, None);
        Ok(())
    }

    pub(super) async fn set_autostart(
        &mut self,
        autostart: bool,
        change: TurnChange,
    ) -> Result<(), Error> {
        let old = self.stored("it cannot be started with the host")?;
        let turn = old.stored.turn.changed(change);
        let same = old.stored.autostart == autostart;
        if same && old.stored.turn == turn {
            return Ok(());
        }
        let mut stored = old.stored.clone();
        stored.generation = stored.generation.saturating_add(1);
        (stored.autostart, stored.turn) = (autostart, turn);
        self.put(stored, old.def.clone()).await?;
        if !same {
            self.announce(EventKind::AutostartChanged { autostart }, None);
        }
        Ok(())
    }
}

fn variables_left(name: &str, path: &Path) -> Error {
    let text = format!(
        "domain {name:?} has firmware variables in {}: say whether to delete them (--nvram, \
         nvram=delete) or to keep them (--keep-nvram, nvram=keep)",
        path.display()
    );
    Error::new(Code::InvalidState, text)
}

fn variables_in_use(name: &str, path: &Path) -> Error {
    let text = format!(
        "domain {name:?} runs with the firmware variables in {}: destroy it first, or keep them \
         (--keep-nvram, nvram=keep)",
        path.display()
    );
    Error::new(Code::InvalidState, text)
}
