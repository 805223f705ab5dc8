//! Which images the domains of this host and their snapshots need, and what lies on what: found out
//! anew from the definitions and the images' own headers, whenever an image is about to go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use image::chain::{MOST_DEEP, declared_format, locate};
use image::{Format, ImageError};
use uuid::Uuid;
use xml::DomainDef;
use xml::device::disk::DiskFormat;

use super::{Merge, overlay, place};
use crate::error::{Code, Error};
use crate::registry::Node;
use crate::translate::formats;

/// Somebody who needs an image as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct User {
    pub domain: Uuid,
    /// None: the domain itself.
    pub snapshot: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Graph {
    users: BTreeMap<PathBuf, BTreeSet<User>>,
    /// From an image to that on which it lies.
    below: BTreeMap<PathBuf, PathBuf>,
    formats: BTreeMap<PathBuf, Format>,
}

/// What becomes of the images that a snapshot held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    pub merges: Vec<Merge>,
    pub files: Vec<PathBuf>,
}

impl Graph {
    /// Of everything that this daemon knows. `about` is the domain of which an image may go: those of
    /// others must all be there, or nobody could tell what they stand on.
    pub(crate) fn of(node: &Node, about: Uuid) -> Result<Self, Error> {
        let mut graph = Self::default();
        let pools: Vec<_> = node.pools.views().into_iter().filter(|pool| pool.active).collect();
        let mut add = |def: &DomainDef, user: User| -> Result<(), Error> {
            for disk in &def.devices.disks {
                let Some(path) = place(disk, &pools) else { continue };
                let format = disk.driver.as_ref().and_then(|driver| driver.format);
                let format = formats::of_xml(format.unwrap_or(DiskFormat::Raw));
                let is_other = user.domain != about;
                graph.add(node, &path, format.unwrap_or(Format::Raw), &user, is_other)?;
            }
            Ok(())
        };
        for handle in node.all() {
            let view = handle.view();
            let user = User { domain: view.uuid, snapshot: None };
            if let Some(definition) = &view.definition {
                add(&definition.def, user.clone())?;
            }
            if let Some(live) = &view.live {
                add(&live.def, user)?;
            }
        }
        for set in node.snapshots.all() {
            for snapshot in set.whole() {
                let user = User { domain: set.uuid, snapshot: Some(snapshot.name().to_owned()) };
                for def in snapshot.def.domain.iter().chain(&snapshot.def.inactive_domain) {
                    add(def, user.clone())?;
                }
            }
        }
        for pool in node.pools.all() {
            for volume in pool.volumes() {
                if let Some((backing, _)) = volume.backing {
                    graph.below.entry(volume.path).or_insert(backing);
                }
            }
        }
        Ok(graph)
    }

    /// An image that somebody needs, with all that lies below it.
    fn add(
        &mut self,
        node: &Node,
        top: &Path,
        format: Format,
        user: &User,
        must_be_there: bool,
    ) -> Result<(), Error> {
        self.users.entry(top.to_owned()).or_default().insert(user.clone());
        let (mut path, mut format) = (top.to_owned(), format);
        for _ in 0..MOST_DEEP {
            if self.formats.insert(path.clone(), format).is_some() || format == Format::Raw {
                break;
            }
            if !node.broker.is_there(&path)? {
                if must_be_there {
                    let text = format!(
                        "image {} of domain {} is not there, so nobody knows what it stands on: no \
                         image is touched; bring it back, or forget the snapshot alone (--metadata)",
                        path.display(),
                        user.domain
                    );
                    return Err(Error::new(Code::ResourceMissing, text));
                }
                break;
            }
            let found = overlay::look(&*node.broker, &path, format)?;
            let Some(backing) = found.backing else { break };
            let unknown = |error: ImageError| {
                let text = format!("image {}: {}", path.display(), error.in_full());
                Error::new(Code::ResourceMissing, text)
            };
            let below = locate(&backing.name, &path).map_err(unknown)?;
            let next = declared_format(&backing).map_err(unknown)?;
            self.below.insert(path, below.clone());
            (path, format) = (below, next);
        }
        Ok(())
    }

    pub(crate) fn above(&self, path: &Path) -> Vec<PathBuf> {
        let lies_on = |(_, below): &(&PathBuf, &PathBuf)| below.as_path() == path;
        self.below.iter().filter(lies_on).map(|(above, _)| above.clone()).collect()
    }

    /// Somebody does not need an image any more.
    pub(crate) fn forget(&mut self, path: &Path, user: &User) {
        if let Some(users) = self.users.get_mut(path) {
            users.remove(user);
        }
    }

    /// Let go of image `path` of disk `disk`, if nobody needs it: it becomes one with the only image on
    /// it, or goes if there is none. `domain` is whose it was, `made` what may go.
    pub(crate) fn release(
        &mut self,
        (path, disk): (&Path, &str),
        domain: Uuid,
        made: &BTreeSet<PathBuf>,
        steps: &mut Steps,
    ) {
        let mut path = path.to_owned();
        loop {
            if self.users.get(&path).is_some_and(|users| !users.is_empty()) {
                return;
            }
            match self.above(&path).as_slice() {
                [] if made.contains(&path) => {
                    let below = self.below.remove(&path);
                    self.formats.remove(&path);
                    steps.files.push(path);
                    match below {
                        Some(below) => path = below,
                        None => return,
                    }
                }
                [overlay] if made.contains(overlay) && self.is_own(overlay, domain) => {
                    return self.merge(overlay.clone(), path, disk, steps);
                }
                _ => return,
            }
        }
    }

