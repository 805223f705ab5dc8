//! What differs between two definitions, by path: what was, and what is to be.
//!
//! Both are compared as they are printed, so that what is not printed is no difference. Elements that
//! may repeat are told apart by what makes each one itself (a disk by its target, an interface by its MAC
//! address), and by their place only where there is nothing else.

use std::collections::HashMap;

use crate::document::{Bounds, tree};
use crate::domain::DomainDef;
use crate::tree::Node;

/// One thing that is another, is new, or is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `/domain/devices/disk[vda]/driver/@cache`; of something that is new or gone, the whole of it.
    pub path: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// Deeper than any definition goes.
const DEEPEST: usize = 64;

impl DomainDef {
    /// What `new` has otherwise, in the order of the document.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let (old, new) = (self.to_xml(), new.to_xml());
        let mut found = Vec::new();
        if let (Ok(old), Ok(new)) = (tree(&old, Bounds::OWN), tree(&new, Bounds::OWN)) {
            compare(old.root_element(), new.root_element(), "/domain", DEEPEST, &mut found);
        }
        found
    }
}

fn compare(old: Node<'_>, new: Node<'_>, path: &str, depth: usize, found: &mut Vec<Difference>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    attributes(old, new, path, found);
    let (before, after) = (text(old), text(new));
    if before != after {
        found.push(Difference { path: path.to_owned(), old: before, new: after });
    }
    let (before, after) = (named(old), named(new));
    // Documents from outside have many thousand children where they like: no search for each.
    let find = |children: &[(String, Node<'_>)]| -> HashMap<String, usize> {
        let names = children.iter().enumerate().rev();
        names.map(|(at, (name, _))| (name.clone(), at)).collect()
    };
    let (in_before, in_after) = (find(&before), find(&after));
    for (name, node) in &before {
        let path = format!("{path}/{name}");
        match in_after.get(name).and_then(|at| after.get(*at)) {
            Some((_, other)) => compare(*node, *other, &path, depth, found),
            None => found.push(Difference { path, old: Some(shown(*node)), new: None }),
        }
    }
    for (name, node) in after.iter().filter(|(name, _)| !in_before.contains_key(name)) {
        let path = format!("{path}/{name}");
        found.push(Difference { path, old: None, new: Some(shown(*node)) });
    }
}

fn attributes(old: Node<'_>, new: Node<'_>, path: &str, found: &mut Vec<Difference>) {
    for attribute in old.attributes() {
        let (name, before) = (attribute.name, attribute.value);
        let after = new.attribute(name);
        if after != Some(before) {
            let (old, new) = (Some(before.to_owned()), after.map(str::to_owned));
            found.push(Difference { path: format!("{path}/@{name}"), old, new });
        }
    }
    for attribute in new.attributes().filter(|it| old.attribute(it.name).is_none()) {
        let (path, new) = (format!("{path}/@{}", attribute.name), attribute.value.to_owned());
        found.push(Difference { path, old: None, new: Some(new) });
    }
}

/// Of an element without elements.
fn text(node: Node<'_>) -> Option<String> {
    if node.elements().next().is_some() {
        return None;
    }
    Some(node.text().trim().to_owned()).filter(|text| !text.is_empty())
}

/// The element as it was printed, on one line.
fn shown(node: Node<'_>) -> String {
    let text = node.document().input_text().get(node.range()).unwrap_or_default();
    text.split('\n').map(str::trim).collect()
}

/// Children by a name that is theirs alone: with what makes each one itself, else with its number among
/// those that are called so.
fn named<'a>(parent: Node<'a>) -> Vec<(String, Node<'a>)> {
    let mut alike: HashMap<&str, usize> = HashMap::new();
    for node in parent.elements() {
        *alike.entry(node.name()).or_default() += 1;
    }
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let name = |node: Node<'a>| {
        let name = node.name();
        let own = own_name(node).map(|own| format!("{name}[{own}]"));
        let is_named = own.is_some();
        let base = own.unwrap_or_else(|| name.to_owned());
        let number = numbers.entry(base.clone()).or_default();
        *number += 1;
        let is_alone = alike.get(name) == Some(&1) || (is_named && *number == 1);
        let name = if is_alone { base } else { format!("{base}[{number}]") };
        (name, node)
    };
    parent.elements().map(name).collect()
}

/// What makes one of several the one it is.
fn own_name(node: Node<'_>) -> Option<String> {
    let child = |name: &str, attribute: &str| {
        let child = node.elements().find(|child| child.name() == name)?;
        child.attribute(attribute).map(str::to_owned)
    };
    let attribute = |name: &str| node.attribute(name).map(str::to_owned);
    match node.name() {
        "disk" => child("target", "dev"),
        "interface" => child("mac", "address"),
        "controller" => Some(format!("{} {}", attribute("type")?, attribute("index")?)),
        "channel" => child("target", "name"),
        "vcpupin" => attribute("vcpu"),
        "iothreadpin" => attribute("iothread"),
        "feature" | "timer" => attribute("name"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(rest: &str, devices: &str) -> DomainDef {
        let text = format!(
            "<domain type='kvm'><name>a</name><memory>65536</memory><os><type>hvm</type></os>{rest}\
             <devices>{devices}</devices></domain>"
        );
        DomainDef::parse(&text).unwrap().value
    }

    fn paths(old: &DomainDef, new: &DomainDef) -> Vec<String> {
        let show = |it: Difference| {
            let side = |side: Option<String>| side.unwrap_or_else(|| "-".to_owned());
            format!("{}: {} > {}", it.path, side(it.old), side(it.new))
        };
        old.differences(new).into_iter().map(show).collect()
    }

    const VDA: &str = "<disk><source file='/a'/><target dev='vda' bus='virtio'/></disk>";
    const VDB: &str = "<disk><source file='/b'/><target dev='vdb' bus='virtio'/></disk>";

    #[test]
    fn the_same_definition_differs_in_nothing() {
        let def = def("<vcpu>2</vcpu>", VDA);
        assert_eq!(paths(&def, &def), [""; 0]);
    }

    #[test]
    fn values_and_attributes_are_told_with_both_sides() {
        let old = def("<vcpu>2</vcpu>", VDA);
        let new = def("<vcpu placement='static'>4</vcpu>", &VDA.replace("'/a'", "'/c'"));
        assert_eq!(
            paths(&old, &new),
            [
                "/domain/vcpu/@placement: - > static",
                "/domain/vcpu: 2 > 4",
                "/domain/devices/disk[vda]/source/@file: /a > /c"
            ]
        );
    }

    #[test]
    fn many_children_cost_no_search_for_each() {
        let many = |text: &str| {
            let notes: String = (0..20_000).map(|_| format!("<n>{text}</n>")).collect();
            def(&format!("<metadata><a xmlns='urn:a'>{notes}</a></metadata>"), "")
        };
        let (old, new) = (many("1"), many("2"));
        let begin = std::time::Instant::now();
        assert_eq!(old.differences(&new).len(), 20_000);
        // A search for each would take minutes.
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    }

    #[test]
    fn devices_are_known_by_their_names_and_not_by_their_places() {
        let (old, new) = (def("", &format!("{VDA}{VDB}")), def("", &format!("{VDB}{VDA}")));
        assert_eq!(paths(&old, &new), [""; 0]);
        let new = def("", &format!("{VDB}<rng model='virtio'><backend model='random'/></rng>"));
        let found = paths(&old, &new);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("/domain/devices/disk[vda]: <disk"), "{found:?}");
        assert!(found[1].starts_with("/domain/devices/rng: - > <rng"), "{found:?}");
    }
}
