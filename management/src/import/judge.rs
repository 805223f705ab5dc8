//! What would become of each document, with all the others in view.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use xml::FilterDef;

use super::carry_out::Deed;
use super::{Import, ImportDocument, ImportKind, Judgement, Verdict};
use crate::error::{Code, Error};
use crate::filters::FilterName;
use crate::registry::Node;
use crate::secrets::Secrets;
use crate::translate::{self, invalid};

/// What judging looks at.
pub(super) struct Judge<'a> {
    pub(super) node: &'a Node,
    pub(super) secrets: &'a Secrets,
    pub(super) host: &'a translate::Host,
    root: &'a Path,
    /// By name: those that are here, or will be.
    pub(super) networks: BTreeSet<String>,
    pub(super) pools: BTreeSet<String>,
}

impl Judge<'_> {
    /// Where a file of the other host's lies here.
    pub(super) fn on_host(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether a path stays below that host's root, whatever links are on the way.
    pub(super) fn is_on_host(&self, path: &Path) -> bool {
        let broker = &*self.node.broker;
        match (broker.real_path(path), broker.real_path(self.root)) {
            (Ok(path), Ok(root)) => path.starts_with(root),
            _ => false,
        }
    }
}

/// Every document's judgement, in the order in which they are taken over, and what is to be done for it.
/// Blocks: firmware and images are looked for.
pub(crate) fn judge(
    node: &Arc<Node>,
    secrets: &Secrets,
    host: &translate::Host,
    import: &Import,
) -> Vec<(Judgement, Option<Deed>)> {
    let mut judge = Judge {
        node,
        secrets,
        host,
        root: &import.root,
        networks: node.networks.views().into_iter().map(|view| view.name).collect(),
        pools: node.pools.views().into_iter().map(|view| view.name).collect(),
    };
    let mut judged = Vec::with_capacity(import.documents.len());
    for kind in ImportKind::ALL {
        for document in import.documents.iter().filter(|document| document.kind == kind) {
            let (judgement, deed) = match kind {
                ImportKind::Secret => judge.secret(document),
                ImportKind::Filter => judge.filter(document),
                ImportKind::Network => judge.network(document),
                ImportKind::Pool => judge.pool(document),
                ImportKind::Domain => judge.domain(document),
            };
            if judgement.verdict != Verdict::Refused {
                let name = judgement.name.clone();
                match kind {
                    ImportKind::Network => judge.networks.insert(name),
                    ImportKind::Pool => judge.pools.insert(name),
                    _ => false,
                };
            }
            judged.push((judgement, deed));
        }
    }
    judged
}

impl Judge<'_> {
    /// One that is there already with the same words, or one that can be defined.
    fn filter(&self, document: &ImportDocument) -> (Judgement, Option<Deed>) {
        let judgement = Judgement::of(document, None);
        let mut def = match FilterDef::parse(&document.xml) {
            Ok(def) => def.value,
            Err(error) => return (judgement.refuse_as(invalid(error)), None),
        };
        def.fill_defaults();
        let judgement = Judgement { name: def.name.to_string(), uuid: def.uuid, ..judgement };
        if let Ok(known) = self.node.filters.view(&FilterName(judgement.name.clone()))
            && (known.builtin || known.xml == def.to_xml())
        {
            return (judgement.present(), None);
        }
        match self.node.filters.may_define(def.clone()) {
            Ok(()) => (judgement.accept(), Some(Deed::Filter { def: Box::new(def) })),
            Err(error) => (judgement.refuse_as(error), None),
        }
    }
}

impl Judgement {
    pub(super) fn of(document: &ImportDocument, uuid: Option<Uuid>) -> Self {
        Self {
            kind: document.kind,
            name: document.name.clone(),
            uuid,
            file: document.file.clone(),
            verdict: Verdict::AsItIs,
            autostart: document.autostart,
            reason: None,
            changes: Vec::new(),
            notes: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn present(self) -> Self {
        Self { verdict: Verdict::Present, ..self }
    }

    pub(super) fn refuse(self, reason: impl Into<String>) -> Self {
        let reason = Some(reason.into());
        Self { verdict: Verdict::Refused, reason, autostart: false, ..self }
    }

    /// By the rules that its definition has.
    pub(super) fn refuse_as(mut self, error: Error) -> Self {
        let is_lacking = error.code == Code::Unsupported;
        let chain = error.chain();
        // What would be left out of it is for the plan in which it is accepted.
        self.problems = error.problems;
        self.problems.retain(|problem| !problem.warning);
        let reason = match self.problems.len() {
            0 => chain,
            1 if is_lacking => "its definition asks for what Manor does not have".to_owned(),
            many if is_lacking => {
                format!("its definition asks for {many} things that Manor does not have")
            }
            1 => "there is a mistake in its definition".to_owned(),
            many => format!("there are {many} mistakes in its definition"),
        };
        self.refuse(reason)
    }

    pub(super) fn change(&mut self, text: String) {
        self.changes.push(text);
    }

    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// As it is, or not quite.
    pub(super) fn accept(self) -> Self {
        let changed = !self.changes.is_empty() || !self.problems.is_empty();
        let verdict = if changed { Verdict::Changed } else { Verdict::AsItIs };
        Self { verdict, ..self }
    }
}