    /// Nobody but this domain and its snapshots needs it.
    fn is_own(&self, path: &Path, domain: Uuid) -> bool {
        self.users.get(path).is_none_or(|users| users.iter().all(|user| user.domain == domain))
    }

    fn merge(&mut self, from: PathBuf, into: PathBuf, disk: &str, steps: &mut Steps) {
        let above = self.above(&from);
        for image in &above {
            self.below.insert(image.clone(), into.clone());
        }
        self.below.remove(&from);
        let users = self.users.remove(&from).unwrap_or_default();
        self.users.insert(into.clone(), users);
        let format = self.formats.get(&into).copied().unwrap_or(Format::Raw).name().to_owned();
        steps.files.push(from.clone());
        let disk = disk.to_owned();
        steps.merges.push(Merge { disk, from, into, format, above, done: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: Uuid = Uuid::from_u128(1);

    fn user(snapshot: Option<&str>) -> User {
        User { domain: DOMAIN, snapshot: snapshot.map(str::to_owned) }
    }

    /// Images by what they lie on, and who needs them.
    fn graph(images: &[(&str, &str)], users: &[(&str, User)]) -> (Graph, BTreeSet<PathBuf>) {
        let mut graph = Graph::default();
        for (image, below) in images {
            graph.below.insert(image.into(), below.into());
            graph.formats.insert(below.into(), Format::Qcow2);
        }
        for (image, user) in users {
            graph.users.entry(image.into()).or_default().insert(user.clone());
        }
        (graph, images.iter().map(|(image, _)| PathBuf::from(image)).collect())
    }

    fn release(graph: &mut Graph, made: &BTreeSet<PathBuf>, path: &str, name: &str) -> Steps {
        let mut steps = Steps::default();
        graph.forget(Path::new(path), &user(Some(name)));
        graph.release((Path::new(path), "vda"), DOMAIN, made, &mut steps);
        steps
    }

    #[test]
    fn an_image_becomes_one_with_the_only_overlay_on_it() {
        // s1 holds a, s2 holds b, the domain is in c.
        let (mut graph, made) = graph(
            &[("b", "a"), ("c", "b")],
            &[("a", user(Some("s1"))), ("b", user(Some("s2"))), ("c", user(None))],
        );
        let steps = release(&mut graph, &made, "a", "s1");
        let [merge] = steps.merges.as_slice() else { panic!("{steps:?}") };
        assert_eq!((merge.from.as_path(), merge.into.as_path()), (Path::new("b"), Path::new("a")));
        assert_eq!((merge.above.as_slice(), merge.format.as_str()), (&["c".into()][..], "qcow2"));
        assert_eq!(steps.files, [Path::new("b")]);
        // What s2 holds is in a now, and c lies on it.
        let steps = release(&mut graph, &made, "a", "s2");
        assert_eq!(steps.merges[0].from, Path::new("c"));
    }

    #[test]
    fn an_image_that_somebody_else_needs_stays() {
        let other = User { domain: Uuid::from_u128(2), snapshot: None };
        let images = [("b", "a"), ("c", "a")];
        let (mut two, made) = graph(&images, &[("a", user(Some("s1"))), ("b", user(None))]);
        assert_eq!(release(&mut two, &made, "a", "s1"), Steps::default(), "two overlays");
        let (mut shared, made) =
            graph(&images[..1], &[("a", user(Some("s1"))), ("a", user(Some("s2")))]);
        assert_eq!(release(&mut shared, &made, "a", "s1"), Steps::default(), "two snapshots");
        let (mut foreign, made) = graph(&images[..1], &[("a", user(Some("s1"))), ("b", other)]);
        assert_eq!(release(&mut foreign, &made, "a", "s1"), Steps::default(), "another domain");
        let (mut linked, _) = graph(&images[..1], &[("a", user(Some("s1")))]);
        let none = BTreeSet::new();
        assert_eq!(release(&mut linked, &none, "a", "s1"), Steps::default(), "another's overlay");
    }

    #[test]
    fn a_branch_that_nobody_needs_goes_down_to_the_fork() {
        // The domain was reverted to s1, which holds a: it is in d. s2 holds b, on which nothing lies.
        let images = [("b", "a"), ("d", "a")];
        let users = [("a", user(Some("s1"))), ("b", user(Some("s2"))), ("d", user(None))];
        let (mut graph, made) = graph(&images, &users);
        let steps = release(&mut graph, &made, "b", "s2");
        assert_eq!((steps.files.as_slice(), steps.merges.len()), (&["b".into()][..], 0));
        let steps = release(&mut graph, &made, "a", "s1");
        assert_eq!(steps.merges[0].from, Path::new("d"));
    }
}
