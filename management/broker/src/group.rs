//! Volume groups of LVM, by the host's own `lvm`: its arguments are a vector that no shell reads, its
//! names are checked, and what it reports is read by whoever asked.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::policy::{Judge, Wish};
use crate::pool::run;
use crate::{BrokerError, Granted};

/// Of LVM.
const LONGEST_NAME: usize = 127;
const PROGRAMS: [&str; 2] = ["/sbin/lvm", "/usr/sbin/lvm"];

/// What can be done to a volume group and its volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum GroupAct {
    /// Make it of these devices.
    Build {
        devices: Vec<PathBuf>,
    },
    /// Remove it, when no volume is left in it.
    Delete,
    /// Have its volumes appear as devices, or no longer.
    Activate(bool),
    /// The group's size and free space, in LVM's JSON.
    ReportGroup,
    /// Its volumes, in LVM's JSON.
    ReportVolumes,
    Create {
        volume: String,
        bytes: u64,
    },
    /// It may become smaller.
    Resize {
        volume: String,
        bytes: u64,
    },
    Remove {
        volume: String,
    },
    Rename {
        volume: String,
        to: String,
    },
}

pub(crate) fn act(judge: Judge<'_>, group: &str, act: &GroupAct) -> Result<Granted, BrokerError> {
    if let GroupAct::Build { devices } = act {
        for device in devices {
            let found = judge.find(Wish::Write, "device", device, true)?;
            let device = found.real().unwrap_or(device);
            judge.steady(Wish::Write, device, device.parent().unwrap_or(device))?;
        }
    }
    let arguments = arguments(group, act)?;
    judge.group(group)?;
    let mut command = Command::new(program()?);
    command.args(&arguments);
    let report = run(command, &format!("{} volume group {group:?}", verb(act)))?;
    Ok(match act {
        GroupAct::ReportGroup | GroupAct::ReportVolumes => Granted::Answer(report),
        _ => Granted::Done,
    })
}

/// The host's volume groups and what they lie on, in LVM's JSON.
pub(crate) fn list() -> Result<Granted, BrokerError> {
    let mut command = Command::new(program()?);
    command.args(["vgs", "--reportformat=json", "--readonly", "-o", "vg_name,pv_name"]);
    run(command, "look for volume groups").map(Granted::Answer)
}

fn program() -> Result<&'static Path, BrokerError> {
    PROGRAMS
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
        .ok_or(BrokerError::NoProgram { program: "lvm".into(), package: "lvm2".into() })
}

fn verb(act: &GroupAct) -> &'static str {
    match act {
        GroupAct::Build { .. } => "make",
        GroupAct::Delete => "remove",
        GroupAct::Activate(true) => "activate",
        GroupAct::Activate(false) => "deactivate",
        GroupAct::ReportGroup | GroupAct::ReportVolumes => "look at",
        GroupAct::Create { .. } => "make a volume in",
        GroupAct::Resize { .. } => "resize a volume in",
        GroupAct::Remove { .. } => "remove a volume from",
        GroupAct::Rename { .. } => "rename a volume in",
    }
}

