//! What the fuzz target does with a definition.

use crate::{BackupDef, CheckpointDef, DomainDef, FilterDef, NetworkDef, SnapshotDef};
use crate::{PoolDef, SecretDef, VolumeDef};

/// Read it as it comes from a client; what was accepted is what its own text says.
///
/// # Panics
/// If a definition does not come back as it was.
pub fn domain(bytes: &[u8]) {
    let Ok(parsed) = DomainDef::parse_bytes(bytes) else { return };
    let text = parsed.value.to_xml();
    let again = DomainDef::parse_stored(&text).expect("what was written can be read");
    assert_eq!(again.value.to_xml(), text, "a definition that changes");
}

/// The same of a network.
///
/// # Panics
/// If a definition does not come back as it was.
pub fn network(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(parsed) = NetworkDef::parse(text) else { return };
    let text = parsed.value.to_xml();
    let again = NetworkDef::parse_stored(&text).expect("what was written can be read");
    assert_eq!(again.value.to_xml(), text, "a definition that changes");
}

/// The same of a filter.
///
/// # Panics
/// If a definition does not come back as it was.
pub fn filter(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(parsed) = FilterDef::parse(text) else { return };
    let text = parsed.value.to_xml();
    let again = FilterDef::parse_stored(&text).expect("what was written can be read");
    assert_eq!(again.value.to_xml(), text, "a definition that changes");
}

/// The same of a snapshot.
///
/// # Panics
/// If a definition does not come back as it was.
pub fn snapshot(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(parsed) = SnapshotDef::parse(text) else { return };
    let text = parsed.value.to_xml();
    let again = SnapshotDef::parse_stored(&text).expect("what was written can be read");
    assert_eq!(again.value.to_xml(), text, "a snapshot that changes");
}

/// The same of a backup, and of a checkpoint.
///
/// # Panics
/// If a document does not come back as it was.
pub fn backup(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(parsed) = BackupDef::parse(text) {
        let text = parsed.value.to_xml();
        let again = BackupDef::parse_stored(&text).expect("what was written can be read");
        assert_eq!(again.value.to_xml(), text, "a backup that changes");
    }
    if let Ok(parsed) = CheckpointDef::parse(text) {
        let text = parsed.value.to_xml();
        let again = CheckpointDef::parse_stored(&text).expect("what was written can be read");
        assert_eq!(again.value.to_xml(), text, "a checkpoint that changes");
    }
}

/// The same of a pool, of a volume, and of a secret.
///
/// # Panics
/// If a document does not come back as it was.
pub fn storage(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(parsed) = PoolDef::parse(text) {
        let text = parsed.value.to_xml();
        let again = PoolDef::parse_stored(&text).expect("what was written can be read");
        assert_eq!(again.value.to_xml(), text, "a pool that changes");
    }
    if let Ok(parsed) = VolumeDef::parse(text) {
        let text = parsed.value.to_xml();
        let again = VolumeDef::parse(&text).expect("what was written can be read");
        assert_eq!(again.value.to_xml(), text, "a volume that changes");
    }
    if let Ok(parsed) = SecretDef::parse(text) {
        let text = parsed.value.to_xml();
        let again = SecretDef::parse_stored(&text).expect("what was written can be read");
        assert_eq!(again.value.to_xml(), text, "a secret that changes");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn definitions_may_be_anything() {
        manor_tests::seeds::replay("domain_xml", 400, super::domain);
    }

    #[test]
    fn backups_may_be_anything() {
        manor_tests::seeds::replay("backup_xml", 400, super::backup);
    }

    #[test]
    fn pools_volumes_and_secrets_may_be_anything() {
        manor_tests::seeds::replay("storage_xml", 400, super::storage);
    }

    #[test]
    fn networks_may_be_anything() {
        manor_tests::seeds::replay("network_xml", 400, super::network);
    }

    #[test]
    fn filters_may_be_anything() {
        manor_tests::seeds::replay("filter_xml", 400, super::filter);
    }

    #[test]
    fn snapshots_may_be_anything() {
        manor_tests::seeds::replay("snapshot_xml", 400, super::snapshot);
    }
}
