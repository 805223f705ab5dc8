//! What lies where on a host, as far as it matters who may have it. The deepest entry above a path counts.

use std::path::{Component, Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// The daemon's own, or what root allows it: all of it.
    Allowed,
    /// Where images lie.
    Guests,
    /// Directories of people, whose hidden files are no guest's.
    Homes,
    /// Programs and their data: what everybody may read there, and nothing to write.
    Programs,
    /// Nothing.
    Closed,
}

/// Everywhere else is for guests: people keep images in directories of all names.
const GROUNDS: &[(&str, Ground)] = &[
    ("/", Ground::Guests),
    ("/bin", Ground::Programs),
    ("/boot", Ground::Programs),
    ("/dev", Ground::Closed),
    ("/dev/null", Ground::Guests),
    ("/efi", Ground::Programs),
    ("/etc", Ground::Closed),
    ("/gnu", Ground::Programs),
    ("/home", Ground::Homes),
    ("/lib", Ground::Programs),
    ("/lib32", Ground::Programs),
    ("/lib64", Ground::Programs),
    ("/libx32", Ground::Programs),
    ("/media", Ground::Guests),
    ("/mnt", Ground::Guests),
    ("/nix", Ground::Programs),
    ("/opt", Ground::Programs),
    ("/ostree", Ground::Programs),
    ("/proc", Ground::Closed),
    ("/root", Ground::Closed),
    ("/run", Ground::Closed),
    ("/run/libvirt", Ground::Guests),
    ("/run/media", Ground::Guests),
    ("/sbin", Ground::Programs),
    ("/snap", Ground::Programs),
    ("/srv", Ground::Guests),
    ("/sys", Ground::Closed),
    ("/sysroot", Ground::Programs),
    ("/tmp", Ground::Guests),
    ("/usr", Ground::Programs),
    ("/var", Ground::Closed),
    ("/var/cache/libvirt", Ground::Guests),
    ("/var/lib/libvirt", Ground::Guests),
    ("/var/lib/manor", Ground::Guests),
    ("/var/lib/vz", Ground::Guests),
    ("/var/log/libvirt", Ground::Guests),
    ("/var/log/manor", Ground::Guests),
    ("/var/tmp", Ground::Guests),
];

/// Hidden directories of people in which images lie.
const HIDDEN: &[&str] = &[".local/share/libvirt", ".local/share/gnome-boxes", ".local/state/manor"];
/// A volume that is not finished yet has such a name.
const UNFINISHED: &str = ".manor-";

#[derive(Debug, Clone)]
pub(super) struct Grounds(Vec<(PathBuf, Ground)>);

impl Grounds {
    /// Each by its name, and by where that leads: on some hosts `/home` is a link.
    pub(super) fn new(allowed: &[PathBuf], closed: &Path) -> Self {
        let usual = GROUNDS.iter().map(|(path, ground)| (PathBuf::from(path), *ground));
        let allowed = allowed.iter().map(|path| (path.clone(), Ground::Allowed));
        let closed = (closed.to_owned(), Ground::Closed);
        let mut all: Vec<(PathBuf, Ground)> = Vec::new();
        for (path, ground) in usual.chain(allowed).chain([closed]) {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            all.extend([(path, ground), (real, ground)]);
        }
        Self(all)
    }

    /// What `real` lies on, and where that begins. Of two that are as deep, the later one.
    pub(super) fn of(&self, real: &Path) -> (&Path, Ground) {
        let above = self.0.iter().filter(|(path, _)| real.starts_with(path));
        let deepest = above.max_by_key(|(path, _)| path.components().count());
        deepest.map_or((Path::new("/"), Ground::Closed), |(path, ground)| (path, *ground))
    }
}

/// Whether something in a home is what shells, ssh and their like take to heart.
pub(super) fn is_personal(homes: &Path, real: &Path) -> bool {
    let Ok(below) = real.strip_prefix(homes) else { return true };
    let mut parts = below.components();
    let Some(Component::Normal(_user)) = parts.next() else { return true };
    let inside = parts.as_path();
    let is_hidden = |part: Component<'_>| {
        let name = part.as_os_str().to_string_lossy();
        name.starts_with('.') && !name.starts_with(UNFINISHED)
    };
    let known = HIDDEN.iter().find_map(|known| inside.strip_prefix(known).ok());
    inside.as_os_str().is_empty() || known.unwrap_or(inside).components().any(is_hidden)
}
