//! Thousands of documents that are wrong in every way: each is answered soon, and takes memory in
//! proportion to its text. `MANOR_TRIES=count:seed` tries more of them.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

mod sys;

use std::fs;
use std::time::Duration;

use manor_tests::chance::Chance;
use manor_tests::paths;
use manor_tests::tries::{Tries, timed};
use sys::Counting;
use xml::{BackupDef, DomainDef, NetworkDef, PoolDef, SecretDef, SnapshotDef, VolumeDef};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Processor time of one document, whatever else the machine is busy with; ten times as much where nothing
/// is optimised.
const SOON: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 50 });
/// For each byte of a document.
const MEMORY: usize = 8;
/// Documents shorter than this take as much as if they had this length.
const SHORT: usize = 64 << 10;

/// Whether it is refused.
fn parse(text: &[u8]) -> bool {
    let root = text.iter().position(|byte| *byte == b'<').map_or(&[][..], |at| &text[at + 1..]);
    let Ok(string) = str::from_utf8(text) else { return DomainDef::parse_bytes(text).is_err() };
    match root {
        [b'n', b'e', ..] => NetworkDef::parse(string).is_err(),
        [b'p', ..] => PoolDef::parse(string).is_err(),
        [b'v', ..] => VolumeDef::parse(string).is_err(),
        [b's', b'e', ..] => SecretDef::parse(string).is_err(),
        [b'd', b'o', b'm', b'a', b'i', b'n', b's', ..] => SnapshotDef::parse(string).is_err(),
        [b'd', b'o', b'm', b'a', b'i', b'n', b'b', ..] => BackupDef::parse(string).is_err(),
        _ => DomainDef::parse_bytes(text).is_err(),
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
        let ((refused, most), took) = timed(|| Counting::most_of(|| parse(&text)));
        let shown = || String::from_utf8_lossy(&text[..text.len().min(2_000)]).into_owned();
        let per_byte = most as f64 / text.len().max(SHORT) as f64;
        assert!(took <= SOON, "{} bytes took {took:?}: {}", text.len(), shown());
        let length = text.len();
        slowest = slowest.max(took);
        if refused {
            assert!(most <= MEMORY * length.max(SHORT), "{length} bytes took {most}: {}", shown());
            hungriest = hungriest.max(per_byte);
        }
    }
    let found = format!("at most {slowest:?} and {hungriest:.1} bytes of memory a byte for one");
    torture.report("xml documents", found);
}

/// As many elements as there may be, in as few letters as they have, where they mean something and where not.
#[test]
fn dense_documents_cost_little() {
    const MANY: usize = 20_000;
    let devices = |inner: &str| {
        format!(
            "<domain type='kvm'><name>x</name><devices>{}</devices></domain>",
            inner.repeat(MANY)
        )
    };
    let domain =
        |inner: &str| format!("<domain type='kvm'><name>x</name>{}</domain>", inner.repeat(MANY));
    let mut documents = vec![
        format!("<a>{}</a>", "<b/>".repeat(MANY)),
        format!("<domain>{}", "<b/>".repeat(MANY)),
        format!("<domain><metadata>{}</metadata></domain>", "<b/>".repeat(MANY)),
        format!("<domain><metadata>{}</metadata>", "<b c=''/>".repeat(MANY)),
        format!(
            "<domain><metadata xmlns:p='u'><b>{}</b></metadata></domain>",
            "<p:b/>".repeat(MANY)
        ),
        format!("<domain><title>{}</title></domain>", "&lt;<!---->".repeat(MANY)),
        format!("<domain><title>{}</title></domain>", "<![CDATA[\r]]>".repeat(MANY)),
        format!("<domainsnapshot><disks>{}</disks></domainsnapshot>", "<disk/>".repeat(MANY)),
        format!("<network><name>x</name>{}</network>", "<ip/>".repeat(MANY)),
        format!("<network><dns>{}</dns></network>", "<txt/>".repeat(MANY)),
        format!("<domain><b c='{}'/></domain>", "\n".repeat(20 * MANY)),
        domain("<b c='\n'/>"),
        format!("{}<", domain("<vcpu/>")),
    ];
    documents.extend(["<b/>", "<vcpu/>", "<os/>", "<cpu/>", "<clock/>"].map(domain));
    let kinds = [
        "disk",
        "controller",
        "interface",
        "serial",
        "console",
        "channel",
        "input",
        "graphics",
        "video",
        "hostdev",
        "sound",
        "watchdog",
        "memballoon",
        "rng",
        "vsock",
        "tpm",
        "memory",
        "filesystem",
        "hub",
        "panic",
    ];
    documents.extend(kinds.map(|kind| devices(&format!("<{kind}/>"))));
    let (mut slowest, mut hungriest) = (Duration::ZERO, 0.0_f64);
    for text in documents {
        let ((_, most), took) = timed(|| Counting::most_of(|| parse(text.as_bytes())));
        let shown = &text[..text.len().min(200)];
        assert!(took <= SOON, "{} bytes took {took:?}: {shown}", text.len());
        let per_byte = most as f64 / text.len() as f64;
        assert!(per_byte <= MEMORY as f64, "{per_byte:.1} bytes a byte of {}: {shown}", text.len());
        slowest = slowest.max(took);
        hungriest = hungriest.max(per_byte);
    }
    println!(
        "torture: dense xml documents: at most {slowest:?} and {hungriest:.1} bytes of memory a byte"
    );
}

/// What names its hosts, disks or devices again and again is not compared each with each.
#[test]
fn what_stands_there_twice_is_found_soon() {
    let hosts = "<host ip='10.0.0.9' mac='52:54:00:00:00:01'/>".repeat(15_000);
    let network = format!(
        "<network><name>n</name><ip address='10.0.0.1' prefix='8'><dhcp>{hosts}</dhcp></ip></network>"
    );
    let disks: String = (0..30_000).map(|number| format!("<disk name='v{number}'/>")).collect();
    let snapshot = format!("<domainsnapshot><disks>{disks}</disks></domainsnapshot>");
    for text in [network, snapshot] {
        let (_, took) = timed(|| parse(text.as_bytes()));
        assert!(took <= SOON, "{took:?}: {}", &text[..80]);
    }
}
