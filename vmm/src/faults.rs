//! [`Faults`]: what becomes of the requests that the host fails, disk by disk (libvirt's
//! `error_policy` and `rerror_policy`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use devices::backend::stats::{ErrorPolicy, FailedOperation, Verdict};
use vmm_protocol::config::{DiskErrors, OnError};
use vmm_protocol::control::{DiskFault, ErrorAction, EventKind};

use crate::notices::Notices;

#[derive(Default)]
pub struct Faults(BTreeMap<String, Arc<DiskFaults>>);

impl Faults {
    /// That of disk `id`, which decides as its kind does until it hears otherwise.
    pub(crate) fn make(&mut self, id: &str, notices: &Arc<Notices>) -> Arc<DiskFaults> {
        let make = || Arc::new(DiskFaults::new(id, notices.clone()));
        self.0.entry(id.to_owned()).or_insert_with(make).clone()
    }

    pub(crate) fn of(&self, id: &str) -> Option<Arc<DiskFaults>> {
        self.0.get(id).cloned()
    }

    /// Disk `id` is gone.
    pub(crate) fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// From now on; whether there is such a disk.
    pub(crate) fn obey(&self, errors: &DiskErrors) -> bool {
        let disk = self.0.get(&errors.id);
        disk.map(|disk| disk.obey(errors)).is_some()
    }

    /// What was kept is tried again, or forgotten.
    pub(crate) fn clear(&self) {
        for disk in self.0.values() {
            disk.fault.store(NONE, Ordering::Relaxed);
        }
    }
}

// What `DiskFaults::fault` holds.
const NONE: u8 = 0;
const NO_SPACE: u8 = 1;
const UNSPECIFIED: u8 = 2;

/// Host errors of one disk: who is told, and what happens.
pub(crate) struct DiskFaults {
    id: String,
    notices: Arc<Notices>,
    /// Discriminants of [`OnError`]: decided on io threads, set by the main loop.
    write: AtomicU8,
    read: AtomicU8,
    errors: AtomicU64,
    /// Why requests wait for the guest to go on.
    fault: AtomicU8,
}

impl DiskFaults {
    fn new(id: &str, notices: Arc<Notices>) -> Self {
        let usual = DiskErrors::usual(id);
        Self {
            id: usual.id,
            notices,
            write: AtomicU8::new(usual.write as u8),
            read: AtomicU8::new(usual.read as u8),
            errors: AtomicU64::new(0),
            fault: AtomicU8::new(NONE),
        }
    }

    fn obey(&self, errors: &DiskErrors) {
        self.write.store(errors.write as u8, Ordering::Relaxed);
        self.read.store(errors.read as u8, Ordering::Relaxed);
    }

    /// Requests that the host has failed so far.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Why requests wait for the guest to go on.
    pub(crate) fn fault(&self) -> Option<DiskFault> {
        match self.fault.load(Ordering::Relaxed) {
            NO_SPACE => Some(DiskFault::NoSpace),
            UNSPECIFIED => Some(DiskFault::Unspecified),
            _ => None,
        }
    }
}

