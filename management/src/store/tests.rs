use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::simulation::{Act, ForgetfulDisk};
use super::{Contents, Disk, Store, StoredDomain};
use crate::error::{Code, Error};

const DIR: &str = "/store";

type Definitions = BTreeMap<Uuid, StoredDomain>;

fn domain(number: u128, generation: u64) -> StoredDomain {
    let name = format!("guest{number}");
    let xml =
        format!("<domain><name>{name}</name>{}</domain>\n", "x".repeat(generation as usize % 90));
    let (uuid, autostart) = (Uuid::from_u128(number), generation.is_multiple_of(2));
    StoredDomain { uuid, name, generation, autostart, turn: Default::default(), platform: 1, xml }
}

fn open(disk: Arc<ForgetfulDisk>) -> (Store, Contents) {
    Store::open(disk, Path::new(DIR))
}

fn definitions(contents: &Contents) -> Definitions {
    contents.objects.iter().map(|domain| (domain.uuid, domain.clone())).collect()
}

/// What users do, as pseudo-random as a fixed seed makes it.
fn work(count: u64) -> impl Iterator<Item = (u128, bool)> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (u128::from(state % 5), state.is_multiple_of(4))
    })
}

/// Apply one piece of work to the store and to what is expected of it.
fn perform(store: &Store, expected: &mut Definitions, step: u64, (number, remove): (u128, bool)) {
    let uuid = Uuid::from_u128(number);
    if remove {
        if expected.remove(&uuid).is_some() {
            store.remove(uuid).unwrap();
        }
    } else {
        let domain = domain(number, step);
        store.put(&domain).unwrap();
        expected.insert(uuid, domain);
    }
}

#[test]
fn a_power_cut_at_any_moment_leaves_what_was_promised_or_what_was_being_done() {
    let disk = Arc::new(ForgetfulDisk::default());
    let (store, _) = open(disk.clone());
    let mut expected = vec![Definitions::new()];
    for (step, piece) in (1..).zip(work(200)) {
        let mut next = expected.last().unwrap().clone();
        perform(&store, &mut next, step, piece);
        disk.promise(expected.len());
        expected.push(next);
    }
    let acts = disk.acts();
    let (mut promised, mut images) = (0, 0);
    for cut in 0..=acts.len() {
        if let Some(Act::Promise(number)) = cut.checked_sub(1).map(|last| &acts[last]) {
            promised = *number;
        }
        for left in ForgetfulDisk::replay(&acts[..cut]).after_power_cut() {
            images += 1;
            let left = Arc::new(left);
            let (store, contents) = open(left.clone());
            let found = definitions(&contents);
            let next = expected.get(promised + 1);
            assert!(
                found == expected[promised] || Some(&found) == next,
                "after act {cut}, {:?}: {found:#?}",
                acts.get(cut),
            );
            assert_eq!(contents.quarantined, [], "after act {cut}");
            // And it goes on working.
            store.put(&domain(99, 1)).unwrap();
            assert!(!left.names().iter().any(|name| name.ends_with("tmp")));
        }
    }
    assert!(images > 4000, "only {images} images were looked at");
}

#[test]
fn a_failing_disk_changes_nothing_and_says_so() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for new in [true, false] {
            for acts in 0.. {
                let disk = Arc::new(ForgetfulDisk::default());
                let (store, _) = open(disk.clone());
                for generation in 1..3 {
                    store.put(&domain(1, generation)).unwrap();
                }
                disk.fail_after(acts, kind);
                let result = store.put(&domain(if new { 2 } else { 1 }, 3));
                if !disk.failed() {
                    assert!(acts >= 5, "the store makes {acts} acts only");
                    break;
                }
                let Err(error) = result else { continue };
                let code = Error::from(error).code;
                let expected = if kind == io::ErrorKind::StorageFull {
                    Code::NoSpace
                } else {
                    Code::HostFailure
                };
                assert_eq!(code, expected);
                let (_, contents) = open(disk);
                assert_eq!(contents.objects, [domain(1, 2)], "{kind:?} after {acts} acts");
                assert_eq!(contents.quarantined, []);
            }
        }
    }
}

