//! The whole way: text to definition to text.

use uuid::Uuid;

use crate::{DomainDef, Identity};

struct Counter(u8);

impl Identity for Counter {
    fn uuid(&mut self) -> Uuid {
        self.0 += 1;
        Uuid::from_u128(u128::from(self.0))
    }
    fn mac(&mut self) -> [u8; 3] {
        self.0 += 1;
        [0, 0, self.0]
    }
}

const SMALL: &str = "<domain type='kvm'>
  <name>small</name>
  <memory unit='MiB'>512</memory>
  <os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os>
  <devices>
    <disk type='file'><driver name='qemu' type='raw' cache='none'/><source file='/a.img'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><source network='default'/></interface>
    <serial type='pty'/>
  </devices>
</domain>";

#[test]
fn a_small_definition_comes_back_with_its_defaults() {
    let mut def = DomainDef::parse(SMALL).unwrap().value;
    def.fill_defaults(&mut Counter(0));
    let text = def.to_xml();
    let again = DomainDef::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.value, def, "{text}");
    assert!(text.contains("<mac address='52:54:00:00:00:02'/>"), "{text}");
    assert!(
        text.contains("<console type='pty'>\n      <target type='serial' port='0'/>"),
        "{text}"
    );
}

#[test]
fn all_errors_come_at_once_each_with_its_place() {
    let text = "<domain type='kvm'>\n  <name>x</name>\n  <memory>1024</memory>\n  <vpcu>4</vpcu>\n  <os><type>hvm</type></os>\n  <devices>\n    <disk type='file' device='flopppy'><driver cahce='none'/><source file='/a'/><target dev='vda'/></disk>\n  </devices>\n</domain>";
    let errors = DomainDef::parse(text).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "4:3: /domain/vpcu: <domain> has no element <vpcu> (did you mean <vcpu>?)\n\
         7:23: /domain/devices/disk/@device: device='flopppy' is not a value libvirt knows \
         (expected disk, cdrom, floppy, lun; did you mean floppy?)\n\
         7:48: /domain/devices/disk/driver/@cahce: <driver> has no attribute 'cahce' (did you mean cache?)"
    );
}