/// What comes after `lvm`.
fn arguments(group: &str, act: &GroupAct) -> Result<Vec<OsString>, BrokerError> {
    check_name("volume group", group)?;
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let of = |volume: &str| -> Result<String, BrokerError> {
        check_name("volume", volume)?;
        Ok(format!("{group}/{volume}"))
    };
    const JSON: [&str; 5] = ["--reportformat=json", "--units=b", "--nosuffix", "--readonly", "-o"];
    Ok(match act {
        GroupAct::Build { devices } => {
            let mut all = words(&["vgcreate", "--", group]);
            for device in devices {
                if !device.is_absolute() {
                    return Err(refused("device", &device.display().to_string()));
                }
                all.push(device.into());
            }
            all
        }
        GroupAct::Delete => words(&["vgremove", "--", group]),
        GroupAct::Activate(true) => words(&["vgchange", "--activate=y", "--", group]),
        GroupAct::Activate(false) => words(&["vgchange", "--activate=n", "--", group]),
        GroupAct::ReportGroup => {
            [words(&["vgs"]), words(&JSON), words(&["vg_size,vg_free", "--", group])].concat()
        }
        GroupAct::ReportVolumes => {
            let fields = "lv_name,lv_size,lv_attr,lv_uuid";
            [words(&["lvs"]), words(&JSON), words(&[fields, "--", group])].concat()
        }
        GroupAct::Create { volume, bytes } => {
            check_name("volume", volume)?;
            let size = format!("--size={bytes}b");
            let name = format!("--name={volume}");
            // What another volume left where this one lies is not its content.
            words(&[
                "lvcreate",
                "--yes",
                "--wipesignatures=y",
                "--zero=y",
                &size,
                &name,
                "--",
                group,
            ])
        }
        GroupAct::Resize { volume, bytes } => {
            let size = format!("--size={bytes}b");
            words(&["lvresize", "--force", &size, "--", &of(volume)?])
        }
        GroupAct::Remove { volume } => words(&["lvremove", "--yes", "--", &of(volume)?]),
        GroupAct::Rename { volume, to } => {
            check_name("volume", volume)?;
            check_name("volume", to)?;
            words(&["lvrename", "--", group, volume, to])
        }
    })
}

/// LVM's own rule.
fn check_name(what: &str, name: &str) -> Result<(), BrokerError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
    let fits = !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(good);
    if fits && !name.starts_with('-') && !matches!(name, "." | "..") {
        return Ok(());
    }
    Err(refused(what, name))
}

fn refused(what: &str, name: &str) -> BrokerError {
    let text = "LVM's names are of letters, digits and +_.-, at most 127, and begin with no '-'";
    let source = io::Error::new(io::ErrorKind::InvalidInput, text);
    BrokerError::Host { act: format!("use {name:?} as the name of a {what}"), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(act: &GroupAct) -> String {
        let words = arguments("vg0", act).unwrap();
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_act_is_one_call_of_lvm() {
        let volume = || "web-1".to_owned();
        for (act, expected) in [
            (GroupAct::Build { devices: vec!["/dev/sdb".into()] }, "vgcreate -- vg0 /dev/sdb"),
            (GroupAct::Activate(true), "vgchange --activate=y -- vg0"),
            (
                GroupAct::ReportGroup,
                "vgs --reportformat=json --units=b --nosuffix --readonly -o vg_size,vg_free -- vg0",
            ),
            (
                GroupAct::Create { volume: volume(), bytes: 4096 },
                "lvcreate --yes --wipesignatures=y --zero=y --size=4096b --name=web-1 -- vg0",
            ),
            (
                GroupAct::Resize { volume: volume(), bytes: 8192 },
                "lvresize --force --size=8192b -- vg0/web-1",
            ),
            (GroupAct::Remove { volume: volume() }, "lvremove --yes -- vg0/web-1"),
            (
                GroupAct::Rename { volume: ".manor-1.partial".to_owned(), to: volume() },
                "lvrename -- vg0 .manor-1.partial web-1",
            ),
        ] {
            assert_eq!(line(&act), expected);
        }
    }

    #[test]
    fn names_that_lvm_would_read_as_something_else_reach_it_never() {
        for name in ["", "-f", "a/b", "..", "a b", "a;b", "ü", "@tag", &"x".repeat(128)] {
            let volume = name.to_owned();
            let acts = [
                GroupAct::Create { volume: volume.clone(), bytes: 1 },
                GroupAct::Resize { volume: volume.clone(), bytes: 1 },
                GroupAct::Rename { volume: "web".to_owned(), to: volume.clone() },
                GroupAct::Rename { volume: volume.clone(), to: "web".to_owned() },
                GroupAct::Remove { volume },
            ];
            for act in acts {
                assert!(arguments("vg0", &act).is_err(), "{name:?}");
            }
            assert!(arguments(name, &GroupAct::Delete).is_err(), "{name:?}");
        }
        let devices = vec!["--force".into()];
        assert!(arguments("vg0", &GroupAct::Build { devices }).is_err());
    }
}
