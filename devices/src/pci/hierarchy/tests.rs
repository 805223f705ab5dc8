use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;
use crate::pci::{BarKind, Chip, Config, ConfigBuilder, Ids, PlainBridge, Windows};

const RAM: u64 = 0x8000_0000;

/// Two BARs (4 KiB of 32-bit memory, 16 KiB of 64-bit memory) and 64 ports; reads give its tag.
struct Card {
    tag: u8,
    config: Config,
    moves: Mutex<Vec<(u8, Option<u64>)>>,
    writes: AtomicU32,
}

impl Card {
    fn new(tag: u8) -> Arc<Self> {
        let ids = Ids { vendor: 0x1af4, device: u16::from(tag), class: 0xff_00_00, revision: 0 };
        let mut builder = ConfigBuilder::new(ids);
        builder.bar(0, BarKind::Io, 64).bar(1, BarKind::Memory32, 0x1000).bar(
            2,
            BarKind::Memory64,
            0x4000,
        );
        let config = builder.build();
        Arc::new(Self { tag, config, moves: Mutex::default(), writes: AtomicU32::new(0) })
    }

    fn last_move(&self, bar: u8) -> Option<u64> {
        let moves = self.moves.hold();
        moves.iter().rev().find(|(index, _)| *index == bar).and_then(|(_, base)| *base)
    }
}

impl PciFunction for Card {
    fn name(&self) -> &str {
        "card"
    }
    fn config(&self) -> &Config {
        &self.config
    }
    fn bar_read(&self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(self.tag);
    }
    fn bar_write(&self, _bar: u8, _offset: u64, _data: &[u8]) -> Effect {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Effect::None
    }
    fn bar_moved(&self, bar: u8, base: Option<u64>) {
        self.moves.hold().push((bar, base));
    }
}

/// A shadow that covers the first three buses.
struct Shadow {
    bytes: Mutex<Vec<u8>>,
    window: Mutex<Option<EcamWindow>>,
}

impl ConfigShadow for Shadow {
    fn store(&self, offset: u64, data: &[u8]) {
        let at = offset as usize;
        if let Some(bytes) = self.bytes.hold().get_mut(at..at + data.len()) {
            bytes.copy_from_slice(data);
        }
    }
    fn moved(&self, window: Option<EcamWindow>) {
        *self.window.hold() = window;
    }
}

struct Rig {
    mmio: Arc<Bus>,
    pio: Arc<Bus>,
    shadow: Arc<Shadow>,
    root: Arc<PciRoot>,
}

const ECAM: u64 = 0xb000_0000;
const WINDOWS: Windows = Windows {
    io: 0xc000..0xffff,
    memory32: 0xc000_0000..0xfec0_0000,
    memory64: 0x80_0000_0000..0x90_0000_0000,
};

impl Rig {
    /// A q35 root with only its host bridge.
    fn new() -> Self {
        let (mmio, pio) = (Arc::new(Bus::new("mmio")), Arc::new(Bus::new("port")));
        let bytes = Mutex::new(vec![0xff; 3 << 20]);
        let shadow = Arc::new(Shadow { bytes, window: Mutex::default() });
        let ram = vec![(0, RAM)];
        let root = PciRoot::new(mmio.clone(), pio.clone(), ram, Some(shadow.clone()));
        root.add(BusId::ROOT, 0, 0, Arc::new(Chip::q35_host_bridge(Some(ECAM)))).unwrap();
        let ports = Arc::new(ConfigPorts::new(Arc::downgrade(&root)));
        pio.insert(ConfigPorts::BASE, ConfigPorts::LEN, ports).unwrap();
        Self { mmio, pio, shadow, root }
    }

    fn card(&self, bus: BusId, device: u8, tag: u8) -> Arc<Card> {
        let card = Card::new(tag);
        self.root.add(bus, device, 0, card.clone()).unwrap();
        card
    }

