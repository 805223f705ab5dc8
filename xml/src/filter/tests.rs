//! Filters as people write them, and what is said about mistakes.

use super::*;

const MINE: &str = "<filter name='mine' chain='ipv4-mine' priority='-650'>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <filterref filter='no-ip-spoofing'>
    <parameter name='IP' value='10.0.0.7'/>
  </filterref>
  <rule action='accept' direction='in' priority='100'>
    <tcp srcipaddr='10.0.0.0' srcipmask='8' dstportstart='$PORTS[@1]' flags='SYN,ACK/SYN' comment='it&apos;s ours'/>
  </rule>
  <filterref filter='allow-dhcp'/>
  <rule action='drop' direction='inout' priority='500' statematch='false'>
    <arp opcode='Reply'/>
    <arp match='no' arpdstmacaddr='$MAC'/>
  </rule>
  <rule action='drop' direction='inout' priority='1000'/>
</filter>
";

#[test]
fn a_filter_comes_back_as_libvirt_prints_it_with_its_entries_in_order() {
    let def = FilterDef::parse(MINE).unwrap().value;
    assert_eq!(def.to_xml(), MINE);
    assert_eq!(FilterDef::parse_stored(MINE).unwrap().value, def);
    let FilterEntry::Rule(rule) = &def.entries[1] else { panic!("{:?}", def.entries) };
    let [tcp] = &rule.protocols[..] else { panic!("{rule:?}") };
    assert_eq!(
        tcp.get("srcipmask").unwrap().operand,
        Operand::Value(Datum::Ipv4([255, 0, 0, 0].into()))
    );
    let ports = Variable { name: "PORTS".to_owned(), pick: Pick::Each(1) };
    assert_eq!(tcp.get("dstportstart").unwrap().operand, Operand::Variable(ports));
    let flags = Datum::TcpFlags { looked_at: 18, set: 2 };
    assert_eq!(tcp.get("flags").unwrap().operand, Operand::Value(flags));
}

#[test]
fn what_is_not_said_is_filled_in() {
    let text = "<filter name='a' chain='arp-x'><rule action='drop' direction='in'/></filter>";
    let mut def = FilterDef::parse(text).unwrap().value;
    def.fill_defaults();
    let xml = def.to_xml();
    assert!(xml.starts_with("<filter name='a' chain='arp-x' priority='-500'>"), "{xml}");
    assert!(xml.contains("<rule action='drop' direction='in' priority='500'/>"), "{xml}");
    let mut root = FilterDef::parse("<filter name='a'/>").unwrap().value;
    root.fill_defaults();
    assert_eq!(root.to_xml(), "<filter name='a' chain='root'/>\n");
}

/// A rule with this in it.
fn rule(inside: &str) -> String {
    format!("<filter name='f'><rule action='accept' direction='in'>{inside}</rule></filter>")
}

#[test]
fn mistakes_are_named_with_what_was_expected() {
    for (text, words) in [
        ("<filter/>".to_owned(), "needs an attribute name"),
        ("<filter name='f' chain='ip'/>".to_owned(), "begin with mac, stp"),
        ("<filter name='f' priority='1001'/>".to_owned(), "-1000 to 1000"),
        ("<filter name='f'><rule action='deny' direction='in'/></filter>".to_owned(), "drop, accept"),
        ("<filter name='f'><rule action='drop'/></filter>".to_owned(), "direction='…'"),
        ("<filter name='f'><filterref filter='g'><parameter name='a-b' value='1'/></filterref></filter>".to_owned(), "letters, digits"),
        (rule("<tpc/>"), "did you mean <tcp>"),
        (rule("<tcp dstport='80'/>"), "has no attribute 'dstport'"),
        (rule("<tcp/><udp/>"), "make two rules"),
        (rule("<tcp dstportstart='65536'/>"), "0 to 65535"),
        (rule("<tcp dstportend='80'/>"), "beside dstportstart alone"),
        (rule("<tcp srcipaddr='fd00::1'/>"), "an IPv4 address"),
        (rule("<tcp-ipv6 srcipaddr='10.0.0.1'/>"), "an IPv6 address"),
        (rule("<tcp srcipaddr='$'/>"), "names no variable"),
        (rule("<tcp srcipaddr='$A[x]'/>"), "names no variable"),
        (rule("<tcp flags='SYN'/>"), "SYN,ACK/SYN"),
        (rule("<tcp state='OPEN'/>"), "NEW,ESTABLISHED"),
        (rule("<tcp connlimit-above='5'/>"), "libvirt's 'connlimit-above' of <tcp>"),
        (rule("<udp ipset='x' ipsetflags='src'/>"), "libvirt's 'ipset' of <udp>"),
        (rule("<arp gratuitous='true'/>"), "libvirt's 'gratuitous' of <arp>"),
        (rule("<ip dstportstart='80'/>"), "protocol= to be tcp, udp"),
        (rule("<ip protocol='icmp' dstportstart='80'/>"), "protocol= to be tcp, udp"),
        (rule("<ipv6 type='135'/>"), "protocol= to be icmpv6"),
        (rule("<mac protocolid='0x5ff'/>"), "from 0x600 up"),
        (rule("<mac srcmacaddr='52:54'/>"), "a MAC address"),
        (rule("<vlan vlanid='4096'/>"), "0 to 4095"),
    ] {
        let error = FilterDef::parse(&text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}
