//! A cgroup (version 2) for each domain, outside the daemon's own, so that nothing done to the
//! daemon's reaches a guest.
//!
//! Under systemd each is a scope, made with the process (see [`scope`]); without, domains go to
//! `/manor/domains/UUID`. Should systemd not answer, the unit's own subtree is left (`Delegate=yes`):
//! `UNIT/domains/UUID`. No controller is enabled there, because systemd could then not start the
//! daemon again in the unit's own cgroup.

pub(crate) mod limits;
pub(crate) mod threads;

use std::path::{Path, PathBuf};

use crate::cgroup::limits::Limits;
use crate::policy::Judge;
use crate::{BrokerError, scope};

/// Far longer than a UUID.
const LONGEST_NAME: usize = 64;

/// The cgroup, or the place of the scope that will be made with the process.
pub(crate) fn make(
    judge: Judge<'_>,
    parent: Option<&Path>,
    name: &str,
) -> Result<PathBuf, BrokerError> {
    check_name(name)?;
    let parent = match parent {
        Some(parent) => parent.to_owned(),
        None => {
            let mount = mount()?;
            match scope::available() {
                Ok(true) => return Ok(mount.join(scope::place(name))),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "systemd does not answer: a guest gets no scope");
                }
            }
            parent_of(&mount, &own()?)
        }
    };
    let path = parent.join("domains").join(name);
    judge.make_cgroup(&path)?;
    Ok(path)
}

/// It becomes a part of a path, and of the name of a unit.
fn check_name(name: &str) -> Result<(), BrokerError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(good) {
        true => Ok(()),
        false => Err(BrokerError::Stranger { what: format!("a cgroup by the name of {name:?}") }),
    }
}

/// Put `limits` into force in the cgroup of a domain that runs, or is about to.
pub(crate) fn limit(cgroup: &Path, limits: &Limits) -> Result<(), BrokerError> {
    if let Some(unit) = scope::unit_of(cgroup) {
        scope::limit(unit, limits).map_err(|source| BrokerError::Host {
            act: format!("have systemd limit {unit}"),
            source,
        })?;
        return check(cgroup, limits);
    }
    limits::enable(&mount()?, cgroup, &limits.controllers())?;
    limits.write(cgroup)
}

/// systemd says nothing of limits that the host has no controllers for.
pub(crate) fn check(scope: &Path, limits: &Limits) -> Result<(), BrokerError> {
    let there = std::fs::read_to_string(scope.join("cgroup.controllers")).unwrap_or_default();
    let absent = |name: &&&str| !there.split_whitespace().any(|known| known == **name);
    match limits.controllers().iter().find(absent) {
        None => Ok(()),
        Some(controller) => Err(BrokerError::NoController {
            controller: (*controller).into(),
            reason: limits::why_absent(controller, scope),
        }),
    }
}

/// As [`make`] names them.
pub(crate) fn is_of_a_domain(path: &Path) -> bool {
    let in_domains = path.parent().is_some_and(|above| above.ends_with("domains"));
    in_domains || scope::unit_of(path).is_some_and(|unit| unit.starts_with("manor-"))
}

pub(crate) fn remove(path: &Path) -> Result<(), BrokerError> {
    if scope::unit_of(path).is_some() {
        return Ok(()); // systemd does, when it is empty
    }
    threads::remove_groups(path);
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(BrokerError::host(format!("remove cgroup {}", path.display()))),
    }
}

/// Everything in it, at once and without a race.
pub(crate) fn kill(path: &Path) -> std::io::Result<()> {
    std::fs::write(path.join("cgroup.kill"), "1")
}

fn missing(reason: &str) -> BrokerError {
    BrokerError::NoCgroup { reason: reason.to_owned() }
}

pub(crate) fn mount() -> Result<PathBuf, BrokerError> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(BrokerError::host("read /proc/self/mountinfo"))?;
    let mount = mount_point(&mounts).ok_or_else(|| missing("cgroup v2 is not mounted"))?;
    Ok(mount.into())
}

/// This process's, below the mount.
fn own() -> Result<String, BrokerError> {
    let own = std::fs::read_to_string("/proc/self/cgroup")
        .map_err(BrokerError::host("read /proc/self/cgroup"))?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(own.ok_or_else(|| missing("this process is in no cgroup v2"))?.to_owned())
}

fn mount_point(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4)).flatten()
    })
}

fn parent_of(mount: &Path, own: &str) -> PathBuf {
    let unit = own.split('/').scan(String::new(), |path, part| {
        if !part.is_empty() {
            path.push('/');
            path.push_str(part);
        }
        Some((path.clone(), part.ends_with(".service")))
    });
    let service = unit.filter(|(_, service)| *service).map(|(path, _)| path).last();
    let below = service.as_deref().unwrap_or("/manor");
    mount.join(below.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_keeps_its_domains_in_its_own_subtree() {
        let parent = parent_of(Path::new("/sys/fs/cgroup"), "/system.slice/manor.service");
        assert_eq!(parent, Path::new("/sys/fs/cgroup/system.slice/manor.service"));
        let below = parent_of(Path::new("/sys/fs/cgroup"), "/system.slice/manor.service/daemon");
        assert_eq!(below, parent, "the daemon may have moved into a leaf");
    }

    #[test]
    fn a_daemon_started_by_hand_keeps_its_domains_out_of_the_login_session() {
        let parent =
            parent_of(Path::new("/sys/fs/cgroup"), "/user.slice/user-0.slice/session-3.scope");
        assert_eq!(parent, Path::new("/sys/fs/cgroup/manor"));
    }

    #[test]
    fn a_cgroup_lies_where_those_of_domains_do_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        let absolute = other.display().to_string();
        for name in
            ["", ".", "..", "../../other", "a/b", "a.scope", "a b", &absolute, &"a".repeat(65)]
        {
            let error =
                make(Judge::NONE, Some(&dir.path().join("manor")), name).unwrap_err().to_string();
            assert!(error.contains("is no guest's"), "{name:?}: {error}");
        }
        assert!(!other.exists() && !dir.path().join("manor").exists());
        let path =
            make(Judge::NONE, Some(dir.path()), "6695eb01-f6a4-8304-79aa-97f2502e193f").unwrap();
        assert_eq!(path.parent().unwrap(), dir.path().join("domains"));
    }

    #[test]
    fn the_version_2_hierarchy_is_found_among_others() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 23 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