    fn bridge(&self, bus: BusId, device: u8) -> BusId {
        self.root.add(bus, device, 0, Arc::new(PlainBridge::pci_bridge("bridge"))).unwrap()
    }

    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        let effect = self.root.config_write(address, offset, &value.to_le_bytes());
        assert_eq!(effect, Effect::None);
    }

    fn id(&self, address: PciAddress) -> u32 {
        let mut data = [0; 4];
        self.root.config_read(address, 0, &mut data);
        u32::from_le_bytes(data)
    }

    fn byte_at(&self, address: u64) -> u8 {
        let mut data = [0];
        self.mmio.read(address, &mut data);
        data[0]
    }
}

const fn slot(device: u8) -> PciAddress {
    PciAddress::new(0, device, 0)
}

#[test]
fn ports_and_ecam_reach_the_same_registers() {
    let rig = Rig::new();
    rig.card(BusId::ROOT, 2, 0x77);
    let mut by_port = [0; 4];
    assert_eq!(rig.pio.write(0xcf8, &0x8000_1000u32.to_le_bytes()), Effect::None);
    rig.pio.read(0xcfc, &mut by_port);
    let mut by_memory = [0; 4];
    rig.mmio.read(ECAM + slot(2).ecam_offset(), &mut by_memory);
    assert_eq!(u32::from_le_bytes(by_port), 0x0077_1af4);
    assert_eq!(by_memory, by_port);
    let mut device = [0; 2];
    rig.pio.read(0xcfe, &mut device);
    assert_eq!(device, [0x77, 0]);
}

#[test]
fn absent_functions_read_as_all_ones() {
    let rig = Rig::new();
    assert_eq!(rig.id(slot(9)), !0);
    assert_eq!(rig.id(PciAddress::new(200, 0, 0)), !0);
    rig.write(slot(9), 4, 7);
}

#[test]
fn odd_shaped_port_accesses_are_ignored() {
    let rig = Rig::new();
    let _ = rig.pio.write(0xcf8, &0x8000_0000u32.to_le_bytes());
    for (port, len) in [(0xcf8, 2), (0xcf9, 2), (0xcfa, 1), (0xcfd, 2), (0xcfe, 4), (0xcfc, 3)] {
        let mut data = vec![0; len];
        rig.pio.read(port, &mut data);
        assert!(data.iter().all(|byte| *byte == 0xff), "{port:#x}/{len}");
        assert_eq!(rig.pio.write(port, &vec![0xff; len]), Effect::None, "{port:#x}/{len}");
    }
    let mut address = [0; 4];
    rig.pio.read(0xcf8, &mut address);
    assert_eq!(u32::from_le_bytes(address), 0x8000_0000);
}

#[test]
fn port_cf9_resets_the_machine_only_on_its_trigger() {
    let rig = Rig::new();
    assert_eq!(rig.pio.write(0xcf9, &[0x02]), Effect::None);
    let mut value = [0];
    rig.pio.read(0xcf9, &mut value);
    assert_eq!(value, [0x02]);
    assert_eq!(rig.pio.write(0xcf9, &[0x06]), Effect::Reset);
}

#[test]
fn assigned_resources_are_decoded_behind_bridges_too() {
    let rig = Rig::new();
    let near = rig.card(BusId::ROOT, 2, 0x22);
    let bus = rig.bridge(BusId::ROOT, 3);
    let inner = rig.bridge(bus, 0);
    let far = rig.card(inner, 5, 0x33);
    rig.root.assign_resources(&WINDOWS).unwrap();
    assert_eq!(rig.root.address(inner, 5, 0), Some(PciAddress::new(2, 5, 0)));
    for (card, tag) in [(near, 0x22), (far, 0x33)] {
        let port = card.last_move(0).unwrap();
        let mut data = [0];
        rig.pio.read(port, &mut data);
        assert_eq!(data, [tag]);
        assert!(WINDOWS.io.contains(&port));
        let (low, high) = (card.last_move(1).unwrap(), card.last_move(2).unwrap());
        assert!(WINDOWS.memory32.contains(&low) && WINDOWS.memory64.contains(&high));
        assert_eq!((rig.byte_at(low), rig.byte_at(high)), (tag, tag));
    }
}

