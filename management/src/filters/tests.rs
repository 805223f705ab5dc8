//! Filters as they are kept, and what they say of an interface.

use broker::{FieldTest, FilterRule, FilterStep, FilterVerdict, FrameField};
use xml::MacAddress;
use xml::device::interface::{FilterParameter, FilterRef};

use super::*;
use crate::store::Disk;

fn open(dir: &Path) -> Filters {
    let (filters, quarantined, degraded) = Filters::open(Arc::new(Disk), dir);
    assert!(quarantined.is_empty() && degraded.is_empty(), "{quarantined:?} {degraded:?}");
    filters
}

fn def(text: &str) -> FilterDef {
    FilterDef::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).value
}

/// In force nowhere.
fn unused(_: &Library, keep: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
    keep()
}

fn define(filters: &Filters, text: &str) -> Result<FilterView, Error> {
    filters.define(def(text), &unused)
}

fn named(name: &str) -> FilterName {
    FilterName(name.to_owned())
}

const NOBODY: User<'_> = &|_| None;

#[test]
fn a_filter_comes_back_with_its_uuid_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let filters = open(dir.path());
    let first =
        define(&filters, "<filter name='a'><filterref filter='allow-arp'/></filter>").unwrap();
    let second = define(&filters, "<filter name='a' chain='arp'/>").unwrap();
    assert_eq!(first.uuid, second.uuid, "a definition without one keeps it");
    let filters = open(dir.path());
    assert_eq!(filters.view(&named("a")).unwrap(), second);
    assert_eq!(filters.view(&named(&second.uuid.to_string())).unwrap(), second);
    filters.undefine(&named("a"), NOBODY, &unused).unwrap();
    let missing = open(dir.path()).view(&named("a")).unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
}

#[test]
fn names_and_uuids_belong_together_and_what_manor_comes_with_stays() {
    let dir = tempfile::tempdir().unwrap();
    let filters = open(dir.path());
    let with = |name: &str, last: u8| {
        let uuid = Uuid::from_u128(last.into());
        define(&filters, &format!("<filter name='{name}'><uuid>{uuid}</uuid></filter>"))
    };
    with("a", 1).unwrap();
    let other_uuid = with("a", 2).unwrap_err();
    assert_eq!(other_uuid.code, Code::Exists);
    assert!(other_uuid.message.contains("give that <uuid>"), "{other_uuid:?}");
    let other_name = with("b", 1).unwrap_err();
    assert!(other_name.message.contains("is that of filter \"a\""), "{other_name:?}");
    with("a", 1).unwrap();
    for error in [
        define(&filters, "<filter name='clean-traffic'/>").unwrap_err(),
        filters.undefine(&named("clean-traffic"), NOBODY, &unused).unwrap_err(),
    ] {
        assert_eq!(error.code, Code::InvalidState);
        assert!(error.message.contains("one that Manor comes with"), "{error:?}");
    }
    assert!(filters.views().iter().any(|view| view.builtin && view.name == "no-mac-spoofing"));
}

#[test]
fn what_is_in_use_stays_and_what_cannot_be_in_force_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let filters = open(dir.path());
    define(&filters, "<filter name='inner'/>").unwrap();
    define(&filters, "<filter name='outer'><filterref filter='inner'/></filter>").unwrap();
    let user = |is_it: &dyn Fn(&str) -> bool| is_it("outer").then(|| "web".to_owned());
    for name in ["inner", "outer"] {
        let error = filters.undefine(&named(name), &user, &unused).unwrap_err();
        assert_eq!(error.code, Code::InvalidState);
        assert!(error.message.contains("nwfilter is in use: an interface of domain \"web\""));
    }
    let refusing = |_: &Library, _: &mut dyn FnMut() -> Result<(), Error>| -> Result<(), Error> {
        Err(Error::new(Code::HostFailure, "no"))
    };
    let before = filters.view(&named("inner")).unwrap();
    let other = def("<filter name='inner' chain='arp'/>");
    assert!(filters.define(other, &refusing).is_err());
    assert!(filters.undefine(&named("inner"), NOBODY, &refusing).is_err());
    assert_eq!(filters.view(&named("inner")).unwrap(), before);
    assert_eq!(open(dir.path()).view(&named("inner")).unwrap(), before);
}

