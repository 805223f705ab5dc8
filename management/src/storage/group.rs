//! Logical pools: volume groups of LVM, whose volumes are block devices. LVM itself does each act as
//! a whole or not at all, so an empty volume is not made under another name first; a copy is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use broker::{GroupAct, PoolContents, PoolFile, Wanted};
use serde::Deserialize;
use xml::storage::PoolType;

use super::VolumeView;
use super::create::NewVolume;
use super::pool::{State, no_volume};
use crate::error::{Code, Error};
use crate::events::PoolChange;
use crate::host::escape;

/// LVM's report of one kind of things.
#[derive(Debug, Deserialize)]
struct Report<T> {
    report: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct Groups {
    vg: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    vg_size: String,
    vg_free: String,
}

#[derive(Debug, Deserialize)]
struct Volumes {
    lv: Vec<Volume>,
}

#[derive(Debug, Deserialize)]
struct Volume {
    lv_name: String,
    lv_size: String,
    lv_attr: String,
}

#[derive(Debug, Deserialize)]
struct Found {
    vg: Vec<Source>,
}

#[derive(Debug, Deserialize)]
struct Source {
    vg_name: String,
    pv_name: String,
}

/// The host's volume groups as libvirt's `<sources>`, by LVM's report: a row for each device of each.
pub(crate) fn sources(report: &[u8]) -> Result<String, Error> {
    let report: Report<Found> = serde_json::from_slice(report).map_err(nonsense)?;
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Source { vg_name, pv_name } in report.report.into_iter().flat_map(|found| found.vg) {
        groups.entry(vg_name).or_default().push(pv_name);
    }
    let mut xml = "<sources>\n".to_owned();
    for (name, devices) in groups {
        let _ = writeln!(xml, "  <source>\n    <name>{}</name>", escape(&name));
        for device in devices.iter().filter(|device| device.starts_with('/')) {
            let _ = writeln!(xml, "    <device path='{}'/>", escape(device));
        }
        xml.push_str("    <format type='lvm2'/>\n  </source>\n");
    }
    xml.push_str("</sources>\n");
    Ok(xml)
}

/// Bytes in all, and free.
fn space(report: &[u8]) -> Result<(u64, u64), Error> {
    let report: Report<Groups> = serde_json::from_slice(report).map_err(nonsense)?;
    let group = report.report.into_iter().flat_map(|groups| groups.vg).next();
    let group =
        group.ok_or_else(|| Error::new(Code::ResourceMissing, "LVM knows no such group"))?;
    Ok((bytes(&group.vg_size)?, bytes(&group.vg_free)?))
}

/// Names and bytes of the volumes that a guest could have.
fn volumes(report: &[u8]) -> Result<Vec<(String, u64)>, Error> {
    let report: Report<Volumes> = serde_json::from_slice(report).map_err(nonsense)?;
    let all = report.report.into_iter().flat_map(|volumes| volumes.lv);
    // The first letter is the kind: pools of thin and of deduplicated volumes are no disks.
    let disks = all.filter(|volume| !volume.lv_attr.starts_with(['t', 'd', 'D']));
    disks.map(|volume| Ok((volume.lv_name, bytes(&volume.lv_size)?))).collect()
}

fn bytes(text: &str) -> Result<u64, Error> {
    text.parse().map_err(nonsense)
}

fn nonsense(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::HostFailure, "what LVM reports makes no sense").with_source(error)
}

impl State {
    /// The volume group, if the pool is one.
    pub(super) fn group(&self) -> Option<&str> {
        self.def.group()
    }

    pub(super) fn group_contents(
        &self,
        group: &str,
        wanted: &Wanted,
    ) -> Result<PoolContents, Error> {
        let broker = &self.shared.broker;
        let (capacity, available) = space(&broker.group_report(group, GroupAct::ReportGroup)?)?;
        let found = match wanted {
            Wanted::Nothing => Vec::new(),
            Wanted::All | Wanted::One(_) => {
                volumes(&broker.group_report(group, GroupAct::ReportVolumes)?)?
            }
        };
        let is_wanted = |name: &str| !matches!(wanted, Wanted::One(one) if one != name);
        let file = |(name, size): (String, u64)| PoolFile {
            name,
            inode: 0,
            size,
            allocated: size,
            mode: 0o600,
            owner: 0,
            group: 0,
            times: [(0, 0); 3],
        };
        let files = found.into_iter().filter(|(name, _)| is_wanted(name)).map(file).collect();
        Ok(PoolContents { capacity, available, changed: None, files })
    }

