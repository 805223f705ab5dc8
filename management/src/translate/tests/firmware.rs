//! What a guest starts with, and is told of its machine by firmware.

use vmm_protocol::config::{Boot, Firmware, FwCfgContent, FwCfgFile, Smbios};

use super::*;

/// A domain that boots from its disk.
fn bootable(os: &str, devices: &str) -> String {
    with("", devices).replace("<kernel>/k</kernel><cmdline> quiet </cmdline>", os)
}

fn firmware_of(text: &str) -> Firmware {
    match configured(&defined(text)).boot {
        Boot::Firmware(firmware) => firmware,
        Boot::Kernel { .. } => panic!("a kernel"),
    }
}

#[test]
fn a_domain_without_a_kernel_starts_with_the_bios() {
    let text = bootable("", DISK);
    let expected = Firmware { image: Fd(11), variables: None, menu: None, serial_text: false };
    assert_eq!(firmware_of(&text), expected);
    assert!(!defined(&text).to_xml().contains("<loader"), "as libvirt, it is not written down");
    let serial = format!("{DISK}<serial type='pty'/>");
    assert!(firmware_of(&bootable("", &serial)).serial_text, "nothing else shows its text");
    let shown = format!("{serial}<video><model type='vga'/></video>");
    assert!(!firmware_of(&bootable("", &shown)).serial_text);
    let menu = "<bootmenu enable='yes' timeout='3000'/><bios useserial='yes'/>";
    let firmware = firmware_of(&bootable(menu, &shown));
    assert_eq!((firmware.menu, firmware.serial_text), (Some(3000), true));
    assert_eq!(firmware_of(&bootable("<bootmenu enable='no' timeout='1'/>", DISK)).menu, None);
}

#[test]
fn flash_has_variables_of_the_domains_own() {
    let code = "<loader readonly='yes' type='pflash'>/code.fd</loader>";
    let text = bootable(&format!("{code}<nvram template='/vars.fd'/>"), DISK);
    let def = defined(&text);
    let uuid = def.uuid.unwrap();
    let path = format!("/var/lib/manor/nvram/{uuid}_VARS.fd");
    assert!(
        def.to_xml().contains(&format!("<nvram template='/vars.fd'>{path}</nvram>")),
        "{}",
        def.to_xml()
    );
    assert_eq!(firmware_of(&text).variables, Some(Fd(12)));
    assert_eq!(defined(&def.to_xml()), def);
    let own = bootable(&format!("{code}<nvram>/own.fd</nvram>"), DISK);
    assert!(defined(&own).to_xml().contains("<nvram>/own.fd</nvram>"));
    let rom = bootable("<loader>/OVMF.fd</loader>", DISK);
    assert_eq!(firmware_of(&rom).variables, None);
    let stateless = code.replace("type", "stateless='yes' type");
    assert_eq!(firmware_of(&bootable(&stateless, DISK)).variables, None);
}

#[test]
fn firmware_that_cannot_be_had_is_refused_by_name() {
    let efi = "<firmware><feature enabled='yes' name='secure-boot'/></firmware>";
    let pflash = "<loader readonly='yes' type='pflash'>/code.fd</loader>";
    let cases = [
        ("<kernel>/k</kernel><loader>/x</loader>", "firmware beside a kernel"),
        ("<initrd>/x</initrd>", "a <initrd> without a <kernel>"),
        (efi, "Secure Boot: it needs system management mode"),
        ("<loader/>", "name the firmware image"),
        ("<loader secure='yes'>/x</loader>", "Secure Boot"),
        ("<loader format='qcow2'>/x</loader>", "convert it to raw"),
        ("<loader readonly='no' type='pflash'>/x</loader>", "use readonly='yes'"),
        ("<loader>/x</loader><nvram>/v</nvram>", "variables are kept in flash"),
        ("<loader stateless='yes' type='pflash'>/x</loader><nvram>/v</nvram>", "keep none"),
        (&format!("{pflash}<nvram format='qcow2'>/v</nvram>"), "convert them to raw"),
    ];
    for (os, expected) in cases {
        let error = refused(&bootable(os, DISK));
        assert!(error.problems.iter().any(|p| p.message.contains(expected)), "{os}: {error:?}");
    }
    let microvm = bootable("", DISK).replace("q35", "microvm");
    assert!(refused(&microvm).message.contains("a microvm has no firmware"));
    let missing = refused(&bootable("", DISK).replace("<os>", "<os firmware='efi'>"));
    assert!(missing.message.contains("install the package ovmf"), "{missing:?}");
    assert_eq!(missing.code, Code::Unsupported);
}

