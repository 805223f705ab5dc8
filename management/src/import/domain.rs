//! Domains: what Manor makes of a definition that was written for QEMU.

use std::path::Path;

use vmm_protocol::config::Machine;
use xml::DomainDef;

use super::carry_out::{Deed, VariablesCopy};
use super::judge::Judge;
use super::{ImportDocument, Judgement};
use crate::domain::handle::Definition;
use crate::domain::{DomainRef, Turn};
use crate::store::StoredDomain;
use crate::translate::{self, Checked, NewIds};

/// Where libvirt keeps the variables of guests that name no place for them.
const VARIABLES: &str = "/var/lib/libvirt/qemu/nvram";
/// Of one domain; the definition itself has them all.
const MOST_CHANGES: usize = 20;

impl Judge<'_> {
    pub(super) fn domain(&self, document: &ImportDocument) -> (Judgement, Option<Deed>) {
        let named = translate::named(&document.xml);
        let (uuid, name) = named.unwrap_or_else(|| (None, document.name.clone()));
        let mut judgement = Judgement { name, ..Judgement::of(document, uuid) };
        let Checked { mut def, warnings } =
            match translate::define(&document.xml, &mut NewIds, self.host) {
                Ok(checked) => checked,
                Err(error) => return (judgement.refuse_as(error), None),
            };
        let variables = self.move_variables(&mut def);
        let (Some(uuid), name) = (judgement.uuid, judgement.name.clone()) else {
            return (judgement.refuse("it has no <uuid>"), None);
        };
        if let Some(judgement) = self.known(&judgement, &def) {
            return (judgement, None);
        }
        if let Some(reason) = stays(document, &name) {
            return (judgement.refuse(reason), None);
        }
        if let Some(reason) = variables.as_ref().and_then(|copy| self.ill_fitting(copy, &def)) {
            return (judgement.refuse(reason), None);
        }
        judgement.problems = warnings;
        describe(&document.xml, &def, &mut judgement);
        if let Some(VariablesCopy { from, to }) = &variables {
            let (from, to) = (from.display(), to.display());
            judgement.change(format!("its firmware variables are copied from {from} to {to}"));
        }
        left_behind(document, &mut judgement);
        self.needs(&def, uuid, &mut judgement);
        let stored = StoredDomain {
            uuid,
            name,
            generation: 1,
            autostart: document.autostart,
            turn: Turn::default(),
            platform: translate::PLATFORM,
            xml: def.to_xml(),
        };
        let definition = Box::new(Definition { stored, def });
        (judgement.accept(), Some(Deed::Domain { definition, variables }))
    }

    /// If there is one of this UUID or name.
    fn known(&self, judgement: &Judgement, def: &DomainDef) -> Option<Judgement> {
        let name = &judgement.name;
        let uuid = judgement.uuid?;
        let Some(known) = self.node.get(uuid) else {
            let taken = self.node.find(&DomainRef::Name(name.clone())).ok()?.view();
            let reason = format!(
                "there is a domain {name:?} already, with UUID {}: give that another name (manor \
                 domrename {name} NEW-NAME)",
                taken.uuid
            );
            return Some(judgement.clone().refuse(reason));
        };
        let view = known.view();
        if view.name != *name {
            let reason = format!(
                "its UUID is that of domain {:?} here, which was renamed, or copied with its UUID",
                view.name
            );
            return Some(judgement.clone().refuse(reason));
        }
        let stored = view.definition.as_ref()?;
        // Whatever is written down anew at each definition is the same in both.
        if stored.def.to_xml() == def.to_xml() {
            let judgement = judgement.clone().present();
            return Some(Judgement { autostart: stored.stored.autostart, ..judgement });
        }
        let reason = format!(
            "there is a domain {name:?} with this UUID, and it is defined otherwise: compare `manor plan \
             {}`, and undefine it to take this one",
            judgement.file
        );
        Some(judgement.clone().refuse(reason))
    }

    /// A guest's variables move to where Manor keeps them: what libvirt has goes when its packages are
    /// purged.
    fn move_variables(&self, def: &mut DomainDef) -> Option<VariablesCopy> {
        let uuid = def.uuid?;
        let to = self.host.variables.join(format!("{uuid}_VARS.fd"));
        let usual = Path::new(VARIABLES).join(format!("{}_VARS.fd", def.name));
        let named = def.os.nvram.as_mut()?.path.replace(to.clone())?;
        // Manor's own choice: the document names no place.
        let named = if named == to { usual } else { named };
        let from = self.on_host(&named);
        let there = self.node.broker.is_there(&from).unwrap_or_default();
        there.then_some(VariablesCopy { from, to })
    }

    /// Variables are as large as the firmware's flash, or it does not find them; and a link of the other host's
    /// is not to lead to a file of this one.
    fn ill_fitting(&self, copy: &VariablesCopy, def: &DomainDef) -> Option<String> {
        let from = copy.from.display();
        let found = self.node.broker.stat(&copy.from).ok().flatten();
        let found = found.filter(|found| found.is_file && self.is_on_host(&copy.from));
        let Some(found) = found else {
            return Some(format!("its firmware variables {from} are no regular file of its host"));
        };
        let (_, template) = translate::variables(def)?;
        let wanted = self.node.broker.stat(template?).ok().flatten()?.size;
        (found.size != wanted).then(|| {
            format!(
                "its firmware variables {from} have {} bytes, and those of the firmware that is here have \
                 {wanted}: name the firmware that they are of in <loader>, with <nvram template=…>",
                found.size
            )
        })
    }
}