    pub(super) fn build_group(&self, group: &str) -> Result<(), Error> {
        let source = self.def.source.as_ref();
        let devices = source.map(|source| source.devices.as_slice()).unwrap_or_default();
        if devices.is_empty() {
            let text = format!(
                "pool {:?} names no <device path=…/> that volume group {group:?} could be made of",
                self.name()
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let devices = devices.iter().map(|device| device.path.clone()).collect();
        Ok(self.shared.broker.group(group, GroupAct::Build { devices })?)
    }

    /// Its volumes appear as devices with the pool, and vanish with it.
    pub(super) fn activate_group(&self, active: bool) -> Result<(), Error> {
        match self.group() {
            Some(group) => Ok(self.shared.broker.group(group, GroupAct::Activate(active))?),
            None => Ok(()),
        }
    }

    /// Block devices hold raw volumes, and nothing else that a pool makes.
    fn need_raw(&self, new: &NewVolume) -> Result<(), Error> {
        if new.format == image::Format::Raw {
            return Ok(());
        }
        let text = format!(
            "the volumes of pool {:?} are block devices, and raw; not {}",
            self.name(),
            new.format
        );
        Err(Error::new(Code::Unsupported, text))
    }

    /// Make a device that is to be filled, under another name for now.
    pub(super) fn begin_device(
        &self,
        group: &str,
        new: &NewVolume,
        unfinished: &str,
    ) -> Result<OwnedFd, Error> {
        self.need_raw(new)?;
        let broker = &self.shared.broker;
        let create = GroupAct::Create { volume: unfinished.to_owned(), bytes: new.capacity };
        broker.group(group, create)?;
        broker.pool_open(self.dir(), unfinished, true, false).map_err(|error| {
            let remove = GroupAct::Remove { volume: unfinished.to_owned() };
            if let Err(error) = broker.group(group, remove) {
                tracing::warn!(error = %Error::from(error).chain(), "an empty volume stays");
            }
            error.into()
        })
    }

    /// Make a volume of a logical pool.
    pub(crate) fn make_device(&mut self, new: &NewVolume) -> Result<VolumeView, Error> {
        self.need_active()?;
        let group = self.group().unwrap_or_default().to_owned();
        self.need_raw(new)?;
        if self.look_again(&new.name)?.is_some() {
            let text =
                format!("there is a volume {:?} in pool {:?} already", new.name, self.name());
            return Err(Error::new(Code::Exists, text));
        }
        let create = GroupAct::Create { volume: new.name.clone(), bytes: new.capacity };
        self.shared.broker.group(&group, create)?;
        let made = self.look_again(&new.name)?;
        self.tell_volume(PoolChange::VolumeCreated, &new.name);
        made.ok_or_else(|| no_volume(&self.name(), &new.name))
    }

    pub(crate) fn is_group(&self) -> bool {
        self.def.kind == PoolType::Logical
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As LVM 2.03 writes it.
    const VOLUMES: &str = r#"  {
      "report": [
          {
              "lv": [
                  {"lv_name":"root", "lv_size":"10737418240", "lv_attr":"-wi-ao----", "lv_uuid":"HPOAY1-nD1p-TbZ5-uFJb-NQRM-Wq1x-9sUwpO"},
                  {"lv_name":"thin", "lv_size":"1073741824", "lv_attr":"twi-a-tz--", "lv_uuid":"e7LGwd-7tEh-dk3i-yGYn-3zfJ-9DCK-Hx3RLg"},
                  {"lv_name":"web-1", "lv_size":"4194304", "lv_attr":"Vwi-a-tz--", "lv_uuid":"3q7gHF-1JvC-TX0k-dIdO-lfkh-oX0W-r2nPRD"}
              ]
          }
      ]
  }
"#;
    const GROUP: &str = r#"  {
      "report": [
          {
              "vg": [
                  {"vg_size":"21470642176", "vg_free":"9655287808"}
              ]
          }
      ]
  }
"#;

    #[test]
    fn reports_of_lvm_are_read() {
        assert_eq!(space(GROUP.as_bytes()).unwrap(), (21_470_642_176, 9_655_287_808));
        let found = volumes(VOLUMES.as_bytes()).unwrap();
        assert_eq!(found, [("root".to_owned(), 10_737_418_240), ("web-1".to_owned(), 4_194_304)]);
        let none = r#"{"report":[{"lv":[]}]}"#;
        assert_eq!(volumes(none.as_bytes()).unwrap(), []);
    }

    #[test]
    fn what_lvm_does_not_say_is_no_report() {
        for text in ["", "{}", r#"{"report":[{"vg":[]}]}"#, &GROUP.replace("21470642176", "20g")] {
            assert!(space(text.as_bytes()).is_err(), "{text}");
        }
    }
}
