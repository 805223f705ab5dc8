use super::*;

fn config() -> Config {
    let mut builder =
        ConfigBuilder::new(Ids { vendor: 0x1af4, device: 0x1042, class: 0x01_00_00, revision: 1 });
    builder
        .subsystem(0x1af4, 0x1100)
        .bar(0, BarKind::Io, 0x20)
        .bar(1, BarKind::Memory32, 0x1000)
        .bar(4, BarKind::Memory64, 0x4000);
    builder.capability(0x09, &[1, 2, 3], &[0, 0xff, 0]);
    builder.express(PortType::Endpoint);
    builder.build()
}

fn size_bar(config: &Config, register: u16) -> u32 {
    config.write(register, &[0xff; 4]);
    config.u32(register)
}

#[test]
fn ids_are_read_only() {
    let config = config();
    config.write(0, &[0xff; 4]);
    assert_eq!(config.u32(0), 0x1042_1af4);
    assert_eq!(config.u32(8), 0x0100_0001);
    assert_eq!(config.u32(0x2c), 0x1100_1af4);
}

#[test]
fn bars_report_their_size_and_kind() {
    let config = config();
    assert_eq!(size_bar(&config, 0x10), 0xffff_ffe1);
    assert_eq!(size_bar(&config, 0x14), 0xffff_f000);
    assert_eq!(size_bar(&config, 0x20), 0xffff_c00c);
    assert_eq!(size_bar(&config, 0x24), 0xffff_ffff);
    assert_eq!(size_bar(&config, 0x18), 0, "an absent BAR");
}

#[test]
fn a_bar_is_decoded_when_its_command_bit_is_set() {
    let config = config();
    let [io, memory, wide] = *config.bars() else { panic!("three BARs") };
    config.assign_bar(&io, 0xc000);
    config.assign_bar(&memory, 0xfebf_c000);
    config.assign_bar(&wide, 0x80_0000_0000);
    assert_eq!(config.bar_address(&wide), None);
    config.write(spec::COMMAND, &[2, 0]);
    assert_eq!(config.bar_address(&io), None);
    assert_eq!(config.bar_address(&memory), Some(0xfebf_c000));
    assert_eq!(config.bar_address(&wide), Some(0x80_0000_0000));
    config.assign_bar(&wide, 0);
    assert_eq!(config.bar_address(&wide), None);
}

#[test]
fn capabilities_form_a_list() {
    let config = config();
    assert_eq!(config.u16(spec::STATUS) & spec::STATUS_CAPABILITIES, spec::STATUS_CAPABILITIES);
    let first = config.u8(spec::CAPABILITIES).into();
    assert_eq!((config.u8(first), first), (0x09, 0x40));
    let second = config.u8(first + 1).into();
    assert_eq!(config.u8(second), spec::CAP_EXPRESS);
    assert_eq!(config.u8(second + 1), 0, "end of the list");
    let before = config.u32(first);
    config.write(first, &[0xff; 4]);
    assert_eq!(config.u32(first), before | 0xff00_0000, "only the writable byte changes");
}

#[test]
fn accesses_past_the_end_are_ignored() {
    let config = config();
    let mut data = [0; 4];
    config.write(0xffe, &data);
    config.read(0xffe, &mut data);
    assert_eq!(data, [0xff; 4]);
}

#[test]
fn a_conventional_function_ends_after_256_bytes() {
    let ids = Ids { vendor: 0x8086, device: 0x1237, class: 0x06_00_00, revision: 2 };
    let config = ConfigBuilder::new(ids).build();
    assert_eq!((config.u32(0xfc), config.u32(0x100)), (0, u32::MAX));
    assert_eq!(config.image()[0xff..0x101], [0, 0xff]);
    assert_eq!(self::config().u32(0x100), 0, "Express functions have room for capabilities");
}

#[test]
fn a_saved_state_brings_back_what_the_guest_wrote() {
    let saved = config();
    saved.assign_bar(&saved.bars()[1], 0xfebf_c000);
    saved.write(spec::COMMAND, &[7, 0]);
    let restored = config();
    restored.restore("test", &saved.save()).unwrap();
    assert_eq!(restored.image(), saved.image());
}

#[test]
fn a_state_of_another_device_is_refused() {
    let mut state = config().save();
    state.bytes[2] ^= 1;
    assert!(config().restore("test", &state).is_err());
    state.bytes = vec![0; 5000];
    assert!(config().restore("test", &state).is_err());
}

#[test]
fn a_mirror_follows_every_change() {
    struct Page(Mutex<Vec<u8>>);
    impl ConfigPage for Page {
        fn store(&self, offset: u16, data: &[u8]) {
            let at = usize::from(offset);
            self.0.hold()[at..at + data.len()].copy_from_slice(data);
        }
    }
    let config = config();
    let page = Arc::new(Page(Mutex::new(vec![0xff; CONFIG_SIZE])));
    config.mirror(Some(page.clone()));
    config.write(spec::COMMAND, &[7, 0]);
    config.set_interrupt_status(true);
    assert_eq!(page.0.hold()[..], config.image()[..]);
    config.reset();
    assert_eq!(page.0.hold()[..], config.image()[..]);
}
