//! Which pools and volumes there can be, as libvirt's `<storagepoolCapabilities>` say it
//! (virConnectGetStoragePoolCapabilities).

use std::fmt::Write as _;

use xml::storage::PoolType;

/// Of volumes, the usual one first; none: Manor has no such pools.
fn volume_formats(kind: PoolType) -> Option<&'static [&'static str]> {
    match kind {
        PoolType::Dir | PoolType::Fs | PoolType::NetFs => Some(&["raw", "qcow2"]),
        PoolType::Logical => Some(&[]),
        _ => None,
    }
}

/// In libvirt's order, which is that of its numbers.
const KINDS: [PoolType; 14] = [
    PoolType::Dir,
    PoolType::Fs,
    PoolType::NetFs,
    PoolType::Logical,
    PoolType::Disk,
    PoolType::Iscsi,
    PoolType::IscsiDirect,
    PoolType::Scsi,
    PoolType::Mpath,
    PoolType::Rbd,
    PoolType::Sheepdog,
    PoolType::Gluster,
    PoolType::Zfs,
    PoolType::Vstorage,
];

pub(crate) fn describe() -> String {
    let mut out = "<storagepoolCapabilities>\n".to_owned();
    for kind in KINDS {
        let Some(target) = volume_formats(kind) else {
            let _ = writeln!(out, "  <pool type='{kind}' supported='no'/>");
            continue;
        };
        let _ = writeln!(out, "  <pool type='{kind}' supported='yes'>");
        options(&mut out, "poolOptions", "sourceFormatType", kind.source_formats());
        options(&mut out, "volOptions", "targetFormatType", target);
        out.push_str("  </pool>\n");
    }
    out.push_str("</storagepoolCapabilities>\n");
    out
}

/// Nothing is written where there is nothing to choose.
fn options(out: &mut String, name: &str, of: &str, formats: &[&str]) {
    let Some(usual) = formats.first() else { return };
    let _ = writeln!(out, "    <{name}>\n      <defaultFormat type='{usual}'/>");
    let _ = writeln!(out, "      <enum name='{of}'>");
    for format in formats {
        let _ = writeln!(out, "        <value>{format}</value>");
    }
    let _ = writeln!(out, "      </enum>\n    </{name}>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_can_be_defined_are_told_with_their_formats_and_others_are_named() {
        let told = describe();
        for part in [
            "<pool type='dir' supported='yes'>\n    <volOptions>",
            "<defaultFormat type='raw'/>",
            "<value>ext4</value>",
            "<pool type='rbd' supported='no'/>",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(told.matches("<pool ").count(), KINDS.len());
    }
}
