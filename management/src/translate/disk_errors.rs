//! `error_policy` and `rerror_policy` of disks as policies of the VMM.

use vmm_protocol::config::{DiskErrors, OnError};
use xml::DomainDef;
use xml::device::disk::{Disk, ErrorPolicy, ReadErrorPolicy};

/// Of disks that say something, by their aliases.
pub(crate) fn disk_errors(def: &DomainDef) -> Vec<DiskErrors> {
    def.devices.disks.iter().filter_map(of).collect()
}

/// As libvirt reads it: what is said of errors holds for reads too, unless they have their own, or it
/// is `enospace`, which is no word about reads.
pub(crate) fn of(disk: &Disk) -> Option<DiskErrors> {
    let (id, driver) = (disk.alias.as_ref()?, disk.driver.as_ref()?);
    let (all, reads) = (driver.error_policy, driver.read_error_policy);
    if all.is_none() && reads.is_none() {
        return None;
    }
    let usual = DiskErrors::usual(id);
    let on_reads = match (reads, all) {
        (Some(ReadErrorPolicy::Stop), _) | (None, Some(ErrorPolicy::Stop)) => OnError::Stop,
        (Some(ReadErrorPolicy::Report), _) | (None, Some(ErrorPolicy::Report)) => OnError::Report,
        (Some(ReadErrorPolicy::Ignore), _) | (None, Some(ErrorPolicy::Ignore)) => OnError::Ignore,
        (None, Some(ErrorPolicy::EnoSpace) | None) => usual.read,
    };
    let write = match all {
        Some(ErrorPolicy::Stop) => OnError::Stop,
        Some(ErrorPolicy::Report) => OnError::Report,
        Some(ErrorPolicy::Ignore) => OnError::Ignore,
        Some(ErrorPolicy::EnoSpace) => OnError::Enospace,
        None => usual.write,
    };
    Some(DiskErrors { id: id.clone(), write, read: on_reads })
}

#[cfg(test)]
mod tests {
    use xml::device::disk::{DiskBus, DiskDriver};

    use super::*;

    fn policies(
        all: Option<ErrorPolicy>,
        reads: Option<ReadErrorPolicy>,
    ) -> Option<(OnError, OnError)> {
        let driver =
            DiskDriver { error_policy: all, read_error_policy: reads, ..DiskDriver::default() };
        let mut disk = Disk::named("vda".to_owned(), DiskBus::Virtio);
        (disk.alias, disk.driver) = (Some("virtio-disk0".to_owned()), Some(driver));
        of(&disk).map(|errors| (errors.write, errors.read))
    }

    #[test]
    fn reads_follow_writes_unless_they_have_a_policy_of_their_own_or_space_is_meant() {
        use OnError::{Enospace, Ignore, Report, Stop};
        assert_eq!(policies(None, None), None);
        assert_eq!(policies(Some(ErrorPolicy::Stop), None), Some((Stop, Stop)));
        assert_eq!(policies(Some(ErrorPolicy::EnoSpace), None), Some((Enospace, Report)));
        assert_eq!(policies(None, Some(ReadErrorPolicy::Ignore)), Some((Enospace, Ignore)));
        let both = policies(Some(ErrorPolicy::Report), Some(ReadErrorPolicy::Stop));
        assert_eq!(both, Some((Report, Stop)));
    }
}