/// Quotas end what may be written as full file systems do.
fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl ErrorPolicy for DiskFaults {
    fn decide(&self, operation: FailedOperation, error: &io::Error) -> Verdict {
        let write = operation != FailedOperation::Read;
        let policy = if write { &self.write } else { &self.read }.load(Ordering::Relaxed);
        let no_space = is_no_space(error);
        let (verdict, action) = match OnError::from_number(policy) {
            OnError::Stop => (Verdict::Stop, ErrorAction::Stop),
            OnError::Enospace if no_space => (Verdict::Stop, ErrorAction::Stop),
            OnError::Ignore => (Verdict::Ignore, ErrorAction::Ignore),
            OnError::Enospace | OnError::Report => (Verdict::Report, ErrorAction::Report),
        };
        self.errors.fetch_add(1, Ordering::Relaxed);
        let (id, error) = (self.id.clone(), error.to_string());
        self.notices.post(EventKind::BlockError { id, write, error, action, no_space });
        if verdict == Verdict::Stop {
            let fault = if no_space { NO_SPACE } else { UNSPECIFIED };
            self.fault.store(fault, Ordering::Relaxed);
            // Last: whoever stops the guest finds everything said.
            self.notices.stop();
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcpu::Inbox;

    fn rig(write: OnError, read: OnError) -> (Arc<Notices>, Faults, Arc<DiskFaults>) {
        let notices = Notices::new(Arc::new(Inbox::new().unwrap()));
        let mut faults = Faults::default();
        let disk = faults.make("virtio-disk0", &notices);
        faults.obey(&DiskErrors { id: "virtio-disk0".to_owned(), write, read });
        (notices, faults, disk)
    }

    fn decide(disk: &DiskFaults, operation: FailedOperation, errno: i32) -> Verdict {
        disk.decide(operation, &io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn each_policy_decides_as_libvirt_says() {
        use FailedOperation::{Flush, Read, Unmap, Write};
        let verdicts = |write, read| {
            let disk = rig(write, read).2;
            [(Read, libc::EIO), (Write, libc::EIO), (Write, libc::ENOSPC), (Unmap, libc::EDQUOT)]
                .map(|(operation, errno)| decide(&disk, operation, errno))
        };
        let [stop, report, ignore] = [Verdict::Stop, Verdict::Report, Verdict::Ignore];
        assert_eq!(verdicts(OnError::Stop, OnError::Stop), [stop; 4]);
        assert_eq!(verdicts(OnError::Report, OnError::Ignore), [ignore, report, report, report]);
        assert_eq!(verdicts(OnError::Enospace, OnError::Report), [report, report, stop, stop]);
        assert_eq!(verdicts(OnError::Ignore, OnError::Stop), [stop, ignore, ignore, ignore]);
        let usual = rig(OnError::Stop, OnError::Stop).1.make("sata0-0-0", &rig_notices());
        assert_eq!(decide(&usual, Flush, libc::ENOSPC), stop);
        assert_eq!(decide(&usual, Flush, libc::EIO), report);
        assert_eq!(decide(&usual, Read, libc::EIO), report);
    }

    fn rig_notices() -> Arc<Notices> {
        Notices::new(Arc::new(Inbox::new().unwrap()))
    }

    #[test]
    fn a_stop_is_told_with_its_reason_until_the_guest_goes_on() {
        let (notices, faults, disk) = rig(OnError::Enospace, OnError::Stop);
        assert!(!notices.take_stop());
        decide(&disk, FailedOperation::Write, libc::ENOSPC);
        assert!(notices.take_stop() && !notices.take_stop());
        assert_eq!((disk.errors(), disk.fault()), (1, Some(DiskFault::NoSpace)));
        let told = notices.take();
        let expected = |kind: &EventKind| {
            matches!(kind, EventKind::BlockError { id, write: true, no_space: true, action, .. }
                if id == "virtio-disk0" && *action == ErrorAction::Stop)
        };
        assert!(told.len() == 1 && expected(&told[0]), "{told:?}");
        decide(&disk, FailedOperation::Read, libc::EIO);
        assert_eq!(disk.fault(), Some(DiskFault::Unspecified));
        faults.clear();
        assert_eq!((disk.errors(), disk.fault()), (2, None));
    }

    #[test]
    fn a_failing_disk_is_reported_once_until_somebody_looks() {
        let (notices, _, disk) = rig(OnError::Report, OnError::Report);
        for _ in 0..100 {
            decide(&disk, FailedOperation::Write, libc::EIO);
        }
        assert_eq!(notices.take().len(), 1);
        decide(&disk, FailedOperation::Flush, libc::ENOSPC);
        assert_eq!((notices.take().len(), disk.errors()), (1, 101));
    }
}
