//! Volume groups of LVM on which the host's system lies. What nobody uses of such a group at the moment may be the
//! system's all the same: a backup, a snapshot of its root. So none of its volumes is a guest's unless root says so.
//!
//! The kernel tells which volume is of which group (the device mapper's names, of `LVM-`, the group's id and the
//! volume's), what is mounted where, and what swap lies on.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{fstat, major, minor, stat};

use super::grounds::Ground;
use super::{Judge, Policy, Reason, Refusal, Wish};
use crate::BrokerError;
use crate::pool::mounts;

const DEVICES: &str = "/sys/dev/block";
/// Encrypted, and partitioned, and in a volume group again.
const MOST_DEEP: usize = 16;
/// Of the device mapper's ids.
const ID: usize = "LVM-".len() + 32;

/// `major:minor`
type Number = String;

/// What the kernel tells of devices.
struct Devices {
    root: PathBuf,
    /// What of the system lies on a device.
    system: BTreeMap<Number, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    id: String,
    name: String,
}

impl Judge<'_> {
    /// Something is to be done to a volume group.
    pub(crate) fn group(self, name: &str) -> Result<(), BrokerError> {
        let Some(policy) = self.0 else { return Ok(()) };
        let devices = Devices::of_host(policy)?;
        let group = devices.all().filter_map(|number| devices.group(&number));
        let group = group.into_iter().find(|group| group.name == name);
        let path = Path::new("/dev").join(name);
        policy.group(&devices, group).map_err(|reason| reason.of(&path, &path, Wish::Write))
    }
}

impl Policy {
    /// A volume, if it is one.
    pub(super) fn volume(&self, device: impl AsFd) -> Result<(), Refusal> {
        let found = fstat(&device).map_err(|errno| Reason::from(errno.to_string()))?;
        let number = numbered(found.st_rdev);
        if Devices::bare().group(&number).is_none() {
            return Ok(());
        }
        let devices = Devices::of_host(self).map_err(|error| error.to_string())?;
        self.group(&devices, devices.group(&number))
    }

    fn group(&self, devices: &Devices, group: Option<Group>) -> Result<(), Refusal> {
        let Some(group) = group else { return Ok(()) };
        let path = Path::new("/dev").join(&group.name);
        if self.grounds.of(&path).1 == Ground::Allowed {
            return Ok(());
        }
        match devices.system_on(&group.id) {
            None => Ok(()),
            Some(what) => {
                let text =
                    format!("{what} of the host lies on the volume group {}, too", group.name);
                Err(Refusal { reason: text.into(), allow: Some(path) })
            }
        }
    }

    /// Whether what is mounted there is the system's, and no place of guests.
    fn is_of_system(&self, mounted_on: &Path) -> bool {
        self.place(mounted_on, Wish::Write).is_err()
    }
}

impl Devices {
    fn bare() -> Self {
        Self { root: DEVICES.into(), system: BTreeMap::new() }
    }

    fn of_host(policy: &Policy) -> Result<Self, BrokerError> {
        let mut system = BTreeMap::new();
        for (on, device, source) in mounts()? {
            if policy.is_of_system(&on) {
                let what = on.display().to_string();
                // Some file systems have a number of their own; then the name tells.
                system.extend(number_of(&source).map(|number| (number, what.clone())));
                system.insert(device, what);
            }
        }
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let swaps = swaps.filter_map(|path| number_of(Path::new(path)));
        system.extend(swaps.map(|number| (number, "swap".to_owned())));
        Ok(Self { root: DEVICES.into(), system })
    }

    fn all(&self) -> impl Iterator<Item = Number> + use<> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    }

    fn told(&self, number: &str, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(number).join(file)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// That a device is a volume of.
    fn group(&self, number: &str) -> Option<Group> {
        let id = self.told(number, "dm/uuid")?;
        let id = id.starts_with("LVM-").then(|| id.get(..ID))??.to_owned();
        Some(Group { id, name: group_in(&self.told(number, "dm/name")?) })
    }

    /// What of the system lies on any volume of a group.
    fn system_on(&self, group: &str) -> Option<&str> {
        let is_in = |number: &Number| self.group(number).is_some_and(|found| found.id == group);
        self.all().filter(is_in).find_map(|number| self.system_above(&number, MOST_DEEP))
    }

    /// On a device, or on what lies on that.
    fn system_above(&self, number: &str, deep: usize) -> Option<&str> {
        if let Some(what) = self.system.get(number) {
            return Some(what);
        }
        let deep = deep.checked_sub(1)?;
        let holders = fs::read_dir(self.root.join(number).join("holders")).ok()?;
        holders.flatten().find_map(|holder| {
            let number = fs::read_to_string(holder.path().join("dev")).ok()?;
            self.system_above(number.trim_end(), deep)
        })
    }
}

/// The device mapper's name of a volume is its group's and its own, with a '-' in between and any other doubled.
fn group_in(name: &str) -> String {
    let mut group = String::new();
    let mut rest = name.chars();
    while let Some(letter) = rest.next() {
        if letter == '-' && rest.next() != Some('-') {
            break;
        }
        group.push(letter);
    }
    group
}

