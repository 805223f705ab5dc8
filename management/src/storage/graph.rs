//! [`Graph`]: which image lies on which, and who needs each of them.
//!
//! ```text
//! disk vda of domain web2 ──▶ web2.qcow2 ─┐
//! disk vda of domain web  ──▶ web.qcow2 ──┴─▶ golden.qcow2 ──▶ base.img
//! ```
//! Edges are what headers and definitions say, the ends on the left are [`User`]s. It is plain data,
//! made anew for each question: what it says was true when it was asked, also after a restart.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Who needs an image, and whatever lies below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// A disk of a running domain.
    Running { domain: String, disk: String },
    /// The state that a domain goes on from at its next start was saved with this disk as it is.
    Saved { domain: String, disk: String },
    /// What a snapshot of a domain goes back to.
    Snapshot { domain: String, snapshot: String, disk: String },
    /// A disk of a definition.
    Defined { domain: String, disk: String },
    /// The volume itself, which somebody may have a use for.
    Volume { pool: String, volume: String },
}

/// One use of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageUse {
    pub user: User,
    /// How many images lie between the user and this one; none: it is the user's own.
    pub depth: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Graph {
    below: HashMap<PathBuf, Vec<PathBuf>>,
    users: BTreeSet<(PathBuf, User)>,
}

impl Graph {
    /// `user` needs the image at `path`.
    pub(crate) fn need(&mut self, path: &Path, user: User) {
        self.users.insert((identity(path), user));
    }

    /// `image` lies on `below`.
    pub(crate) fn link(&mut self, image: &Path, below: &Path) {
        let (image, below) = (identity(image), identity(below));
        let known = self.below.entry(image).or_default();
        if !known.contains(&below) {
            known.push(below);
        }
    }

    /// Everyone who needs the image at `path`, the most urgent first.
    pub(crate) fn users_of(&self, path: &Path) -> Vec<ImageUse> {
        let wanted = identity(path);
        let depth = |root: &PathBuf| self.depth(root, &wanted);
        let uses = self.users.iter().filter_map(|(root, user)| {
            let depth = depth(root)?;
            // That there is a volume is no reason to keep it.
            let matters = depth > 0 || !matches!(user, User::Volume { .. });
            matters.then(|| ImageUse { user: user.clone(), depth })
        });
        let mut uses: Vec<_> = uses.collect();
        uses.sort();
        uses
    }

    /// The same without those that are `mine`, and without the volumes that lie in what is mine.
    pub(crate) fn others_of(&self, path: &Path, mine: impl Fn(&User) -> bool) -> Vec<ImageUse> {
        let volume = |user: &User| {
            let (root, _) = self.users.iter().find(|(_, known)| known == user)?;
            let mut own = self.users.iter().filter(|(_, user)| mine(user));
            own.find_map(|(above, _)| self.depth(above, root))
        };
        let mut uses = self.users_of(path);
        uses.retain(|it| {
            let theirs = matches!(it.user, User::Volume { .. }) && volume(&it.user).is_some();
            !mine(&it.user) && !theirs
        });
        uses
    }

    /// How far below `root` an image lies, if it does. Loops, which a header can make, end.
    fn depth(&self, root: &Path, wanted: &Path) -> Option<usize> {
        let mut seen = HashSet::new();
        let mut now = vec![root];
        for depth in 0.. {
            if now.is_empty() {
                return None;
            }
            if now.contains(&wanted) {
                return Some(depth);
            }
            now.retain(|path| seen.insert(path.to_path_buf()));
            now = now
                .iter()
                .filter_map(|path| self.below.get(*path))
                .flatten()
                .map(|it| &**it)
                .collect();
        }
        None
    }
}

/// One file, whatever links lead to it. One that is not there is its name.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

impl ImageUse {
    /// The running domain whose image it is.
    pub(crate) fn running(&self) -> Option<&str> {
        match &self.user {
            User::Running { domain, .. } => Some(domain),
            _ => None,
        }
    }

    /// It is nothing but the disk of a definition: whoever has that may do with it what he likes.
    pub(crate) fn is_own_disk(&self) -> bool {
        self.depth == 0 && matches!(self.user, User::Defined { .. })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { domain, disk } | Self::Defined { domain, disk } => {
                write!(f, "disk {disk} of domain {domain:?}")
            }
            Self::Saved { domain, disk } => {
                write!(f, "disk {disk} of the saved state of domain {domain:?}")
            }
            Self::Snapshot { domain, snapshot, disk } => {
                write!(f, "disk {disk} of snapshot {snapshot:?} of domain {domain:?}")
            }
            Self::Volume { pool, volume } => write!(f, "volume {volume:?} of pool {pool:?}"),
        }
    }
}

impl fmt::Display for ImageUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.depth == 0 { "is" } else { "lies below" };
        write!(f, "{verb} {}", self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(domain: &str) -> User {
        User::Defined { domain: domain.into(), disk: "vda".into() }
    }

    fn told(graph: &Graph, path: &str) -> Vec<String> {
        graph.users_of(Path::new(path)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn whoever_needs_what_lies_on_an_image_needs_that_image() {
        let mut graph = Graph::default();
        graph.link(Path::new("/i/web"), Path::new("/i/golden"));
        graph.link(Path::new("/i/web2"), Path::new("/i/golden"));
        graph.link(Path::new("/i/golden"), Path::new("/i/base"));
        graph.need(Path::new("/i/web"), disk("web"));
        graph.need(Path::new("/i/web2"), disk("web2"));
        assert_eq!(told(&graph, "/i/web"), ["is disk vda of domain \"web\""]);
        let below = |name: &str| format!("lies below disk vda of domain {name:?}");
        assert_eq!(told(&graph, "/i/base"), [below("web"), below("web2")]);
        assert!(graph.users_of(Path::new("/i/web"))[0].is_own_disk());
        assert!(!graph.users_of(Path::new("/i/golden"))[0].is_own_disk());
        assert_eq!(told(&graph, "/i/other"), Vec::<String>::new());
    }

    #[test]
    fn a_volume_needs_what_lies_below_it_and_not_itself() {
        let mut graph = Graph::default();
        let volume = |name: &str| User::Volume { pool: "p".into(), volume: name.into() };
        graph.link(Path::new("/p/top"), Path::new("/p/base"));
        graph.need(Path::new("/p/top"), volume("top"));
        graph.need(Path::new("/p/base"), volume("base"));
        assert_eq!(told(&graph, "/p/top"), Vec::<String>::new());
        assert_eq!(told(&graph, "/p/base"), ["lies below volume \"top\" of pool \"p\""]);
    }

    #[test]
    fn a_loop_ends() {
        let mut graph = Graph::default();
        graph.link(Path::new("/a"), Path::new("/b"));
        graph.link(Path::new("/b"), Path::new("/a"));
        graph.need(Path::new("/a"), disk("web"));
        assert_eq!(told(&graph, "/b"), ["lies below disk vda of domain \"web\""]);
        assert_eq!(told(&graph, "/c"), Vec::<String>::new());
    }

    #[test]
    fn a_link_to_an_image_is_that_image() {
        let dir = tempfile::tempdir().unwrap();
        let (image, link) = (dir.path().join("image"), dir.path().join("link"));
        std::fs::write(&image, "").unwrap();
        std::os::unix::fs::symlink(&image, &link).unwrap();
        let mut graph = Graph::default();
        graph.need(&link, disk("web"));
        assert_eq!(graph.users_of(&image).len(), 1);
    }
}
