//! The filters that there are, as they are looked up: those of people, and those that Manor comes with.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;
use xml::FilterDef;

use super::builtin::BUILTIN;
use crate::error::{Code, Error};

/// Filters that name each other; more are a mistake.
pub(super) const DEEPEST: usize = 16;

/// A filter of somebody's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) uuid: Uuid,
    pub(crate) generation: u64,
    pub(crate) def: FilterDef,
}

/// Copies share what is in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Library {
    own: BTreeMap<String, Arc<Known>>,
}

impl Library {
    pub(super) fn new(known: impl Iterator<Item = Known>) -> Self {
        Self { own: known.map(|known| (known.def.name.to_string(), Arc::new(known))).collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&FilterDef> {
        let own = self.own.get(name).map(|known| &known.def);
        own.or_else(|| BUILTIN.get(name))
    }

    pub(super) fn own(&self) -> impl Iterator<Item = &Known> {
        self.own.values().map(|known| &**known)
    }

    pub(super) fn with(&self, known: Known) -> Self {
        let mut own = self.own.clone();
        own.insert(known.def.name.to_string(), Arc::new(known));
        Self { own }
    }

    pub(super) fn without(&self, name: &str) -> Self {
        let mut own = self.own.clone();
        own.remove(name);
        Self { own }
    }

    /// Whether `name` is `wanted`, or leads to it.
    pub(super) fn leads_to(&self, name: &str, wanted: &str) -> bool {
        let mut seen = std::collections::BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            if name == wanted {
                return true;
            }
            if seen.insert(name.clone()) {
                let def = self.get(&name);
                open.extend(
                    def.into_iter().flat_map(FilterDef::includes).map(|it| it.filter.clone()),
                );
            }
        }
        false
    }

    /// # Errors
    /// When the filter leads to itself, which names the way.
    pub(super) fn check_cycle(&self, name: &str) -> Result<(), Error> {
        let way = |way: &[&str]| way.join(" → ");
        // Each filter once: what is behind one was looked at when it was come to first.
        let mut seen = std::collections::BTreeSet::new();
        let mut open = vec![vec![name]];
        while let Some(path) = open.pop() {
            let last = path.last().copied().unwrap_or_default();
            for include in self.get(last).into_iter().flat_map(FilterDef::includes) {
                let next = include.filter.as_str();
                let path: Vec<_> = path.iter().copied().chain([next]).collect();
                if next == name {
                    let text = format!("filter {name:?} would be a part of itself: {}", way(&path));
                    return Err(Error::new(Code::InvalidArgument, text));
                }
                if path.len() > DEEPEST {
                    let text = format!(
                        "filters name each other over more than {DEEPEST} steps: {}",
                        way(&path)
                    );
                    return Err(Error::new(Code::InvalidArgument, text));
                }
                if seen.insert(next) {
                    open.push(path);
                }
            }
        }
        Ok(())
    }
}
