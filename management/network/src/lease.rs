//! [`Lease`]: who has which address for how long, and the record of it that the daemon reads.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::{Hex, Mac};

/// Bytes of a record in a lease file.
pub(crate) const RECORD: usize = 512;
/// Leases at once, and so records in a file: 32 MiB at most.
pub(crate) const MAX_LEASES: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub mac: Mac,
    /// Option 61, when the client sent one; with IPv6, its DUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Hex>,
    /// With IPv6, whose identifier stands for the whole client: the number of its interface (IAID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<u32>,
    pub address: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Seconds since 1970; `None` never ends. Leases that have ended stay on record until another
    /// client needs the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl Lease {
    /// Whether the client may use the address at `now`, in seconds since 1970.
    pub fn is_live(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

/// All leases on record, those that have ended included. Safe while the server writes: each record
/// is written at once, and one that is damaged is left out.
pub fn read_leases(file: &File) -> io::Result<Vec<Lease>> {
    Ok(slots(file)?.into_iter().flatten().collect())
}

/// What each record of `file` holds; `None` where one is free or damaged.
pub(crate) fn slots(file: &File) -> io::Result<Vec<Option<Lease>>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(MAX_LEASES * RECORD)];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.chunks(RECORD).map(parse).collect())
}

fn parse(record: &[u8]) -> Option<Lease> {
    serde_json::from_slice(record.strip_suffix(b"\n")?).ok()
}
