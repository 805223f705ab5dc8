//! [`Record`]: what a server's table puts into the lease file, if it has one.

use std::net::IpAddr;
use std::time::Duration;

use crate::limit::Quiet;
use crate::{Lease, LeaseFile};

#[derive(Debug)]
pub(crate) struct Record {
    file: Option<LeaseFile>,
    trouble: Quiet,
}

impl Record {
    pub(crate) fn new(file: Option<LeaseFile>) -> Self {
        Self { file, trouble: Quiet::once_in(Duration::from_secs(60)) }
    }

    /// What is known of `address` from now on. A lease that cannot be written down is given all the
    /// same: the guest is served, and only a restart of the server would forget it.
    pub(crate) fn write(&mut self, address: IpAddr, lease: Option<&Lease>) {
        let Some(file) = &mut self.file else { return };
        let written = match lease {
            Some(lease) => file.put(lease),
            None => file.remove(address),
        };
        if let Err(error) = written
            && let Some(held_back) = self.trouble.admit()
        {
            let error = crate::chain(&error);
            tracing::error!(%address, error, held_back, "a lease is not on record");
        }
    }
}
