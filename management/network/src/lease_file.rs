//! [`LeaseFile`]: leases on disk in records of fixed size, each written by one call. A crash damages
//! at most the record being written, and that one is skipped by who reads it.
//!
//! Nothing is synced: the page cache outlives this process, and what a power cut takes ends the
//! guests as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Lease;
use crate::lease::{MAX_LEASES, RECORD, slots};

#[derive(Debug, thiserror::Error)]
pub enum LeaseFileError {
    #[error("the lease file has {MAX_LEASES} records, which is as many as it takes")]
    Full,
    #[error("the lease of {address} does not fit a record of {RECORD} bytes")]
    TooLong { address: IpAddr },
    #[error("cannot write to the lease file")]
    Write(#[source] io::Error),
}

/// One file for the servers of both families: each writes records of its own addresses.
#[derive(Debug, Clone)]
pub struct LeaseFile(Arc<Mutex<Records>>);

#[derive(Debug)]
struct Records {
    file: File,
    /// Number of the record that holds an address.
    used: BTreeMap<IpAddr, usize>,
    free: Vec<usize>,
    end: usize,
}

impl LeaseFile {
    /// Take up `file` with the leases it holds.
    pub fn load(file: File) -> io::Result<(Self, Vec<Lease>)> {
        let mut leases: BTreeMap<IpAddr, (usize, Lease)> = BTreeMap::new();
        let mut free = Vec::new();
        let records = slots(&file)?;
        let end = records.len();
        for (number, record) in records.into_iter().enumerate() {
            let Some(lease) = record else {
                free.push(number);
                continue;
            };
            // Only damage makes two of one address; the one that ends later was written later.
            if leases.get(&lease.address).is_some_and(|(_, other)| later(other, &lease)) {
                free.push(number);
            } else if let Some((other, _)) = leases.insert(lease.address, (number, lease)) {
                free.push(other);
            }
        }
        let used = leases.iter().map(|(address, (number, _))| (*address, *number)).collect();
        let leases = leases.into_values().map(|(_, lease)| lease).collect();
        let records = Records { file, used, free, end };
        Ok((Self(Arc::new(Mutex::new(records))), leases))
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Write a lease in place of what is on record for its address.
    pub fn put(&mut self, lease: &Lease) -> Result<(), LeaseFileError> {
        self.records().put(lease)
    }

    pub fn remove(&mut self, address: IpAddr) -> Result<(), LeaseFileError> {
        self.records().remove(address)
    }
}

impl Records {
    fn put(&mut self, lease: &Lease) -> Result<(), LeaseFileError> {
        let address = lease.address;
        let record = encode(lease).ok_or(LeaseFileError::TooLong { address })?;
        let number = match self.used.get(&address) {
            Some(number) => *number,
            None => match self.free.pop() {
                Some(number) => number,
                None if self.end < MAX_LEASES => {
                    self.end += 1;
                    self.end - 1
                }
                None => return Err(LeaseFileError::Full),
            },
        };
        match self.write(number, &record) {
            Ok(()) => {
                self.used.insert(address, number);
                Ok(())
            }
            Err(error) => {
                if !self.used.contains_key(&address) {
                    self.free.push(number);
                }
                Err(error)
            }
        }
    }

    fn remove(&mut self, address: IpAddr) -> Result<(), LeaseFileError> {
        let Some(number) = self.used.get(&address).copied() else { return Ok(()) };
        let mut blank = [b' '; RECORD];
        blank[RECORD - 1] = b'\n';
        self.write(number, &blank)?;
        self.used.remove(&address);
        self.free.push(number);
        Ok(())
    }

    fn write(&self, number: usize, record: &[u8; RECORD]) -> Result<(), LeaseFileError> {
        self.file.write_all_at(record, (number * RECORD) as u64).map_err(LeaseFileError::Write)
    }
}

fn later(one: &Lease, other: &Lease) -> bool {
    one.expires.unwrap_or(u64::MAX) > other.expires.unwrap_or(u64::MAX)
}

/// One line of JSON, filled up with spaces; `None` when it is too long.
fn encode(lease: &Lease) -> Option<[u8; RECORD]> {
    let mut record = [b' '; RECORD];
    let (last, line) = record.split_last_mut()?;
    *last = b'\n';
    let mut rest: &mut [u8] = line;
    let text = serde_json::to_vec(lease).ok()?;
    rest.write_all(&text).ok()?;
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hex, Mac, read_leases};

    fn lease(last: u8, expires: u64) -> Lease {
        Lease {
            mac: Mac([2, 0, 0, 0, 0, last]),
            client_id: Some(Hex(vec![1, last])),
            association: Some(u32::MAX),
            address: IpAddr::from([192, 168, 122, last]),
            hostname: Some(format!("guest{last}")),
            expires: Some(expires),
        }
    }

    #[test]
    fn leases_outlive_the_process() {
        let file = tempfile::tempfile().unwrap();
        let (mut leases, found) = LeaseFile::load(file.try_clone().unwrap()).unwrap();
        assert!(found.is_empty());
        for last in 2..6 {
            leases.put(&lease(last, 100)).unwrap();
        }
        leases.put(&lease(3, 200)).unwrap();
        leases.remove(lease(4, 0).address).unwrap();
        leases.put(&lease(9, 100)).unwrap();
        drop(leases);
        let (_, found) = LeaseFile::load(file.try_clone().unwrap()).unwrap();
        assert_eq!(found, [lease(2, 100), lease(3, 200), lease(5, 100), lease(9, 100)]);
        assert_eq!(file.metadata().unwrap().len(), 4 * 512, "a freed record is used again");
        assert_eq!(read_leases(&file).unwrap().len(), 4);
    }

    #[test]
    fn a_damaged_record_costs_one_lease() {
        let file = tempfile::tempfile().unwrap();
        let (mut leases, _) = LeaseFile::load(file.try_clone().unwrap()).unwrap();
        for last in 2..5 {
            leases.put(&lease(last, 100)).unwrap();
        }
        file.write_all_at(&[0xff; 700], 300).unwrap();
        file.set_len(3 * 512 - 7).unwrap();
        let (mut leases, found) = LeaseFile::load(file.try_clone().unwrap()).unwrap();
        assert!(found.is_empty());
        leases.put(&lease(2, 100)).unwrap();
        leases.put(&lease(3, 100)).unwrap();
        leases.put(&lease(4, 100)).unwrap();
        assert_eq!(read_leases(&file).unwrap().len(), 3);
    }

    #[test]
    fn the_longest_lease_fits_a_record() {
        let mut long = lease(2, u64::MAX);
        long.client_id = Some(Hex(vec![0xff; crate::dhcp::MAX_CLIENT_ID]));
        long.hostname = Some("x".repeat(63));
        assert!(encode(&long).is_some());
        long.client_id = Some(Hex(vec![0xff; 400]));
        assert!(encode(&long).is_none());
    }
}