#[test]
fn a_survey_tells_what_was_assigned() {
    let rig = Rig::new();
    let ecam = Some(EcamWindow { base: ECAM, len: 256 << 20 });
    assert_eq!(rig.root.survey(), Survey { ecam, last_bus: 0, memory64: None });
    let bus = rig.bridge(BusId::ROOT, 1);
    rig.card(bus, 0, 7);
    rig.root.assign_resources(&WINDOWS).unwrap();
    let survey = rig.root.survey();
    assert_eq!((survey.ecam, survey.last_bus), (ecam, 1));
    // The window of the bridge, of the least size that there is.
    let start = WINDOWS.memory64.start;
    assert_eq!(survey.memory64, Some(start..start + (1 << 20)));
}

#[test]
fn too_small_a_window_is_an_error_that_names_the_device() {
    let rig = Rig::new();
    rig.card(BusId::ROOT, 2, 1);
    let error =
        rig.root.assign_resources(&Windows { memory32: 0xc000_0000..0xc000_0800, ..WINDOWS });
    assert_eq!(
        error.unwrap_err().to_string(),
        "no room for 0x1000 bytes of card in the 32-bit memory window"
    );
}

#[test]
fn a_closed_bridge_window_hides_what_is_behind_it() {
    let rig = Rig::new();
    let bus = rig.bridge(BusId::ROOT, 3);
    let card = rig.card(bus, 0, 0x33);
    rig.root.assign_resources(&WINDOWS).unwrap();
    let base = card.last_move(1).unwrap();
    rig.write(slot(3), 0x20, 0x0000_fff0);
    assert_eq!((card.last_move(1), rig.byte_at(base)), (None, 0xff));
    rig.write(slot(3), 0x18, 0);
    assert_eq!(rig.id(PciAddress::new(1, 0, 0)), !0, "no bus number leads there");
    assert!(card.last_move(2).is_some(), "memory does not depend on bus numbers");
}

#[test]
fn a_moved_bar_takes_its_route_along() {
    let rig = Rig::new();
    let card = rig.card(BusId::ROOT, 2, 0x22);
    rig.root.assign_resources(&WINDOWS).unwrap();
    let old = card.last_move(1).unwrap();
    rig.write(slot(2), 0x14, 0xd000_0000);
    assert_eq!((rig.byte_at(0xd000_0fff), rig.byte_at(old)), (0x22, 0xff));
    rig.write(slot(2), 4, 0);
    assert_eq!((card.last_move(1), rig.byte_at(0xd000_0000)), (None, 0xff));
}

#[test]
fn a_bar_over_ram_zero_or_the_top_is_not_decoded() {
    let rig = Rig::new();
    let card = rig.card(BusId::ROOT, 2, 0x22);
    rig.root.assign_resources(&WINDOWS).unwrap();
    for base in [0, 0x1000, RAM as u32 - 0x1000, ECAM as u32] {
        rig.write(slot(2), 0x14, base);
        assert_eq!(card.last_move(1), None, "{base:#x}");
    }
    rig.write(slot(2), 0x14, 0xffff_f000);
    assert_eq!(rig.byte_at(0xffff_ffff), 0x22);
    rig.write(slot(2), 0x18, 0xffff_ffff);
    rig.write(slot(2), 0x1c, 0xffff_ffff);
    assert_eq!(rig.byte_at(u64::MAX), 0x22);
}

