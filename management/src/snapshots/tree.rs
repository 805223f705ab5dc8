//! The tree that the snapshots of a domain are.

use std::collections::HashSet;

use xml::domain::Name;

use super::{Snapshot, Work};
use crate::error::{Code, Error};
use crate::store::StoredSnapshots;

impl StoredSnapshots {
    /// Those that there are: not one that is being made.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &Snapshot> {
        let unfinished = match &self.work {
            Some(Work::Create(work)) => Some(work.name.as_str()),
            _ => None,
        };
        self.snapshots.iter().filter(move |snapshot| Some(snapshot.name()) != unfinished)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Snapshot> {
        self.whole().find(|snapshot| snapshot.name() == name)
    }

    /// Of domain `domain`, whose name is for the refusal.
    pub(crate) fn find(&self, name: &str, domain: &str) -> Result<&Snapshot, Error> {
        self.get(name).ok_or_else(|| {
            let text = format!("domain {domain:?} has no snapshot {name:?} (see snapshot-list)");
            Error::new(Code::NotFound, text)
        })
    }

    pub(crate) fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Snapshot> {
        self.whole().filter(move |snapshot| snapshot.def.parent() == Some(name))
    }

    /// All of them, parents before their children.
    pub(crate) fn in_order(&self) -> Vec<&Snapshot> {
        let is_root = |it: &&Snapshot| it.def.parent().is_none_or(|name| self.get(name).is_none());
        let roots: Vec<_> = self.whole().filter(is_root).collect();
        let below = |root: &&Snapshot| self.descendants(root.name());
        let names = roots.iter().flat_map(below).collect::<Vec<_>>();
        let below = names.iter().filter_map(|name| self.get(name));
        roots.iter().copied().chain(below).collect()
    }

    /// Everything below a snapshot, children before their own children.
    pub(crate) fn descendants(&self, name: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut seen = HashSet::from([name.to_owned()]);
        let mut next = vec![name.to_owned()];
        while let Some(parent) = next.pop() {
            for child in self.children(&parent) {
                if seen.insert(child.name().to_owned()) {
                    found.push(child.name().to_owned());
                    next.push(child.name().to_owned());
                }
            }
        }
        found
    }

    /// Take a snapshot out; its children become its parent's, which becomes current if it was.
    pub(crate) fn take_out(&mut self, name: &str) {
        let Some(at) = self.snapshots.iter().position(|snapshot| snapshot.name() == name) else {
            return;
        };
        let parent = self.snapshots.remove(at).def.parent.map(|parent| parent.name);
        for snapshot in &mut self.snapshots {
            if snapshot.def.parent() == Some(name) {
                snapshot.def.set_parent(parent.clone());
            }
        }
        if self.current.as_deref() == Some(name) {
            self.current = parent.map(|parent| parent.to_string());
        }
    }

    /// Whether `name` could have `parent`, without a ring.
    pub(crate) fn check_parent(
        &self,
        name: &Name,
        parent: &str,
        domain: &str,
    ) -> Result<(), Error> {
        self.find(parent, domain)?;
        if parent == &**name || self.descendants(name).iter().any(|below| below == parent) {
            let text = format!("snapshot {parent:?} lies below {:?} itself", &**name);
            return Err(Error::new(Code::InvalidArgument, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::Kept;
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> StoredSnapshots {
        let mut set = StoredSnapshots::new(Uuid::nil());
        for (name, parent) in pairs {
            let mut def = xml::SnapshotDef { name: name.parse().ok(), ..Default::default() };
            def.set_parent(parent.parse().ok());
            set.snapshots.push(Snapshot { def, kept: Kept::default() });
        }
        set
    }

    #[test]
    fn children_of_one_that_is_taken_out_are_its_parents() {
        let mut set = set(&[("a", ""), ("b", "a"), ("c", "b"), ("d", "b")]);
        set.current = Some("b".to_owned());
        assert_eq!(set.descendants("a"), ["b", "c", "d"]);
        set.take_out("b");
        assert_eq!(set.current.as_deref(), Some("a"));
        assert_eq!(set.children("a").map(Snapshot::name).collect::<Vec<_>>(), ["c", "d"]);
        set.take_out("a");
        assert_eq!((set.current.as_deref(), set.get("c").unwrap().def.parent()), (None, None));
    }

    #[test]
    fn a_ring_is_refused_and_one_that_was_stored_does_not_hang() {
        let ring = set(&[("a", "b"), ("b", "a")]);
        assert_eq!(ring.descendants("a"), ["b"]);
        let line = set(&[("a", ""), ("b", "a")]);
        let name = "a".parse().unwrap();
        assert!(line.check_parent(&name, "b", "web").is_err());
        assert!(line.check_parent(&name, "x", "web").is_err());
        assert!(line.check_parent(&"c".parse().unwrap(), "b", "web").is_ok());
    }
}
