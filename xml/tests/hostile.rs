//! Documents made to hurt: each is answered quickly, with words, and without taking memory in proportion to its claims.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use xml::{DomainDef, Kind};

/// Generous for an unoptimised build on a busy machine; a quadratic pass over a mebibyte takes minutes.
const SOON: Duration = Duration::from_secs(5);

struct Same;

impl xml::Identity for Same {
    fn uuid(&mut self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }
    fn mac(&mut self) -> [u8; 3] {
        [0; 3]
    }
}

fn wrap(inner: &str) -> String {
    format!(
        "<domain type='kvm'><name>x</name><memory>1024</memory><os><type>hvm</type></os>{inner}</domain>"
    )
}

/// What is said about a document, and that it is said soon.
#[track_caller]
fn refused(bytes: &[u8]) -> String {
    let start = Instant::now();
    let result = DomainDef::parse_bytes(bytes);
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    let said = result.expect_err("accepted").to_string();
    assert!(said.len() < 100_000, "the report has {} bytes", said.len());
    said
}

#[test]
fn a_billion_laughs_are_not_even_read() {
    let mut dtd = "<!DOCTYPE d [<!ENTITY l0 'ha'>".to_owned();
    for level in 1..10 {
        dtd += &format!("<!ENTITY l{level} '{}'>", format!("&l{};", level - 1).repeat(10));
    }
    let text = format!("{dtd}]>{}", wrap("<title>&l9;</title>"));
    assert!(refused(text.as_bytes()).contains("entities are not accepted"));
}

#[test]
fn external_entities_are_not_fetched() {
    let text = format!(
        "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>{}",
        wrap("<title>&e;</title>")
    );
    assert!(refused(text.as_bytes()).contains("entities are not accepted"));
}

#[test]
fn a_document_of_one_gibibyte_is_refused_by_its_size() {
    let said = refused(&vec![b' '; (1 << 20) + 1]);
    assert_eq!(said, "1:1: the document has 1048577 bytes, more than 1048576");
}

#[test]
fn deep_nesting_is_refused_where_it_becomes_too_deep() {
    for depth in [65, 1_000, 100_000] {
        let text = format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert_eq!(refused(text.as_bytes()), "1:193: elements are nested deeper than 64");
        assert_eq!(
            refused("<a>".repeat(depth).as_bytes()),
            "1:193: elements are nested deeper than 64"
        );
    }
}

#[test]
fn too_many_attributes_are_refused() {
    let many: String = (0..70_000).map(|n| format!(" a{n}='x'")).collect();
    assert!(
        refused(wrap(&format!("<vcpu{many}/>")).as_bytes()).contains("more than 256 attributes")
    );
    let same = " a='x'".repeat(100_000);
    assert!(
        refused(wrap(&format!("<vcpu{same}/>")).as_bytes()).contains("more than 256 attributes")
    );
}

#[test]
fn too_many_namespaces_are_refused() {
    let one = |n: usize| format!("<a xmlns:n{n}='u{n}'/>");
    let siblings: String = (0..30_000).map(one).collect();
    let said = refused(wrap(&format!("<metadata>{siblings}</metadata>")).as_bytes());
    assert!(said.contains("more than 64 namespaces"), "{said}");
    let declared: String = (0..60).map(|n| format!(" xmlns:n{n}='u'")).collect();
    let used: String = (0..40_000).map(|n| format!("<n{}:a/>", n % 60)).collect();
    let said = refused(wrap(&format!("<metadata{declared}>{used}</metadata><bogus/>")).as_bytes());
    assert!(said.contains("bogus"), "{said}");
}

#[test]
fn notes_that_use_many_outer_prefixes_are_kept_soon() {
    let declared: String = (0..60).map(|n| format!(" xmlns:n{n}='u{n}'")).collect();
    let used: String = (0..40_000).map(|n| format!("<n{}:a/>", n % 60)).collect();
    let text = wrap(&format!("<metadata{declared}><note>{used}</note></metadata>"));
    let start = Instant::now();
    let def = DomainDef::parse(&text).unwrap().value;
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    assert_eq!(DomainDef::parse_stored(&def.to_xml()).unwrap().value, def);
}

/// What was accepted is also read back from the store, however much layout and escaping made of it.
#[test]
fn the_largest_definitions_can_be_stored() {
    let quotes = format!("<title>{}</title>", "'".repeat(1_000_000));
    let timers = format!("<clock offset='utc'>{}</clock>", "<timer name='pit'/>".repeat(49_000));
    let disks: String = (0..9_000)
        .map(|n| format!("<disk><source file='/{n}'/><target dev='vd{n}'/></disk>"))
        .collect();
    for inner in [quotes, timers, format!("<devices>{disks}</devices>")] {
        let mut def = DomainDef::parse(&wrap(&inner)).unwrap_or_else(|e| panic!("{e}")).value;
        def.fill_defaults(&mut Same);
        assert_eq!(
            DomainDef::parse_stored(&def.to_xml()).unwrap_or_else(|e| panic!("{e}")).value,
            def
        );
    }
}

#[test]
fn kept_elements_carry_no_namespaces_along() {
    let said = refused(wrap("<seclabel xmlns:n='u'><n:a/></seclabel>").as_bytes());
    assert!(said.contains("nothing inside <seclabel> has a namespace"), "{said}");
}

#[test]
fn too_many_nodes_are_refused() {
    assert!(refused(wrap(&"<a/>".repeat(200_000)).as_bytes()).contains("more than 50000 nodes"));
    assert!(refused("<a/>".repeat(200_000).as_bytes()).contains("only one element"));
}

