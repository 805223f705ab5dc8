use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::{Permissions, PoolAct, Wanted};
use crate::{Broker, BrokerError, Granted, Local, Request, Sharing};

struct Rig {
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let rig = Self { dir: tempfile::tempdir().unwrap() };
        rig.act(PoolAct::Build(Permissions::default())).unwrap();
        rig
    }

    fn pool(&self) -> PathBuf {
        self.dir.path().join("a/pool")
    }

    fn act(&self, act: PoolAct) -> Result<Granted, BrokerError> {
        Local::new().perform(Request::Pool { pool: self.pool(), act }, &[])
    }

    fn open(&self, volume: &str) -> Result<Granted, BrokerError> {
        let volume = volume.to_owned();
        self.act(PoolAct::Open { volume, write: true, direct: false, sharing: Sharing::Exclusive })
    }

    fn create(&self, volume: &str) -> Result<Granted, BrokerError> {
        let permissions = Permissions { mode: Some(0o640), ..Permissions::default() };
        self.act(PoolAct::Create { volume: volume.into(), permissions, nocow: true })
    }

    fn names(&self) -> Vec<String> {
        let Granted::Pool(contents) = self.act(PoolAct::Look(Wanted::All)).unwrap() else {
            panic!("no contents");
        };
        let mut names: Vec<_> = contents.files.into_iter().map(|file| file.name).collect();
        names.sort();
        names
    }
}

#[test]
fn a_pool_is_made_with_what_lies_above_it_and_removed_when_it_is_empty() {
    let rig = Rig::new();
    assert_eq!(fs::metadata(rig.pool()).unwrap().permissions().mode() & 0o7777, 0o711);
    rig.create("v").unwrap();
    let error = rig.act(PoolAct::Delete).unwrap_err();
    assert!(matches!(error, BrokerError::NotEmpty { .. }), "{error}");
    rig.act(PoolAct::Remove { volume: "v".into() }).unwrap();
    rig.act(PoolAct::Delete).unwrap();
    let error = rig.act(PoolAct::Look(Wanted::All)).unwrap_err().to_string();
    assert!(error.starts_with("pool directory ") && error.ends_with("does not exist"), "{error}");
}

#[test]
fn a_volume_is_made_beside_and_takes_its_name_once() {
    let rig = Rig::new();
    for unfinished in ["one", "two"] {
        rig.create(unfinished).unwrap();
    }
    let finish = |unfinished: &str| {
        rig.act(PoolAct::Finish { unfinished: unfinished.into(), volume: "v".into() })
    };
    finish("one").unwrap();
    assert!(matches!(finish("two"), Err(BrokerError::Exists { .. })));
    assert_eq!(rig.names(), ["two", "v"]);
    let mode = fs::metadata(rig.pool().join("v")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert!(matches!(rig.create("v"), Err(BrokerError::Exists { .. })));
}

#[test]
fn no_name_leads_out_of_the_pool() {
    let rig = Rig::new();
    let secret = rig.dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, rig.pool().join("link")).unwrap();
    fs::create_dir(rig.pool().join("dir")).unwrap();
    for name in ["../../secret", "..", ".", "", "dir/../link", "a\0b"] {
        assert!(rig.open(name).is_err(), "{name:?}");
        assert!(rig.create(name).is_err(), "{name:?}");
        assert!(rig.act(PoolAct::Remove { volume: name.into() }).is_err(), "{name:?}");
        let finish = PoolAct::Finish { unfinished: "dir".into(), volume: name.into() };
        assert!(rig.act(finish).is_err(), "{name:?}");
    }
    assert!(rig.open("link").unwrap_err().to_string().contains("a symbolic link"));
    assert!(rig.open("dir").unwrap_err().to_string().contains("a directory"));
    // Nothing but files is listed.
    assert_eq!(rig.names(), Vec::<String>::new());
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
}

#[test]
fn a_volume_in_use_is_locked() {
    let rig = Rig::new();
    rig.create("v").unwrap();
    let held = rig.open("v").unwrap();
    assert!(matches!(rig.open("v"), Err(BrokerError::Locked { .. })));
    drop(held);
    rig.open("v").unwrap();
}

#[test]
fn space_is_told() {
    let rig = Rig::new();
    rig.create("v").unwrap();
    fs::write(rig.pool().join("v"), [1; 5000]).unwrap();
    let Granted::Pool(contents) = rig.act(PoolAct::Look(Wanted::One("v".into()))).unwrap() else {
        panic!("no contents");
    };
    assert!(contents.capacity > 0 && contents.available <= contents.capacity);
    let [file] = &contents.files[..] else { panic!("{contents:?}") };
    assert_eq!(file.size, 5000);
    assert!(file.times.iter().all(|(seconds, _)| *seconds > 0), "{file:?}");
}
