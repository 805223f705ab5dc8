//! Pools and volumes: golden pairs in `tests/xml/storage`, and what is said about mistakes.
//! `UPDATE_GOLDEN=1` writes what the code says now; the difference is then read in review.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xml::{PoolDef, VolumeDef};

fn goldens(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/xml/storage");
    let mut found: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(kind) && !name.ends_with(".out.xml")
    });
    found.sort();
    assert!(!found.is_empty());
    found
}

fn settle(path: &Path, text: &str) {
    let path = path.with_extension("out.xml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{}", path.display());
}

#[test]
fn pools_become_what_is_stored() {
    for path in goldens("pool") {
        let text = fs::read_to_string(&path).unwrap();
        let mut def = PoolDef::parse(&text).unwrap_or_else(|e| panic!("{}:\n{e}", path.display()));
        def.value.fill_defaults(|| Uuid::from_u128(7));
        let out = def.value.to_xml();
        assert_eq!(PoolDef::parse_stored(&out).unwrap().value, def.value, "{out}");
        settle(&path, &out);
    }
}

#[test]
fn volumes_come_back() {
    for path in goldens("volume") {
        let text = fs::read_to_string(&path).unwrap();
        let def = VolumeDef::parse(&text).unwrap_or_else(|e| panic!("{}:\n{e}", path.display()));
        let out = def.value.to_xml();
        assert_eq!(VolumeDef::parse_stored(&out).unwrap().value, def.value, "{out}");
        settle(&path, &out);
    }
}

fn pool_says(text: &str) -> String {
    PoolDef::parse(text).unwrap_err().to_string()
}

fn volume_says(text: &str) -> String {
    VolumeDef::parse(text).unwrap_err().to_string()
}

#[test]
fn what_manor_has_no_pools_in_is_refused_by_name() {
    let zfs = pool_says(
        "<pool type='zfs'><name>p</name><source><name>tank</name></source>\
         <target><path>/dev/zvol/tank</path></target></pool>",
    );
    assert_eq!(
        zfs,
        "1:7: /pool/@type: Manor has no pools of type='zfs'; use a pool of type='dir' in a data set \
         (expected type='dir', 'fs', 'netfs' or 'logical')"
    );
}

#[test]
fn each_kind_of_pool_has_its_own_source() {
    let pool = |kind: &str, source: &str| {
        pool_says(&format!(
            "<pool type='{kind}'><name>p</name><source>{source}</source>\
             <target><path>/mnt</path></target></pool>"
        ))
    };
    for (kind, source, expected) in [
        ("dir", "<device path='/dev/sdb'/>", "a pool of type='dir' has no source <device>"),
        ("fs", "", "needs one <device path='…'/>"),
        ("fs", "<device path='sdb'/>", "begins with '/'"),
        ("fs", "<device path='/a'/><format type='zfs'/>", "there are auto, ext2"),
        ("netfs", "<host name='nas'/>", "needs a <dir path='…'/>"),
        ("netfs", "<dir path='/x'/>", "needs a <host name='…'/>"),
        ("netfs", "<host name='n'/><dir path='/x'/><format type='cifs'/>", "there are auto, nfs"),
        ("netfs", "<host name='n'/><dir path='/x'/><adapter name='a'/>", "<adapter>"),
        ("logical", "<name>../../etc</name>", "a volume group's name"),
        ("logical", "<name>-f</name>", "a volume group's name"),
    ] {
        let said = pool(kind, source);
        assert!(said.contains(expected), "{kind} {source}: {said}");
    }
}

#[test]
fn mistakes_in_pools_have_their_place() {
    let no_path = "<pool type='dir'><name>p</name><target/></pool>";
    assert!(pool_says(no_path).contains("/pool/target: "), "{}", pool_says(no_path));
    assert!(pool_says("<pool type='dir'><name>p</name></pool>").contains("<target>"));
    let relative = pool_says(
        "<pool type='dir'><name>p</name><target><path>images</path>\
         <permissions><mode>0999</mode></permissions></target></pool>",
    );
    assert!(relative.contains("permission bits in octal"), "{relative}");
    let relative =
        pool_says("<pool type='dir'><name>p</name><target><path>images</path></target></pool>");
    assert!(relative.contains("a pool's path begins with '/'"), "{relative}");
    let typo = pool_says("<pool type='dir'><name>p</name><taget><path>/x</path></taget></pool>");
    assert!(typo.contains("did you mean <target>?"), "{typo}");
    assert!(pool_says("<pool type='dirr'/>").contains("did you mean dir?"));
    assert!(pool_says("<pool type='dir'><name>a/b</name></pool>").contains("without '/'"));
}

#[test]
fn mistakes_in_volumes_have_their_place() {
    let more = volume_says(
        "<volume><name>v</name><capacity>10</capacity><allocation>11</allocation></volume>",
    );
    assert_eq!(more, "1:46: /volume/allocation: <allocation> is more than <capacity>");
    let large = volume_says("<volume><name>v</name><capacity unit='EiB'>16</capacity></volume>");
    assert!(large.contains("do not fit 64 bits"), "{large}");
    let secret = volume_says(
        "<volume><name>v</name><capacity>10</capacity>\
         <target><encryption format='luks'/></target></volume>",
    );
    assert!(secret.contains("libvirt's <encryption>"), "{secret}");
    let format =
        volume_says("<volume><name>v</name><target><format type='qcow3'/></target></volume>");
    assert!(format.contains("did you mean qcow2?") || format.contains("qcow"), "{format}");
}