fn number_of(device: &Path) -> Option<Number> {
    if !device.starts_with("/dev") {
        return None;
    }
    stat(device).ok().map(|found| numbered(found.st_rdev))
}

fn numbered(device: u64) -> Number {
    format!("{}:{}", major(device), minor(device))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{Ledger, Owner};

    /// What the kernel's tree has of devices: number, id, name, what lies on it.
    fn devices(
        all: &[(&str, &str, &str, &[&str])],
        system: &[(&str, &str)],
    ) -> (tempfile::TempDir, Devices) {
        let dir = tempfile::tempdir().unwrap();
        for (number, id, name, holders) in all {
            let path = dir.path().join(number);
            fs::create_dir_all(path.join("holders")).unwrap();
            fs::write(path.join("dev"), format!("{number}\n")).unwrap();
            if !id.is_empty() {
                fs::create_dir(path.join("dm")).unwrap();
                fs::write(path.join("dm/uuid"), format!("{id}\n")).unwrap();
                fs::write(path.join("dm/name"), format!("{name}\n")).unwrap();
            }
            for holder in *holders {
                symlink(dir.path().join(holder), path.join("holders").join(holder)).unwrap();
            }
        }
        let own = |(number, what): &(&str, &str)| ((*number).to_owned(), (*what).to_owned());
        let system = system.iter().map(own).collect();
        let root = dir.path().to_owned();
        (dir, Devices { root, system })
    }

    fn id(group: char, volume: char) -> String {
        format!("LVM-{}{}", group.to_string().repeat(32), volume.to_string().repeat(32))
    }

    #[test]
    fn a_group_is_the_systems_by_what_lies_on_any_of_its_volumes() {
        let ids = [id('a', '1'), id('a', '2'), id('b', '1'), id('b', '2'), id('c', '1')];
        let tpool = format!("{}-tpool", id('c', '2'));
        let all: &[(&str, &str, &str, &[&str])] = &[
            ("8:0", "", "", &["253:0"]),
            ("253:0", &ids[0], "vg-root", &[]),
            ("253:1", &ids[1], "vg-spare", &[]),
            ("253:2", &ids[2], "my--vms-web", &[]),
            ("253:3", &ids[3], "my--vms-crypt--ed", &["253:6"]),
            ("253:4", &ids[4], "thin-web", &[]),
            ("253:5", &tpool, "thin-pool-tpool", &["253:4"]),
            ("253:6", "CRYPT-LUKS2-0", "home", &[]),
        ];
        let (_dir, found) = devices(all, &[("253:0", "/")]);
        let group = |number: &str| found.group(number);
        let named =
            |id: &str, name: &str| Some(Group { id: id[..ID].to_owned(), name: name.to_owned() });
        assert_eq!(group("253:1"), named(&ids[0], "vg"));
        assert_eq!(group("253:3"), named(&ids[2], "my-vms"));
        assert_eq!((group("8:0"), group("253:6"), group("9:9")), (None, None, None));
        let on = |devices: &Devices, id: &str| devices.system_on(&id[..ID]).map(str::to_owned);
        assert_eq!(on(&found, &ids[1]).as_deref(), Some("/"));
        assert_eq!((on(&found, &ids[2]), on(&found, &ids[4])), (None, None));
        // Through what is encrypted, and through a pool of thin volumes.
        let (_dir, found) = devices(all, &[("253:6", "/home"), ("253:4", "swap")]);
        assert_eq!(on(&found, &ids[2]).as_deref(), Some("/home"));
        assert_eq!(on(&found, &tpool).as_deref(), Some("swap"));
        assert_eq!(on(&found, &ids[0]), None);
    }

    #[test]
    fn root_allows_a_group_by_its_directory_of_volumes() {
        let (dir, found) = devices(&[("253:0", &id('a', '1'), "vg-root", &[])], &[("253:0", "/")]);
        let may = |allowed: &[PathBuf]| {
            let owner = Owner { uid: 1, gid: 1, directories: Vec::new() };
            let ledger = Ledger::open(&dir.path().join("ledger")).unwrap();
            let policy = Policy::new(&owner, allowed, None, ledger);
            policy.group(&found, found.group("253:0"))
        };
        let refusal = may(&["/dev/other".into()]).unwrap_err();
        assert_eq!(refusal.allow.as_deref(), Some(Path::new("/dev/vg")));
        assert!(refusal.reason.contains("/ of the host lies on the volume group vg"));
        may(&["/dev/vg".into()]).unwrap();
    }

    #[test]
    fn devices_that_hold_each_other_are_no_way_without_end() {
        let (_dir, found) =
            devices(&[("1:1", &id('a', '1'), "vg-x", &["1:2"]), ("1:2", "", "", &["1:1"])], &[]);
        assert_eq!(found.system_on(&id('a', '1')[..ID]), None);
    }

    #[test]
    fn groups_are_read_off_the_names_of_their_volumes() {
        for (name, group) in [
            ("vg0-web", "vg0"),
            ("vg--0-web--1", "vg-0"),
            ("a----b-c", "a--b"),
            ("vg0-pool_tdata", "vg0"),
            ("plain", "plain"),
        ] {
            assert_eq!(group_in(name), group);
        }
    }
}
