//! `<domainbackup>`: what is backed up, since when, and where to; by libvirt's backup format.

use std::path::PathBuf;

use crate::cursor::Cursor;
use crate::device::disk::DiskFormat;
use crate::diagnostic::Kind;
use crate::document::{self, Bounds, Parsed};
use crate::element::{Element as _, element};
use crate::value::names;
use crate::write::Writer;
use crate::{Diagnostics, YesNo};

names! {
    /// Who moves the bytes: a client that takes them, or the host.
    pub enum BackupMode { Pull = "pull", Push = "push" }
    pub enum BackupTransport { Unix = "unix", Tcp = "tcp" }
    /// Where a file of a backup lies.
    pub enum BackupFileType { File = "file", Block = "block" }
    pub enum DiskBackupMode { Full = "full", Incremental = "incremental" }
}

element! {
    pub struct BackupDef {
        /// Push, if it is not said.
        attr mode: Option<BackupMode>,
        /// Told, never asked for.
        attr id: Option<u32>,
        /// The checkpoint since which.
        child incremental: Option<String>,
        child server: Option<BackupServer>,
        section disks: BackupDisks,
    }
    check BackupDef::check;
}

element! {
    pub struct BackupServer {
        /// TCP, if it is not said.
        attr transport: Option<BackupTransport>,
        attr tls: Option<YesNo>,
        attr socket: Option<PathBuf>,
        attr name: Option<String>,
        attr port: Option<u16>,
    }
    refuse ["@fd", "@fdgroup"];
    check BackupServer::check;
}

element! {
    #[derive(Default)]
    pub struct BackupDisks {
        child("disk") all: Vec<BackupDisk>,
    }
}

element! {
    pub struct BackupDisk {
        attr name: String,
        attr backup: Option<YesNo>,
        attr("type") kind: Option<BackupFileType>,
        attr("backupmode") mode: Option<DiskBackupMode>,
        attr incremental: Option<String>,
        attr("exportname") export_name: Option<String>,
        attr("exportbitmap") export_bitmap: Option<String>,
        /// Told, never asked for.
        attr index: Option<u32>,
        leaf("driver" "type") format: Option<DiskFormat>,
        child scratch: Option<BackupFile>,
        child target: Option<BackupFile>,
    }
}

element! {
    #[derive(Default)]
    pub struct BackupFile {
        attr file: Option<PathBuf>,
        attr dev: Option<PathBuf>,
    }
    refuse ["encryption", "seclabel"];
}

impl BackupDef {
    /// Read what a backup is to be, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "domainbackup", Bounds::OUTSIDE)
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "domainbackup", Bounds::OWN)
    }

    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        self.write("domainbackup", &mut out);
        out.finish()
    }

    #[must_use]
    pub fn is_pull(&self) -> bool {
        self.mode == Some(BackupMode::Pull)
    }

    fn check(&self, at: Cursor<'_>) {
        let pull = self.is_pull();
        if pull != self.server.is_some() {
            let text = match pull {
                true => "a backup that is pulled needs <server>, where clients connect",
                false => "only a backup that is pulled (mode='pull') has a <server>",
            };
            at.error(Kind::Invalid, text.to_owned());
        }
        let (foreign, why) = match pull {
            true => ("target", "a backup that is pulled has <scratch>, and no <target>"),
            false => ("scratch", "a backup that is pushed has <target>, and no <scratch>"),
        };
        let Some(disks) = at.child("disks") else { return };
        for (disk, def) in disks.children("disk").zip(&self.disks.all) {
            let wrong = if pull { def.target.is_some() } else { def.scratch.is_some() };
            if wrong && let Some(at) = disk.child(foreign) {
                at.error(Kind::Invalid, why.to_owned());
            }
            if !pull && (def.export_name.is_some() || def.export_bitmap.is_some()) {
                let text = "only a backup that is pulled has exports";
                disk.error(Kind::Invalid, text.to_owned());
            }
        }
    }
}

impl BackupServer {
    fn check(&self, at: Cursor<'_>) {
        let unix = self.transport == Some(BackupTransport::Unix);
        if unix && !self.socket.as_ref().is_some_and(|path| path.is_absolute()) {
            at.error(Kind::Invalid, "transport='unix' needs socket, an absolute path".to_owned());
        }
        if !unix && self.name.is_none() {
            at.error(
                Kind::Invalid,
                "transport='tcp' needs name, an address to listen at".to_owned(),
            );
        }
        if self.tls == Some(YesNo::Yes) {
            let text = "exports are served without TLS: use a unix socket, or a tunnel";
            at.error(Kind::Unsupported, text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: &str = "\
<domainbackup mode='pull'>
  <incremental>first</incremental>
  <server transport='unix' socket='/run/backup.sock'/>
  <disks>
    <disk name='vda' backup='yes' type='file' exportname='vda' exportbitmap='b'>
      <driver type='qcow2'/>
      <scratch file='/var/tmp/vda.scratch'/>
    </disk>
    <disk name='vdb' backup='no'/>
  </disks>
</domainbackup>
";

    #[test]
    fn a_backup_is_read_and_written() {
        let def = BackupDef::parse(PULL).unwrap().value;
        assert_eq!(def.to_xml(), PULL);
        assert!(def.is_pull());
        let push = "<domainbackup/>";
        assert!(!BackupDef::parse(push).unwrap().value.is_pull());
    }

    #[test]
    fn what_contradicts_the_mode_is_named() {
        let refused = |from: &str, to: &str| {
            let text = PULL.replace(from, to);
            assert_ne!(text, PULL);
            BackupDef::parse(&text).unwrap_err().to_string()
        };
        assert!(refused("mode='pull'", "mode='push'").contains("<server>"));
        assert!(refused("scratch file", "target file").contains("no <target>"));
        assert!(refused("socket='/run/backup.sock'", "socket='run'").contains("absolute path"));
        assert!(refused("transport='unix'", "transport='tcp'").contains("needs name"));
        assert!(refused("transport='unix'", "tls='yes' transport='unix'").contains("without TLS"));
        assert!(refused("backup='no'", "bakup='no'").contains("backup"));
    }
}