#[test]
fn the_boot_order_names_devices_or_the_first_of_each_kind() {
    let order = |text: &str| {
        let config = configured(&defined(text));
        let ordered = config.pci.into_iter().filter_map(|d| Some((d.boot_index?, d.id)));
        let mut ordered: Vec<_> = ordered.collect();
        ordered.sort_unstable();
        ordered.into_iter().map(|(order, id)| format!("{order} {id}")).collect::<Vec<_>>()
    };
    let second = DISK.replace("vda", "vdb").replace("/a", "/b");
    assert_eq!(order(&bootable("", &format!("{DISK}{second}{NIC}"))), ["1 virtio-disk0"]);
    let by_kind = "<boot dev='network'/><boot dev='hd'/>";
    let both = format!("{DISK}{second}{NIC}");
    assert_eq!(order(&bootable(by_kind, &both)), ["1 net0", "2 virtio-disk0"]);
    let own = |text: &str, order: u32, end: &str| {
        text.replace(end, &format!("<boot order='{order}'/>{end}"))
    };
    let own = format!("{DISK}{}{}", own(&second, 7, "</disk>"), own(NIC, 3, "</interface>"));
    assert_eq!(order(&bootable("", &own)), ["3 net0", "7 virtio-disk1"]);
}

#[test]
fn smbios_and_fw_cfg_tell_what_the_definition_says() {
    let uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";
    let sysinfo = format!(
        "<sysinfo type='smbios'><system><entry name='manufacturer'>Acme</entry>         <entry name='uuid'>{uuid}</entry></system><oemStrings><entry>a:b</entry></oemStrings></sysinfo>         <sysinfo type='fwcfg'><entry name='opt/com.example/a'>text</entry>         <entry name='opt/com.example/b' file='/b'/></sysinfo>"
    );
    let text = |mode: &str| with(&sysinfo, DISK).replace("</os>", &format!("{mode}</os>"));
    let def = defined(&text("<smbios mode='sysinfo'/>"));
    assert_eq!(def.uuid.unwrap().to_string(), uuid, "it is the domain's, said nowhere else");
    let config = configured(&def);
    assert_eq!(config.smbios.system.manufacturer.as_deref(), Some("Acme"));
    assert_eq!(config.smbios.oem_strings, ["a:b"]);
    let file = |name: &str, content| FwCfgFile { name: format!("opt/com.example/{name}"), content };
    let expected =
        [file("a", FwCfgContent::Text("text".into())), file("b", FwCfgContent::File(Fd(100)))];
    assert_eq!(config.fw_cfg, expected);
    // Without the mode, libvirt tells none of it.
    assert_eq!(configured(&defined(&text(""))).smbios, Smbios::default());

    let other = text("").replace(
        "<name>t</name>",
        "<name>t</name><uuid>00000000-0000-0000-0000-000000000001</uuid>",
    );
    assert!(refused(&other).message.contains("not that of the domain"));
    for (name, expected) in [("etc/e820", "must begin with 'opt/'"), ("opt/", "")] {
        let text = text("").replace("opt/com.example/a", name);
        if expected.is_empty() {
            defined(&text);
        } else {
            assert!(refused(&text).message.contains(expected));
        }
    }
    assert!(
        refused(&with("", DISK).replace("</os>", "<smbios mode='sysinfo'/></os>"))
            .message
            .contains("needs a <sysinfo")
    );
}