#[test]
fn a_bar_over_another_one_waits_until_the_place_is_free() {
    let rig = Rig::new();
    let (first, second) = (rig.card(BusId::ROOT, 2, 0x22), rig.card(BusId::ROOT, 3, 0x33));
    rig.root.assign_resources(&WINDOWS).unwrap();
    let (theirs, ours) = (second.last_move(1).unwrap(), first.last_move(1).unwrap());
    rig.write(slot(2), 0x14, theirs as u32);
    assert_eq!((rig.byte_at(theirs), first.last_move(1)), (0x33, None));
    rig.write(slot(3), 0x14, ours as u32);
    assert_eq!((rig.byte_at(theirs), rig.byte_at(ours)), (0x22, 0x33));
}

#[test]
fn ecam_follows_its_register() {
    let rig = Rig::new();
    assert_eq!(rig.root.ecam_window(), Some(EcamWindow { base: ECAM, len: 256 << 20 }));
    rig.write(slot(0), 0x60, 0xe000_0001);
    assert_eq!(rig.shadow.window.hold().unwrap().base, 0xe000_0000);
    let mut id = [0; 4];
    rig.mmio.read(0xe000_0000, &mut id);
    assert_eq!(u32::from_le_bytes(id), 0x29c0_8086);
    rig.write(slot(0), 0x60, 0xe000_0000);
    assert_eq!(rig.root.ecam_window(), None);
    rig.write(slot(0), 0x60, 0x1000_0001);
    assert_eq!(rig.root.ecam_window(), None, "over RAM");
}

#[test]
fn the_shadow_shows_what_reads_would_give() {
    let rig = Rig::new();
    let bus = rig.bridge(BusId::ROOT, 3);
    rig.card(bus, 1, 0x33);
    rig.root.assign_resources(&WINDOWS).unwrap();
    rig.write(slot(3), 0x18, 0x0002_0200);
    for address in (0..3).flat_map(|bus| (0..=255).map(move |devfn| (bus, devfn))) {
        let address = PciAddress::from_devfn(address.0, address.1);
        let at = address.ecam_offset() as usize;
        let shown = rig.shadow.bytes.hold()[at..at + 4096].to_vec();
        for (offset, shown) in (0u16..).step_by(4).zip(shown.chunks(4)) {
            let mut read = [0; 4];
            rig.root.config_read(address, offset, &mut read);
            assert_eq!(shown, read, "{address} {offset:#x}");
        }
    }
    assert_eq!(rig.id(PciAddress::new(2, 1, 0)), 0x0033_1af4);
}

#[test]
fn bridges_that_claim_a_bus_twice_or_in_a_loop_do_no_harm() {
    let rig = Rig::new();
    let (one, two) = (rig.bridge(BusId::ROOT, 3), rig.bridge(BusId::ROOT, 4));
    let inner = rig.bridge(one, 0);
    rig.card(one, 5, 0x11);
    rig.card(two, 5, 0x22);
    rig.card(inner, 5, 0x33);
    rig.write(slot(3), 0x18, 0x0001_0100);
    rig.write(slot(4), 0x18, 0x00ff_0100);
    assert_eq!(rig.id(PciAddress::new(1, 5, 0)), 0x0011_1af4, "the first one answers");
    for secondary in [0, 1] {
        rig.write(PciAddress::new(1, 0, 0), 0x18, 0x00ff_0000 | secondary << 8 | 1);
        assert_eq!(rig.root.address(inner, 5, 0), None);
    }
}

#[test]
fn a_removed_bridge_takes_all_behind_it_along() {
    let rig = Rig::new();
    let bus = rig.bridge(BusId::ROOT, 3);
    let card = rig.card(bus, 0, 0x33);
    rig.root.assign_resources(&WINDOWS).unwrap();
    let base = card.last_move(2).unwrap();
    rig.root.remove(BusId::ROOT, 3, 0);
    assert_eq!((card.last_move(2), rig.byte_at(base)), (None, 0xff));
    assert!(matches!(rig.root.add(bus, 1, 0, Card::new(1)), Err(PciError::NoBus { .. })));
    let at = slot(3).ecam_offset() as usize;
    assert_eq!(rig.shadow.bytes.hold()[at..at + 4], [0xff; 4]);
}