/// Why a domain cannot be in two places.
fn stays(document: &ImportDocument, name: &str) -> Option<String> {
    if document.runs {
        return Some(format!(
            "it runs under libvirt, and a guest cannot be in two places: shut it down (virsh shutdown \
             {name}), and ask again"
        ));
    }
    document.managed_save.then(|| {
        format!(
            "libvirt keeps a saved state of it, which only QEMU can go on from: start it (virsh start \
             {name}) and shut it down, or discard the state (virsh managedsave-remove {name})"
        )
    })
}

/// What the guest finds otherwise.
fn describe(text: &str, def: &DomainDef, judgement: &mut Judgement) {
    let board = match translate::board_of(def) {
        Machine::Q35 => "q35",
        Machine::Pc => "pc",
        Machine::Microvm => "microvm",
    };
    let of_qemu = match def.os.kind.machine.as_deref() {
        Some(machine) => format!("QEMU's {machine}"),
        None => "QEMU".to_owned(),
    };
    judgement.change(format!(
        "its machine is Manor's {board}, version {} of the platform, in place of {of_qemu}",
        translate::PLATFORM
    ));
    let Ok(written) = DomainDef::parse(text) else { return };
    let differences = written.value.differences(def);
    let told = differences.iter().filter(|difference| {
        // Said by itself.
        !difference.path.starts_with("/domain/os/nvram")
    });
    let mut told: Vec<_> = told
        .map(|it| {
            let path = it.path.strip_prefix("/domain/").unwrap_or(&it.path);
            match (&it.old, &it.new) {
                (Some(old), Some(new)) => format!("{path}: {new} in place of {old}"),
                (None, Some(new)) => format!("{path}: {new} is added"),
                (Some(old), None) => format!("{path}: {old} goes"),
                (None, None) => path.to_owned(),
            }
        })
        .collect();
    if let more @ 1.. = told.len().saturating_sub(MOST_CHANGES) {
        told.truncate(MOST_CHANGES);
        told.push(format!("and {more} more"));
    }
    judgement.changes.extend(told);
}

fn left_behind(document: &ImportDocument, judgement: &mut Judgement) {
    let named = |names: &[String]| match names {
        [] => None,
        names if names.len() <= 3 => Some(names.join(", ")),
        names => Some(format!("{} and {} more", names[..3].join(", "), names.len() - 3)),
    };
    if let Some(names) = named(&document.snapshots) {
        judgement.note(format!(
            "its snapshots stay with libvirt ({names}): those inside qcow2 images are in the images still \
             (manor image snapshot list FILE)"
        ));
    }
    if let Some(names) = named(&document.checkpoints) {
        judgement.note(format!(
            "its checkpoints stay with libvirt ({names}): the next backup is a full one"
        ));
    }
}

/// A file of a guest.
pub(super) fn missing(broker: &dyn broker::Broker, path: &Path) -> bool {
    matches!(broker.stat(path), Ok(None))
}
