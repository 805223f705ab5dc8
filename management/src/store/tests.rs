use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use manor_tests::chance::Chance;
use manor_tests::torture::{Harm, Scale, Tally};
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

/// What users do, as random as a seed makes it.
fn work(seed: u64, count: u64) -> impl Iterator<Item = (u128, bool)> {
    let mut chance = Chance::new(seed);
    (0..count).map(move |_| (chance.below(5) as u128, chance.below(4) == 0))
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

/// Every disk that a power cut could leave: at any moment of the work of `seed`, and again at any moment
/// of the start after it.
fn cut_at_any_moment(seed: u64, tally: &mut Tally) {
    let disk = Arc::new(ForgetfulDisk::default());
    let (store, _) = open(disk.clone());
    let mut expected = vec![Definitions::new()];
    for (step, piece) in (1..).zip(work(seed, 200)) {
        let mut next = expected.last().unwrap().clone();
        perform(&store, &mut next, step, piece);
        disk.promise(expected.len());
        expected.push(next);
    }
    let acts = disk.acts();
    let mut promised = 0;
    for cut in 0..=acts.len() {
        if let Some(Act::Promise(number)) = cut.checked_sub(1).map(|last| &acts[last]) {
            promised = *number;
        }
        let (before, next) = (&expected[promised], expected.get(promised + 1));
        let when = format!("seed {seed}, after act {cut}, {:?}", acts.get(cut));
        for left in ForgetfulDisk::replay(&acts[..cut]).after_power_cut() {
            tally.count(harm(&left, before, next, &when));
            for again in cut_while_it_tidies_up(&left) {
                tally.count(harm(&again, before, next, &format!("{when}, and again")));
            }
        }
    }
}

/// What a second cut leaves, if the start after the first had anything to do.
fn cut_while_it_tidies_up(left: &ForgetfulDisk) -> Vec<ForgetfulDisk> {
    let starting = Arc::new(left.fork());
    open(starting.clone());
    let acts = starting.acts();
    let cuts = (1..=acts.len()).map(|cut| {
        let disk = left.fork();
        disk.redo(&acts[..cut]);
        disk.after_power_cut()
    });
    cuts.flatten().collect()
}

/// What a cut did: what was promised is there, and of what was being done all or nothing.
fn harm(
    left: &ForgetfulDisk,
    before: &Definitions,
    next: Option<&Definitions>,
    when: &str,
) -> Option<Harm> {
    let left = Arc::new(left.fork());
    let (store, contents) = open(left.clone());
    let found = definitions(&contents);
    if found != *before && Some(&found) != next {
        eprintln!("{when}: {found:#?}");
        return Some(Harm::Lost);
    }
    // And it goes on working.
    let works = contents.quarantined.is_empty() && store.put(&domain(99, 1)).is_ok();
    let tidy = !left.names().iter().any(|name| name.ends_with("tmp"));
    if works && tidy {
        return None;
    }
    eprintln!("{when}: {contents:?}, {:?}", left.names());
    Some(Harm::Escaped)
}

#[test]
fn a_power_cut_at_any_moment_leaves_what_was_promised_or_what_was_being_done() {
    let scale = Scale::of_environment();
    let mut tally = Tally::of("store");
    for seed in scale.seed..scale.seed + scale.pick(1, 50) {
        cut_at_any_moment(seed, &mut tally);
    }
    tally.note = "disks that a power cut may leave of 200 operations each".to_owned();
    tally.tell();
    assert!(tally.is_clean(), "{tally}");
    assert!(tally.tried > 4000, "only {} disks were looked at", tally.tried);
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
    for (step, piece) in (1..).zip(work(1, 50)) {
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