#[test]
fn many_mistakes_are_counted_rather_than_listed() {
    let said = refused(wrap(&"<bogus/>".repeat(20_000)).as_bytes());
    assert_eq!(said.lines().count(), 101);
    assert!(said.ends_with("there are 19900 more errors"), "{}", said.lines().last().unwrap());
    let twice =
        "<disk><source file='/a'/><target dev='vda'/><alias name='a'/></disk>".repeat(5_000);
    assert_eq!(
        refused(wrap(&format!("<devices>{twice}</devices>")).as_bytes()).lines().count(),
        101
    );
}

#[test]
fn warnings_do_not_crowd_out_errors() {
    let said = refused(wrap(&format!("{}<bogus/>", "<seclabel/>".repeat(5_000))).as_bytes());
    assert!(said.contains("/domain/bogus: <domain> has no element <bogus>"), "{said}");
}

#[test]
fn long_names_and_values_are_cut_in_what_is_said() {
    let long = "x".repeat(200_000);
    for inner in [
        format!("<{long}/>"),
        format!("<vcpu {long}='1'/>"),
        format!("<vcpu current='{long}'>1</vcpu>"),
    ] {
        let said = refused(wrap(&inner).as_bytes());
        assert!(said.len() < 1_000, "{} bytes", said.len());
    }
}

#[test]
fn encodings_other_than_utf8_are_named() {
    let utf16: Vec<u8> =
        format!("\u{feff}{}", wrap("")).encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(refused(&utf16).contains("UTF-16"));
    assert!(refused(&utf16[2..]).contains("UTF-16"));
    let mut latin1 = wrap("<title>Z?rich</title>").into_bytes();
    let at = latin1.iter().position(|b| *b == b'?').unwrap();
    latin1[at] = 0xfc;
    assert_eq!(refused(&latin1), "1:88: byte 0xfc here is not UTF-8; save the document as UTF-8");
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    let parsed = DomainDef::parse_bytes(format!("\u{feff}{}", wrap("")).as_bytes()).unwrap();
    assert_eq!(&*parsed.value.name, "x");
}

#[test]
fn characters_that_xml_cannot_hold_are_named() {
    assert!(refused(wrap("<title>a\0b</title>").as_bytes()).contains("U+0000"));
    assert!(refused(wrap("<title>&#0;</title>").as_bytes()).starts_with("1:"));
    let said = refused(wrap("<title>&#27;[2J</title><bogus/>").as_bytes());
    assert!(said.starts_with("1:"), "{said}");
}

#[test]
fn messages_carry_no_control_characters_to_the_terminal() {
    let said = refused(wrap("<vcpu placement='&#x9b;31m&#x202e;'>1</vcpu>").as_bytes());
    assert!(said.contains("\\u{9b}31m\\u{202e}"), "{said}");
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
}

#[test]
fn amounts_that_overflow_are_refused_rather_than_wrapped() {
    for (number, unit) in
        [("16", "EiB"), ("18446744073709551616", "b"), ("18014398509481984", "KiB")]
    {
        let text = wrap("").replace("<memory>1024", &format!("<memory unit='{unit}'>{number}"));
        let errors = DomainDef::parse(&text).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert_eq!(errors.0[0].kind, Kind::Limit, "{errors}");
    }
    let most = wrap("").replace("<memory>1024", "<memory unit='b'>18446744073709551615");
    assert_eq!(DomainDef::parse(&most).unwrap().value.memory.size.0, 1 << 54);
}

#[test]
fn a_drive_on_controller_four_billion_makes_no_four_billion_controllers() {
    let disk = "<disk><source file='/a'/><target dev='sda' bus='scsi'/>\
                <address type='drive' controller='4294967295'/></disk>";
    let mut def = DomainDef::parse(&wrap(&format!("<devices>{disk}</devices>"))).unwrap().value;
    def.fill_defaults(&mut Same);
    assert!(def.devices.controllers.len() < 100);
}

#[test]
fn sets_of_all_cpus_cost_no_more_than_their_text() {
    let pins = "<vcpupin vcpu='1' cpuset='0-16383'/>".repeat(20_000);
    assert!(
        refused(wrap(&format!("<cputune>{pins}</cputune>")).as_bytes()).contains("taken already")
    );
    let parts = "0-16383,".repeat(100_000);
    assert!(
        refused(wrap(&format!("<vcpu cpuset='{parts}x'>1</vcpu>")).as_bytes()).contains("cpuset")
    );
}

const SEED: &str = include_str!("../../tests/xml/define/dumpxml-q35.xml");

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever bytes are changed, the answer comes soon, and what is accepted can be written and read again.
    #[test]
    fn damaged_documents_are_answered(
        edits in prop::collection::vec((0..SEED.len(), 0..4_u8, any::<u8>(), 1..40_usize), 1..8),
    ) {
        let mut bytes = SEED.as_bytes().to_vec();
        for (at, how, byte, length) in edits {
            let at = at.min(bytes.len() - 1);
            let end = (at + length).min(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] = b"<>/='\"& \nx0&#;-]!?"[usize::from(byte) % 18],
                2 => drop(bytes.drain(at..end)),
                _ => {
                    let copy = bytes[at..end].to_vec();
                    let to = (usize::from(byte) * bytes.len()) >> 8;
                    bytes.splice(to..to, copy);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        let start = Instant::now();
        match DomainDef::parse_bytes(&bytes) {
            Ok(parsed) => {
                let again = DomainDef::parse(&parsed.value.to_xml()).expect("what was written is read");
                prop_assert_eq!(again.value, parsed.value);
            }
            Err(diagnostics) => {
                prop_assert!(diagnostics.errors().next().is_some());
                prop_assert!(!diagnostics.to_string().is_empty());
            }
        }
        prop_assert!(start.elapsed() < SOON);
    }
}