#[test]
fn a_failed_removal_removes_nothing() {
    for acts in 0..2 {
        let disk = Arc::new(ForgetfulDisk::default());
        let (store, _) = open(disk.clone());
        store.put(&domain(1, 1)).unwrap();
        disk.fail_after(acts, io::ErrorKind::Other);
        store.remove(Uuid::from_u128(1)).unwrap_err();
        assert_eq!(open(disk).1.objects, [domain(1, 1)]);
    }
}

#[test]
fn a_damaged_object_is_put_aside_and_its_previous_version_takes_its_place() {
    let disk = Arc::new(ForgetfulDisk::default());
    let (store, _) = open(disk.clone());
    store.put(&domain(1, 1)).unwrap();
    store.put(&domain(1, 2)).unwrap();
    store.put(&domain(2, 1)).unwrap();
    let path = |number| Path::new(DIR).join(format!("domains/{}.xml", Uuid::from_u128(number)));
    disk.damage(&path(1));
    disk.damage(&path(2));
    let (_, contents) = open(disk.clone());
    assert_eq!(contents.objects, [domain(1, 1)]);
    assert_eq!(contents.quarantined.len(), 2);
    assert!(disk.names().iter().filter(|name| name.starts_with("/store/quarantine/")).count() == 2);
    let (_, again) = open(disk);
    assert_eq!((again.objects.len(), again.quarantined.len()), (1, 0));
}

#[test]
fn a_name_belongs_to_one_domain() {
    let disk = Arc::new(ForgetfulDisk::default());
    let (store, _) = open(disk.clone());
    store.put(&domain(1, 1)).unwrap();
    store.put(&StoredDomain { name: "guest1".into(), ..domain(2, 2) }).unwrap();
    let (_, contents) = open(disk);
    assert_eq!(contents.objects, [domain(1, 1)]);
    assert!(contents.quarantined[0].1.contains("guest1"), "{:?}", contents.quarantined);
}

#[test]
fn the_real_disk_behaves_like_the_simulated_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(Arc::new(Disk), dir.path());
    let mut expected = Definitions::new();
    for (step, piece) in (1..).zip(work(50)) {
        perform(&store, &mut expected, step, piece);
    }
    let (_, contents) = Store::<StoredDomain>::open(Arc::new(Disk), dir.path());
    assert_eq!(definitions(&contents), expected);
    assert!(contents.degraded.is_empty());
}

#[test]
fn a_store_that_cannot_be_made_is_told_and_refuses_writes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (store, contents) = Store::<StoredDomain>::open(Arc::new(Disk), &file);
    assert!(!contents.degraded.is_empty());
    let error = Error::from(store.put(&domain(1, 1)).unwrap_err());
    assert_eq!(error.code, Code::HostFailure);
    assert!(error.message.contains("nothing was changed"), "{error}");
}

#[test]
fn a_definition_costs_two_syncs_and_its_removal_one() {
    let disk = Arc::new(ForgetfulDisk::default());
    let (store, _) = open(disk.clone());
    let mut seen = disk.acts().len();
    let mut syncs = || {
        let acts = disk.acts();
        let new = acts[seen..].iter();
        seen = acts.len();
        let content = new.clone().filter(|act| matches!(act, Act::Synced { .. })).count();
        (content, new.filter(|act| matches!(act, Act::SyncDir { .. })).count())
    };
    store.put(&domain(1, 1)).unwrap();
    assert_eq!(syncs(), (1, 1), "new");
    store.put(&domain(1, 2)).unwrap();
    assert_eq!(syncs(), (1, 1), "changed");
    store.remove(Uuid::from_u128(1)).unwrap();
    assert_eq!(syncs(), (0, 1), "removed");
}
