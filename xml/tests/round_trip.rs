//! What is written is read back the same, whatever the values are.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::path::PathBuf;

use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use xml::device::address::{DeviceAddress, PciPlace};
use xml::device::chardev::CharSource;
use xml::device::disk::{DetectZeroes, Discard, DiskCache, DiskFormat, DiskIo};
use xml::domain::memory::Kib;
use xml::{CpuSet, DomainDef, MacAddress, OnOff, PciAddress};

const BASE: &str = include_str!("../../tests/xml/define/dumpxml-q35.xml");
const TUNED: &str = include_str!("../../tests/xml/define/tuning.xml");

/// Text with everything that needs escaping, and white space at its ends.
fn text() -> impl Strategy<Value = String> {
    let pieces = [
        "&",
        "<",
        ">",
        "'",
        "\"",
        "\n",
        "\t",
        "\r",
        " ",
        "]]>",
        "<!--",
        "&amp;",
        "é",
        "\u{1f980}",
        "a",
        "0",
    ];
    prop::collection::vec(select(pieces.to_vec()), 1..12)
        .prop_map(|pieces| format!("x{}", pieces.concat()))
}

fn path() -> impl Strategy<Value = PathBuf> {
    text().prop_map(|text| PathBuf::from(format!("/{text}x")))
}

fn pci() -> impl Strategy<Value = PciAddress> {
    (any::<u16>(), any::<u8>(), 0..32_u8, 0..8_u8)
        .prop_map(|(domain, bus, slot, function)| PciAddress { domain, bus, slot, function })
}

fn on_off() -> impl Strategy<Value = OnOff> {
    select(vec![OnOff::On, OnOff::Off])
}

proptest! {
    #[test]
    fn a_disk_comes_back(
        source in path(),
        serial in "[A-Za-z0-9_. +-]{1,20}",
        format in of(select(vec![DiskFormat::Raw, DiskFormat::Qcow2, DiskFormat::Vmdk])),
        cache in of(select(vec![DiskCache::None, DiskCache::WriteBack, DiskCache::Unsafe])),
        io in of(select(vec![DiskIo::Threads, DiskIo::Native, DiskIo::IoUring])),
        discard in of(select(vec![Discard::Unmap, Discard::Ignore])),
        zeroes in of(select(vec![DetectZeroes::Off, DetectZeroes::Unmap])),
        queues in of(any::<u32>()),
        limit in of(any::<u64>()),
        address in of(pci()),
        multifunction in of(on_off()),
        flags in any::<[bool; 2]>(),
    ) {
        let mut def = DomainDef::parse(BASE).unwrap().value;
        let disk = &mut def.devices.disks[0];
        disk.source.as_mut().unwrap().file = Some(source);
        disk.serial = Some(serial);
        let driver = disk.driver.as_mut().unwrap();
        (driver.format, driver.cache, driver.io) = (format, cache, io);
        (driver.discard, driver.detect_zeroes, driver.queues) = (discard, zeroes, queues);
        // Beyond the buses of the other devices, where no two may share a place.
        let address = address.map(|address| PciAddress { domain: address.domain | 1, ..address });
        disk.address = Some(DeviceAddress::Pci(PciPlace { address, multifunction }));
        disk.io_tune = Some(Default::default());
        disk.io_tune.as_mut().unwrap().write_bytes_max = limit;
        [disk.read_only, disk.shareable] = flags;
        let written = def.to_xml();
        prop_assert_eq!(&DomainDef::parse(&written).map_err(|e| TestCaseError::fail(format!("{e}\n{written}")))?.value, &def);
    }

    #[test]
    fn texts_and_amounts_come_back(
        name in "[a-zA-Z0-9&<>'\" äß🦀_.-]{0,60}[a-z]",
        title in text(),
        description in text(),
        cmdline in text(),
        kib in 1..=(1_u64 << 54) - 1,
        cpus in prop::collection::btree_set(0..16_384_u32, 1..40),
        mac in any::<[u8; 6]>(),
        tap in "[a-zA-Z0-9&<>'\"_-]{1,15}",
        log in path(),
        host in of(text()),
    ) {
        let mut def = DomainDef::parse(TUNED).unwrap().value;
        def.name = format!("n{name}").parse().unwrap();
        def.title = Some(title.replace('\n', " "));
        def.description = Some(description);
        def.os.cmdline = Some(cmdline);
        def.memory.size = Kib(kib);
        def.max_memory = None;
        let cpus: CpuSet = cpus.into_iter().collect();
        def.vcpu.as_mut().unwrap().cpuset = Some(cpus.clone());
        def.cpu_tune.as_mut().unwrap().emulator_pin = Some(cpus);
        let [first, rest @ ..] = mac;
        let interface = &mut def.devices.interfaces[0];
        let address = MacAddress([first & !1, rest[0], rest[1], rest[2], rest[3], rest[4]]);
        interface.mac = Some(xml::device::interface::Mac { address, kind: None, check: None });
        interface.target = Some(Default::default());
        interface.target.as_mut().unwrap().dev = Some(tap);
        let serial = &mut def.devices.serials[0];
        serial.sources = vec![CharSource { path: Some(log), host, ..serial.sources[0].clone() }];
        serial.sources[0].host.get_or_insert_with(String::new);
        let written = def.to_xml();
        prop_assert_eq!(&DomainDef::parse(&written).map_err(|e| TestCaseError::fail(format!("{e}\n{written}")))?.value, &def);
    }

    #[test]
    fn pci_addresses_print_and_parse(address in pci()) {
        prop_assert_eq!(address.to_string().parse::<PciAddress>(), Ok(address));
    }
}

#[test]
fn what_is_no_pci_address_is_not_parsed() {
    for text in [
        "",
        "0000:00:1f",
        "00:20.0",
        "00:1f.8",
        "0000:00:1f.00",
        "0:0:0.0",
        "0000:00:+f.0",
        "00000:00:1f.0",
    ] {
        assert!(text.parse::<PciAddress>().is_err(), "{text}");
    }
    assert_eq!("00:1f.2".parse::<PciAddress>().unwrap().to_string(), "0000:00:1f.2");
}

#[test]
fn positions_are_found_for_what_is_refused_later() {
    let parsed = DomainDef::parse(BASE).unwrap();
    let line = |path: &str| {
        let position = parsed.source.position(path);
        let text = BASE.lines().nth(position.line as usize - 1).unwrap();
        text.chars().skip(position.column as usize - 1).collect::<String>()
    };
    assert!(line("/domain/devices/disk[2]/target/@bus").starts_with("bus='virtio'/>"));
    assert!(line("/domain/devices/disk[1]/target").starts_with("<target dev='vda'"));
    assert!(line("/domain/devices/disk/driver/@type").starts_with("type='qcow2'"));
    assert!(line("/domain/devices/watchdog/@model").starts_with("model='itco'"));
    // A default that nobody wrote is placed at the element around it.
    assert!(
        line("/domain/devices/disk[2]/driver/@io").starts_with("<driver name='qemu' type='raw'")
    );
    assert!(line("/domain/devices/disk[9]/target").starts_with("<devices>"));
    assert!(line("/elsewhere").starts_with("<domain"));
}