#[test]
fn a_bus_reset_reaches_all_behind_the_bridge_once() {
    let rig = Rig::new();
    let (near, bus) = (rig.card(BusId::ROOT, 2, 0x22), rig.bridge(BusId::ROOT, 3));
    let inner = rig.bridge(bus, 0);
    let far = rig.card(inner, 5, 0x33);
    rig.root.assign_resources(&WINDOWS).unwrap();
    let _ = rig.root.config_write(slot(3), 0x3e, &[0x40, 0]);
    assert_eq!((far.last_move(1), far.config.u32(0x14)), (None, 0));
    assert!(near.last_move(1).is_some());
    assert_eq!(rig.root.address(inner, 5, 0), None, "the inner bridge lost its bus numbers");
    let inner_bridge = rig.root.address(bus, 0, 0).unwrap();
    rig.write(inner_bridge, 4, 7);
    let _ = rig.root.config_write(slot(3), 0x3e, &[0x41, 0]);
    let mut command = [0; 2];
    rig.root.config_read(inner_bridge, 4, &mut command);
    assert_eq!(command[0] & 7, 7, "only the rising edge resets");
}

#[test]
fn a_taken_slot_is_refused_and_a_second_function_is_announced() {
    let rig = Rig::new();
    let card = rig.card(BusId::ROOT, 2, 0x22);
    assert!(matches!(
        rig.root.add(BusId::ROOT, 2, 0, Card::new(1)),
        Err(PciError::Occupied { .. })
    ));
    assert_eq!(card.config.u8(0x0e), 0);
    rig.root.add(BusId::ROOT, 2, 3, Card::new(1)).unwrap();
    rig.root.reset();
    assert_eq!(card.config.u8(0x0e), 0x80);
}

#[test]
fn accesses_of_any_shape_and_place_are_survived() {
    let rig = Rig::new();
    let card = rig.card(BusId::ROOT, 2, 0x22);
    rig.bridge(BusId::ROOT, 3);
    for device in [0, 2, 3, 4] {
        for offset in (0..0x110).chain(0xff0..0x1004) {
            for len in [0, 1, 2, 3, 4, 5, 8, 16] {
                for value in [0xff, 0x00, 0xa5] {
                    let _ = rig.root.config_write(slot(device), offset, &vec![value; len]);
                    rig.root.config_read(slot(device), offset, &mut vec![0; len]);
                }
            }
        }
    }
    rig.root.reset();
    rig.root.assign_resources(&WINDOWS).unwrap();
    assert_eq!(rig.byte_at(card.last_move(1).unwrap()), 0x22, "it still works");
}

#[test]
fn bars_are_accessed_while_they_move() {
    let rig = Rig::new();
    let card = rig.card(BusId::ROOT, 2, 0x22);
    rig.root.assign_resources(&WINDOWS).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..2000u32 {
                rig.write(slot(2), 0x14, 0xd000_0000 + (step % 2) * 0x1000);
            }
        });
        for step in 0..20_000u64 {
            let read = rig.byte_at(0xd000_0000 + step % 2 * 0x1000);
            assert!(read == 0x22 || read == 0xff);
        }
    });
    assert_eq!(card.last_move(1), Some(0xd000_1000));
}

#[test]
fn saved_ports_come_back() {
    let rig = Rig::new();
    let _ = rig.pio.write(0xcf8, &0x8000_0010u32.to_le_bytes());
    let other = Rig::new();
    other.root.restore(&rig.root.save().unwrap()).unwrap();
    let mut address = [0; 4];
    other.pio.read(0xcf8, &mut address);
    assert_eq!(u32::from_le_bytes(address), 0x8000_0010);
}

