//! Thousands of documents that are wrong in every way: each is answered soon, and takes memory in
//! proportion to its text. `MANOR_TRIES=count:seed` tries more of them.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

mod sys;

use std::fs;
use std::time::{Duration, Instant};

use manor_tests::chance::Chance;
use manor_tests::{paths, tries::Tries};
use sys::Counting;
use xml::{BackupDef, DomainDef, NetworkDef, PoolDef, SecretDef, SnapshotDef, VolumeDef};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of one document. An unoptimised build on a busy machine takes many times as long.
const SOON: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5_000 } else { 50 });
/// For each byte of a document.
const MEMORY: usize = 8;
/// Beside it, for the tree: there are 50,000 nodes at most.
const TREE: usize = 5 << 20;
/// And together: elements of a few letters are small as text, and nodes all the same.
const DENSEST: usize = 32;
/// Documents shorter than this take as much as if they had this length.
const SHORT: usize = 64 << 10;

fn parse(text: &[u8]) {
    let root = text.iter().position(|byte| *byte == b'<').map_or(&[][..], |at| &text[at + 1..]);
    let Ok(string) = str::from_utf8(text) else { return drop(DomainDef::parse_bytes(text)) };
    match root {
        [b'n', b'e', ..] => drop(NetworkDef::parse(string)),
        [b'p', ..] => drop(PoolDef::parse(string)),
        [b'v', ..] => drop(VolumeDef::parse(string)),
        [b's', b'e', ..] => drop(SecretDef::parse(string)),
        [b'd', b'o', b'm', b'a', b'i', b'n', b's', ..] => drop(SnapshotDef::parse(string)),
        [b'd', b'o', b'm', b'a', b'i', b'n', b'b', ..] => drop(BackupDef::parse(string)),
        _ => drop(DomainDef::parse_bytes(text)),
    }
}

fn documents() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for directory in ["define", "network", "storage"] {
        let entries = fs::read_dir(paths::workspace().join("tests/xml").join(directory)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let is_xml = |path: &&std::path::PathBuf| path.extension().is_some_and(|it| it == "xml");
        all.extend(files.iter().filter(is_xml).map(|path| fs::read(path).unwrap()));
    }
    assert!(all.len() > 30, "{} documents are too few to begin with", all.len());
    all
}

/// One element of it again and again, up to the longest that is read at all.
fn swollen(chance: &mut Chance, document: &[u8]) -> Vec<u8> {
    let tags: Vec<usize> =
        document.iter().enumerate().filter(|(_, byte)| **byte == b'<').map(|(at, _)| at).collect();
    if tags.len() < 3 {
        return document.to_vec();
    }
    let first = chance.below(tags.len() - 1);
    let last = (first + 1 + chance.below(4)).min(tags.len() - 1);
    let part = &document[tags[first]..tags[last]];
    let length = 1 << (12 + chance.below(9));
    let times = (length / part.len().max(1)).min(200_000);
    [&document[..tags[first]], &part.repeat(times), &document[tags[first]..]].concat()
}

#[test]
fn documents_that_are_wrong_cost_little() {
    let torture = Tries::asked_or(2_000);
    let mut chance = torture.chance();
    let seeds = documents();
    let (mut slowest, mut hungriest) = (Duration::ZERO, 0.0_f64);
    for _ in 0..torture.count {
        let mut text = chance.one_of(&seeds).clone();
        if chance.once_in(16) {
            text = swollen(&mut chance, &text);
        }
        for _ in 0..chance.below(8) {
            chance.vary(&mut text, &seeds);
        }
        let begun = Instant::now();
        let ((), most) = Counting::most_of(|| parse(&text));
        let took = begun.elapsed();
        let shown = || String::from_utf8_lossy(&text[..text.len().min(2_000)]).into_owned();
        let per_byte = most as f64 / text.len().max(SHORT) as f64;
        assert!(took <= SOON, "{} bytes took {took:?}: {}", text.len(), shown());
        let length = text.len().max(SHORT);
        let allowed = (MEMORY * length + TREE).min(DENSEST * length);
        assert!(most <= allowed, "{} bytes took {most}: {}", text.len(), shown());
        slowest = slowest.max(took);
        hungriest = hungriest.max(per_byte);
    }
    let found = format!("at most {slowest:?} and {hungriest:.1} bytes of memory a byte for one");
    torture.report("xml documents", found);
}
