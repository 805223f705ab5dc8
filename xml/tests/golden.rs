//! Golden pairs in `tests/xml`: what a definition becomes when it is stored, and what is said about mistakes.
//! `UPDATE_GOLDEN=1` writes what the code says now; the difference is then read in review.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xml::{DomainDef, Identity};

/// The same identities in every run.
struct Counter(u8);

impl Identity for Counter {
    fn uuid(&mut self) -> Uuid {
        self.0 += 1;
        Uuid::from_u128(0x4dea_22b3_1d52_48f3_9516_0000_0000_0000 | u128::from(self.0))
    }
    fn mac(&mut self) -> [u8; 3] {
        self.0 += 1;
        [0xaa, 0xbb, self.0]
    }
}

fn goldens(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/xml").join(part)
}

fn files(part: &str, ends: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(goldens(part)).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .filter(|path| ends(path.file_name().and_then(|name| name.to_str()).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no goldens in {part}");
    found
}

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Compare `text` with the file, or write it there. An empty text has no file.
fn settle(path: &Path, text: &str, differing: &mut Vec<String>) {
    if updating() {
        if text.is_empty() {
            let _ = fs::remove_file(path);
        } else {
            fs::write(path, text).unwrap();
        }
    } else if fs::read_to_string(path).unwrap_or_default() != text {
        differing.push(format!("{} is not what comes out now:\n{text}", path.display()));
    }
}

#[test]
fn definitions_come_back_as_libvirt_prints_them() {
    let mut differing = Vec::new();
    for path in files("define", |name| name.ends_with(".xml") && !name.ends_with(".out.xml")) {
        let text = fs::read_to_string(&path).unwrap();
        let parsed = DomainDef::parse(&text).unwrap_or_else(|e| panic!("{}:\n{e}", path.display()));
        let mut def = parsed.value;
        let written = DomainDef::parse(&def.to_xml()).unwrap().value;
        assert_eq!(written, def, "{}: written and read again", path.display());

        def.fill_defaults(&mut Counter(0));
        let out = def.to_xml();
        let mut again = DomainDef::parse(&out)
            .unwrap_or_else(|e| panic!("{}:\n{e}\n{out}", path.display()))
            .value;
        assert_eq!(again, def, "{}: with defaults, written and read again", path.display());
        again.fill_defaults(&mut Counter(100));
        assert_eq!(again, def, "{}: defaults are filled in once", path.display());

        let warnings: String =
            parsed.warnings.iter().map(|warning| format!("{warning}\n")).collect();
        settle(&path.with_extension("out.xml"), &out, &mut differing);
        settle(&path.with_extension("warnings.txt"), &warnings, &mut differing);
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// A definition without mistakes, and where a case's lines go.
fn place(kind: &str, lines: &str) -> String {
    let (mut top, mut os, mut devices) = ("", "", "");
    match kind {
        "document" => return lines.to_owned(),
        "domain" => top = lines,
        "os" => os = lines,
        "devices" => devices = lines,
        other => panic!("a case cannot be placed in {other:?}"),
    }
    format!(
        "<domain type='kvm'><name>guest</name><memory>65536</memory><vcpu>2</vcpu>\n\
         <os><type>hvm</type>{os}</os>\n\
         <devices>{devices}</devices>{top}\n\
         </domain>\n"
    )
}

/// A file of cases: `# what is wrong @ place`, the lines of XML, and after `> ` what is said about them.
#[test]
fn mistakes_are_explained() {
    let (mut differing, mut cases) = (Vec::new(), 0);
    for path in files("mistakes", |name| name.ends_with(".txt")) {
        let text = fs::read_to_string(&path).unwrap();
        let mut now = String::new();
        for case in text.split("\n\n").map(str::trim).filter(|case| !case.is_empty()) {
            let (title, rest) = case.split_once('\n').unwrap();
            let (_, kind) = title.rsplit_once(" @ ").unwrap_or_else(|| panic!("{title}: no place"));
            let lines: Vec<&str> = rest.lines().filter(|line| !line.starts_with("> ")).collect();
            let document = place(kind, &lines.join("\n"));
            let said = match DomainDef::parse(&document) {
                Ok(parsed) => {
                    panic!("{}: {title}: accepted with {:?}", path.display(), parsed.warnings)
                }
                Err(diagnostics) => diagnostics.to_string(),
            };
            cases += 1;
            let _ = writeln!(now, "{title}\n{}", lines.join("\n"));
            for line in said.lines() {
                let _ = writeln!(now, "> {line}");
            }
            now.push('\n');
        }
        settle(&path, &now, &mut differing);
    }
    assert!(cases >= 60, "only {cases} cases");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