#[test]
fn pc_chips_are_preset_as_firmware_expects() {
    let pm = Chip::piix4_pm();
    assert_eq!((pm.config().u32(0x40), pm.config().u8(0x80), pm.config().u8(0x5b)), (0x601, 1, 2));
    let lpc = Chip::ich9_lpc();
    assert_eq!((lpc.config().u32(0x40), lpc.config().u8(0x44)), (0x601, 0x80));
    lpc.config().write(0x40, &0xb001u32.to_le_bytes());
    assert_eq!(lpc.config().u32(0x40), 0x601, "the block does not move");
    for (chip, pam) in [(Chip::q35_host_bridge(None), 0x90), (Chip::i440fx_host_bridge(), 0x59)] {
        assert_eq!(chip.config().u32(0x2c), 0x1100_1af4);
        chip.config().write(pam, &[0x33]);
        assert_eq!(chip.config().u8(pam), 0x33);
        assert_eq!(chip.ecam(), None);
    }
}

#[test]
fn a_saved_chip_comes_back() {
    let chip = Chip::q35_host_bridge(None);
    chip.config().write(0x60, &0xe000_0001u32.to_le_bytes());
    let other = Chip::q35_host_bridge(None);
    other.restore(&chip.save().unwrap()).unwrap();
    assert_eq!(other.ecam(), Some((0xe000_0000, 256 << 20)));
    assert!(Chip::ich9_lpc().restore(&chip.save().unwrap()).is_err());
}

/// Registers that decide on routing, of both header types.
const ROUTING: [u16; 16] = [
    0x04, 0x10, 0x14, 0x18, 0x19, 0x1a, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x3e, 0x60, 0x64, 0xf00,
];

fn writes() -> impl Strategy<Value = (usize, usize, u32, usize)> {
    let value = prop_oneof![
        Just(0),
        Just(u32::MAX),
        0..8u32,
        (0..4u32).prop_map(|bus| 0x00ff_0000 | bus << 8),
        (0xc00u32..0xc08).prop_map(|mib| mib << 20 | mib << 4),
        any::<u32>(),
    ];
    (0..6usize, 0..ROUTING.len(), value, prop_oneof![Just(1usize), Just(2), Just(4), Just(8)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_the_guest_writes_routes_follow_registers(
        writes in proptest::collection::vec(writes(), 1..60),
    ) {
        let rig = Rig::new();
        let near = rig.card(BusId::ROOT, 2, 0x22);
        let outer = rig.bridge(BusId::ROOT, 3);
        let inner = rig.bridge(outer, 0);
        let middle = rig.card(outer, 1, 0x44);
        let far = rig.card(inner, 0, 0x33);
        rig.root.assign_resources(&WINDOWS).unwrap();
        let places = [
            (BusId::ROOT, 0), (BusId::ROOT, 2), (BusId::ROOT, 3), (outer, 0), (outer, 1), (inner, 0),
        ];
        for (place, register, value, len) in writes {
            let (bus, device) = places[place];
            if let Some(address) = rig.root.address(bus, device, 0) {
                let data = u64::from(value).to_le_bytes();
                let _ = rig.root.config_write(address, ROUTING[register], &data[..len]);
            }
            for card in [&near, &middle, &far] {
                for bar in &card.config.bars()[1..] {
                    if let Some(base) = card.last_move(bar.index) {
                        prop_assert_eq!(card.config.bar_address(bar), Some(base));
                        prop_assert_eq!(rig.byte_at(base), card.tag);
                    }
                }
            }
            for (bus, device) in places {
                let Some(address) = rig.root.address(bus, device, 0) else { continue };
                let mut read = [0; 4];
                rig.root.config_read(address, 4, &mut read);
                let at = address.ecam_offset() as usize + 4;
                if let Some(shown) = rig.shadow.bytes.hold().get(at..at + 4) {
                    prop_assert_eq!(shown, &read[..]);
                }
            }
        }
    }
}
