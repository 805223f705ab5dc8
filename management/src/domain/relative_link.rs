//! How an image names one that lies further below it, where each image between names the next relative
//! to itself: so a directory of images can be moved as a whole.

use std::path::{Path, PathBuf};

/// `names` as they stand in the headers, from above to below. None: one of them is not relative.
pub(super) fn joined<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut joined = PathBuf::new();
    for name in names {
        if !is_relative(name) {
            return None;
        }
        // Relative to the image that names it, not to its directory.
        joined.pop();
        joined.push(name);
    }
    joined.into_os_string().into_string().ok().filter(|joined| !joined.is_empty())
}

/// What has a colon in its first part is an address, as `nbd:` and `json:`.
fn is_relative(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    !name.is_empty() && !Path::new(name).is_absolute() && !first.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_followed_from_directory_to_directory() {
        for (names, expected) in [
            (&["base.qcow2"][..], Some("base.qcow2")),
            (&["middle.qcow2", "base.qcow2"], Some("base.qcow2")),
            (&["below/middle.qcow2", "base.qcow2"], Some("below/base.qcow2")),
            (&["below/middle.qcow2", "../base.qcow2"], Some("below/../base.qcow2")),
            (&["middle.qcow2", "/srv/base.qcow2"], None),
            (&["/srv/middle.qcow2", "base.qcow2"], None),
            (&["nbd://store1/base"], None),
            (&["json:{}"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(joined(names.iter().copied()).as_deref(), expected, "{names:?}");
        }
    }
}