#[test]
fn a_filter_is_no_part_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let filters = open(dir.path());
    let refs = |name: &str, other: &str| {
        define(&filters, &format!("<filter name='{name}'><filterref filter='{other}'/></filter>"))
    };
    let itself = refs("a", "a").unwrap_err();
    assert!(itself.message.contains("a → a"), "{itself:?}");
    // What it names may come later.
    refs("a", "b").unwrap();
    refs("b", "c").unwrap();
    let round = refs("c", "a").unwrap_err();
    assert_eq!(round.code, Code::InvalidArgument);
    assert!(round.message.contains("\"c\" would be a part of itself: c → a → b → c"), "{round:?}");
}

/// What the filters say of an interface with these parameters that names the last of them.
fn instance_of(texts: &[&str], parameters: &[(&str, &str)]) -> Result<Instance, Error> {
    let known = texts.iter().map(|text| {
        let mut def = def(text);
        def.fill_defaults();
        Known { uuid: Uuid::from_u128(1), generation: 1, def }
    });
    let library = Library::new(known);
    let parameter = |(name, value): &(&str, &str)| FilterParameter {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let filter = def(texts.last().unwrap()).name.to_string();
    let parameters = parameters.iter().map(parameter).collect();
    let filter = FilterRef { filter, parameters };
    instance(&library, &filter, MacAddress([0x52, 0x54, 0, 0, 0, 1]))
}

fn rule(action: &str, direction: &str, inside: &str) -> String {
    format!(
        "<filter name='f'><rule action='{action}' direction='{direction}'>{inside}</rule></filter>"
    )
}

/// Field, value and whether it is otherwise.
fn asked(rule: &FilterRule) -> Vec<(FrameField, Vec<u8>)> {
    let value = |test: &FieldTest| match test {
        FieldTest::Is(value) => value.clone(),
        FieldTest::Masked { mask, value } => [&mask[..], value].concat(),
        FieldTest::Between(first, last) => [&first[..], last].concat(),
    };
    rule.matching.iter().map(|it| (it.field, value(&it.test))).collect()
}

#[test]
fn what_is_let_through_one_way_is_answered_the_other_way() {
    let text = rule("accept", "in", "<tcp srcipaddr='10.0.0.9' dstportstart='22'/>");
    let Instance { filter, .. } = instance_of(&[&text], &[]).unwrap();
    assert!(filter.sent.frames.is_empty() && filter.received.frames.is_empty());
    let ([received], [sent]) = (&filter.received.packets[..], &filter.sent.packets[..]) else {
        panic!("{filter:?}")
    };
    let tcp = [(FrameField::EtherType, vec![8, 0]), (FrameField::Protocol, vec![6])];
    let with = |one, other| {
        let own = [(one, vec![10, 0, 0, 9]), (other, vec![0, 22])];
        tcp.iter().cloned().chain(own).collect::<Vec<_>>()
    };
    assert_eq!(asked(received), with(FrameField::Ipv4Source, FrameField::DestinationPort));
    assert_eq!(asked(sent), with(FrameField::Ipv4Destination, FrameField::SourcePort));
    assert_eq!((received.states, sent.states), (2 | 8, 2));
    // Without its connection; with a state of its own; and what is dropped has no answer.
    let without = "<filter name='f'><rule action='accept' direction='out' statematch='false'>\
                   <udp/></rule></filter>";
    let Instance { filter, .. } = instance_of(&[without], &[]).unwrap();
    assert_eq!((filter.sent.packets[0].states, filter.received.packets[0].states), (0, 0));
    let own = rule("accept", "in", "<udp state='RELATED'/>");
    let Instance { filter, .. } = instance_of(&[&own], &[]).unwrap();
    assert_eq!((filter.sent.packets.len(), filter.received.packets[0].states), (0, 4));
    let drop = rule("drop", "out", "<udp dstportstart='53'/>");
    let Instance { filter, .. } = instance_of(&[&drop], &[]).unwrap();
    assert_eq!((filter.sent.packets.len(), filter.received.packets.len()), (1, 0));
    assert_eq!(filter.sent.packets[0].verdict, FilterVerdict::Drop);
    let ping = rule("accept", "out", "<icmp type='8'/>");
    let Instance { filter, .. } = instance_of(&[&ping], &[]).unwrap();
    assert_eq!((filter.sent.packets.len(), filter.received.packets.len()), (1, 0));
}

#[test]
fn variables_have_their_values_side_by_side_or_in_all_combinations() {
    let ports = |inside: &str, parameters: &[(&str, &str)]| {
        let Instance { filter, .. } = instance_of(&[&rule("drop", "out", inside)], parameters)?;
        let last = |rule: &FilterRule| {
            let values = asked(rule).into_iter().skip(2).map(|(_, value)| value);
            values.map(|value| value.last().copied().unwrap()).collect::<Vec<_>>()
        };
        Ok::<_, Error>(filter.sent.packets.iter().map(last).collect::<Vec<_>>())
    };
    let two = [("IP", "10.0.0.1"), ("IP", "10.0.0.2"), ("PORT", "80"), ("PORT", "81")];
    let side = "<tcp dstipaddr='$IP' dstportstart='$PORT'/>";
    assert_eq!(ports(side, &two).unwrap(), [[1, 80], [2, 81]]);
    let all = "<tcp dstipaddr='$IP[@1]' dstportstart='$PORT[@2]'/>";
    assert_eq!(ports(all, &two).unwrap(), [[1, 80], [1, 81], [2, 80], [2, 81]]);
    assert_eq!(ports("<tcp dstportstart='$PORT[1]'/>", &two).unwrap(), [[81]]);
    let wrong = |inside: &str, parameters: &[(&str, &str)]| {
        let error = ports(inside, parameters).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        error.message
    };
    let missing = wrong("<tcp dstipaddr='$WHO'/>", &two);
    assert!(missing.contains("rule 1 of filter \"f\": $WHO has no value"), "{missing}");
    assert!(wrong("<tcp dstportstart='$PORT[2]'/>", &two).contains("has 2 values"));
    assert!(wrong(side, &two[1..]).contains("$IP has 1 values and $PORT has 2"));
    let form = wrong("<tcp dstipaddr='$IP'/>", &[("IP", "fd00::1")]);
    assert!(form.contains("$IP is \"fd00::1\", which is no dstipaddr"), "{form}");
    let many: Vec<_> = (0..70).map(|_| ("A", "1")).collect();
    let most = wrong("<tcp dstportstart='$A[@1]' srcportstart='$A[@2]'/>", &many);
    assert!(most.contains("4900 combinations"), "{most}");
}

#[test]
fn chains_and_rules_are_asked_by_their_priorities_and_parameters_reach_inner_filters() {
    let arp = "<filter name='arps' chain='arp-own'><rule action='drop' direction='out' priority='2'/>\
               <rule action='return' direction='out' priority='1'><arp arpsrcipaddr='$IP'/></rule>\
               </filter>";
    let outer = "<filter name='outer'><filterref filter='arps'/>\
                 <filterref filter='no-mac-spoofing'/>\
                 <filterref filter='no-ip-spoofing'><parameter name='IP' value='10.0.0.6'/></filterref>\
                 <rule action='accept' direction='out' priority='-501'><mac/></rule>\
                 <rule action='accept' direction='out' priority='-499'><mac/></rule></filter>";
    let found = instance_of(&[arp, outer], &[("IP", "10.0.0.5")]).unwrap();
    let Instance { checks, addresses, filter } = found;
    assert!(checks.mac && checks.ip && !checks.arp, "Manor's own in place of their rules");
    assert_eq!(addresses, [std::net::IpAddr::from([10, 0, 0, 6])], "the nearest");
    let [FilterStep::Rule(first), FilterStep::Chain { name, rules, .. }, FilterStep::Rule(last)] =
        &filter.sent.frames[..]
    else {
        panic!("{filter:?}")
    };
    assert_eq!((first.label.as_str(), last.label.as_str()), ("outer, rule 1", "outer, rule 2"));
    assert_eq!(name, "arp-own");
    assert_eq!((rules[0].verdict, rules[1].verdict), (FilterVerdict::Return, FilterVerdict::Drop));
    assert_eq!(asked(&rules[0])[1], (FrameField::ArpSenderIp, vec![10, 0, 0, 5]));
    let missing = "<filter name='outer'><filterref filter='nowhere'/></filter>";
    let missing = instance_of(&[missing], &[]).unwrap_err();
    assert_eq!(missing.code, Code::ResourceMissing);
    assert!(missing.message.contains("there is no filter \"nowhere\"; define it"), "{missing:?}");
}

#[test]
fn what_goes_both_ways_is_written_as_the_guest_receives_it() {
    let text = rule("drop", "inout", "<mac match='no' srcmacaddr='$MAC'/>");
    let Instance { filter, .. } = instance_of(&[&text], &[("MAC", "02:00:00:00:00:09")]).unwrap();
    let only = |side: &broker::FilterSide| match &side.frames[..] {
        [FilterStep::Rule(rule)] => (asked(rule), rule.matching[0].inverted),
        other => panic!("{other:?}"),
    };
    let mac = vec![0x52, 0x54, 0, 0, 0, 1];
    assert_eq!(only(&filter.received), (vec![(FrameField::MacSource, mac.clone())], true));
    assert_eq!(only(&filter.sent), (vec![(FrameField::MacDestination, mac)], true));
}
