use super::*;

const DOMAIN: &str = "<domain type='kvm'>\n    <name>web</name>\n    <memory unit='KiB'>65536</memory>\n    \
    <os>\n      <type>hvm</type>\n    </os>\n    <devices/>\n  </domain>";

fn refused(inside: &str) -> String {
    let text = format!("<domainsnapshot>{inside}</domainsnapshot>");
    SnapshotDef::parse(&text).unwrap_err().to_string()
}

#[test]
fn a_snapshot_comes_back_as_libvirt_prints_it() {
    let text = format!(
        "<domainsnapshot>\n  <name>s2</name>\n  <description>before the upgrade</description>\n  \
         <state>running</state>\n  <parent>\n    <name>s1</name>\n  </parent>\n  \
         <creationTime>1700000000</creationTime>\n  \
         <memory snapshot='external' file='/m/s2.mem'/>\n  <disks>\n    \
         <disk name='vda' snapshot='external' type='file'>\n      <driver type='qcow2'/>\n      \
         <source file='/d/web.s2'/>\n    </disk>\n    <disk name='sda' snapshot='no'/>\n  </disks>\n  \
         {DOMAIN}\n  {inactive}\n</domainsnapshot>\n",
        inactive = DOMAIN
            .replace("domain type='kvm'>", "inactiveDomain type='kvm'>")
            .replace("</domain>", "</inactiveDomain>"),
    );
    let def = SnapshotDef::parse(&text).unwrap().value;
    assert_eq!(def.to_xml(), text);
    assert_eq!((def.name(), def.parent()), ("s2", Some("s1")));
    assert!(def.is_external());
    let set = SnapshotSet { snapshots: vec![def.clone(), def] };
    assert_eq!(SnapshotSet::parse_stored(&set.to_xml()).unwrap(), set);
}

#[test]
fn what_is_not_said_follows_from_what_is() {
    let text = "<domainsnapshot><memory file='/m'/><disks><disk name='vda'><source file='/o'/>\
        </disk><disk name='vdb'/></disks></domainsnapshot>";
    let def = SnapshotDef::parse(text).unwrap().value;
    assert_eq!(def.memory(), Some(MemorySnapshot::External));
    let modes: Vec<_> = def.disks().iter().map(SnapshotDisk::mode).collect();
    assert_eq!(modes, [Some(SnapshotMode::External), None]);
    assert!(!SnapshotDef::parse("<domainsnapshot/>").unwrap().value.is_external());
}

#[test]
fn notes_of_another_driver_are_read_over() {
    let text =
        "<domainsnapshot><cookie><cpu mode='custom'/></cookie><active>1</active></domainsnapshot>";
    let def = SnapshotDef::parse(text).unwrap().value;
    assert!(!def.to_xml().contains("cookie"));
}

#[test]
fn contradictions_are_placed() {
    for (inside, complaint) in [
        ("<memory snapshot='external'/>", "<memory> needs an attribute file='…'"),
        ("<memory snapshot='internal' file='/m'/>", "internal has no file"),
        ("<memory file='m'/>", "begins with '/'"),
        ("<disks><disk/></disks>", "name='…'"),
        (
            "<disks><disk name='a' snapshot='no'><source file='/x'/></disk></disks>",
            "kind no has no",
        ),
        ("<disks><disk name='a'><source file='x'/></disk></disks>", "begins with '/'"),
        ("<disks><disk name='a'/><disk name='a'/></disks>", "stands here twice"),
        ("<disks><disk name='a' type='network'/></disks>", "not of type='network'"),
        ("<disks><disk name='a' type='block'><source file='/x'/></disk></disks>", "no source file"),
        ("<name>a/b</name>", "without '/'"),
        ("<name>a</name><parent><name>a</name></parent>", "its own parent"),
        ("<stat>running</stat>", "did you mean"),
        ("<state>runing</state>", "did you mean"),
    ] {
        let found = refused(inside);
        assert!(found.contains(complaint), "{inside}: {found}");
    }
    assert!(SnapshotDef::parse("<domain/>").unwrap_err().to_string().contains("<domainsnapshot>"));
}
