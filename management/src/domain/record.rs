//! What is written down of a running domain, in its run directory and in the VMM itself: enough
//! for a daemon that knows nothing to take it over, or to clean up after it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use broker::ProcessId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::block_jobs::BlockJobIntent;
use super::channels::Frozen;
use super::dump::DumpIntent;
use super::fork::ForkIntent;
use super::media::MediumIntent;
use super::plug::PlugIntent;
use super::restore::RestoreIntent;
use super::save::SaveIntent;

pub(crate) const FILE: &str = "record.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub version: u16,
    pub uuid: Uuid,
    pub name: String,
    /// libvirt's number of a running domain.
    pub id: u32,
    pub start_token: Uuid,
    pub boot_id: Uuid,
    pub platform: u16,
    pub started: jiff::Timestamp,
    /// The definition it was started from, and as it runs.
    pub definition: String,
    pub live: String,
    pub cgroup: Option<PathBuf>,
    /// Whom the VMM became.
    #[serde(default)]
    pub user: Option<u32>,
    /// None until the process is there: written before it is.
    #[serde(default)]
    pub process: Option<ProcessId>,
    /// The guest was asked to shut down so that it starts again.
    #[serde(default)]
    pub rebooting: bool,
    /// A medium that is about to be exchanged: written down before the VMM is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<MediumIntent>,
    /// Devices that are about to come, by alias: written down before the VMM is told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugs: BTreeMap<String, PlugIntent>,
    /// Block jobs of its disks, by alias: written down before the VMM is told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub block_jobs: BTreeMap<String, BlockJobIntent>,
    /// A file that is being made for a block job, by the name that it has until it is whole: written down
    /// before it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub making: Option<PathBuf>,
    /// Its file systems were frozen through its agent, or are about to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// What the live definition was before a change of tuning that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<String>,
    /// An interface that is about to be in another bridge, as the live definition shows it then: written
    /// down before anything of that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<String>,
    /// Its state is being saved: written down before anything of that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saving: Option<SaveIntent>,
    /// It is being dumped: written down before anything of that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dumping: Option<DumpIntent>,
    /// It is being cloned: written down before anything of that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forking: Option<ForkIntent>,
    /// How long its agent may take to answer; none: as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_timeout: Option<i32>,
    /// It came from a saved state.
    #[serde(default)]
    pub restored: bool,
    /// Since then it has not run, and its clock was not set.
    #[serde(default)]
    pub clock_stands: bool,
    /// It is to go on from a saved state, and has not run since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<RestoreIntent>,
    /// What the host did not offer.
    #[serde(default)]
    pub degraded: Vec<String>,
}

impl Record {
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(dir.join(FILE))?)?)
    }

    /// Replaces the old one whole. Lasts as long as the host is up, as what it speaks of does.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let unfinished = dir.join("record.tmp");
        std::fs::write(&unfinished, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(unfinished, dir.join(FILE))
    }

    /// As the VMM keeps it.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
