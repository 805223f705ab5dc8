//! What holds of BARs, windows and configuration space whatever a guest writes, in whatever order.

use scope::{Any, every};

use super::config::{Bar, BarKind, Config, ConfigBuilder, Ids};
use super::{PciAddress, ecam, msix, spec, window};

const IDS: Ids = Ids { vendor: 0x1af4, device: 0x1042, class: 0, revision: 1 };

fn function(kind: BarKind, size: u64) -> (Config, Bar) {
    let mut builder = ConfigBuilder::new(IDS);
    builder.bar(0, kind, size);
    let config = builder.build();
    let bar = config.bars()[0];
    (config, bar)
}

/// What guests write into BARs: nothing, everything, places, and halves of places.
const WORDS: [u32; 8] =
    [0, u32::MAX, 1, 0x8000_0000, 0xfebf_c000, 0xffff_f000, 0x0001_0000, 0x1234_5678];

fn kind(any: &mut Any) -> (BarKind, u64) {
    any.of(&[
        (BarKind::Io, 4),
        (BarKind::Io, 0x100),
        (BarKind::Memory32, 16),
        (BarKind::Memory32, 1 << 31),
        (BarKind::Memory64, 0x4000),
        (BarKind::Memory64, 1 << 40),
    ])
}

/// Of what is decoded, every byte has an address, and the first of them is a multiple of the size.
fn is_sound(config: &Config, bar: &Bar) -> bool {
    let Some(base) = config.bar_address(bar) else { return true };
    let end = match bar.kind {
        BarKind::Io => 0x1_0000,
        BarKind::Memory32 | BarKind::Rom => 1 << 32,
        BarKind::Memory64 => u128::from(u64::MAX) + 1,
    };
    base != 0 && base.is_multiple_of(bar.size) && u128::from(base) + u128::from(bar.size) <= end
}

#[cfg_attr(kani, kani::proof, kani::unwind(10))]
#[cfg_attr(not(kani), test)]
fn a_bar_is_decoded_at_a_multiple_of_its_size_or_nowhere_at_every_step_of_a_move() {
    every(|any| {
        let (kind, size) = kind(any);
        let (config, bar) = function(kind, size);
        for _ in 0..2 {
            let register = any.of(&[spec::BAR0, spec::BAR0 + 4]);
            config.write(register, &any.of(&WORDS).to_le_bytes());
            config.write(spec::COMMAND, &[any.of(&[0, 1, 2, 3]), 0]);
            assert!(is_sound(&config, &bar), "{:x?}", config.bar_address(&bar));
        }
    });
}

#[cfg_attr(kani, kani::proof, kani::unwind(10))]
#[cfg_attr(not(kani), test)]
fn single_bytes_of_a_bar_may_be_written_as_well() {
    every(|any| {
        let (kind, size) = kind(any);
        let (config, bar) = function(kind, size);
        config.write(spec::COMMAND, &[3, 0]);
        for _ in 0..2 {
            let at = spec::BAR0 + any.up_to(7) as u16;
            let bytes = any.of(&[0_u32, u32::MAX, 0x0100_0001]).to_le_bytes();
            config.write(at, &bytes[..1 + any.up_to(3) as usize]);
            assert!(is_sound(&config, &bar), "{:x?}", config.bar_address(&bar));
        }
    });
}

#[cfg_attr(kani, kani::proof, kani::unwind(10))]
#[cfg_attr(not(kani), test)]
fn a_move_by_halves_ends_where_it_was_to_go_whichever_half_comes_first() {
    every(|any| {
        let (config, bar) = function(BarKind::Memory64, 0x4000);
        config.assign_bar(&bar, 0x12_3456_4000);
        let decodes = any.flag();
        config.write(spec::COMMAND, &[if decodes { 2 } else { 0 }, 0]);
        let (low, high) = (any.of(&WORDS) & !0x3fff, any.of(&[0, 1, 0xff, u32::MAX]));
        let halves = [(spec::BAR0, low), (spec::BAR0 + 4, high)];
        let first = any.up_to(1) as usize;
        for (register, value) in [halves[first], halves[1 - first]] {
            config.write(register, &value.to_le_bytes());
        }
        let base = u64::from(high) << 32 | u64::from(low);
        assert_eq!(config.bar_address(&bar), (decodes && base != 0).then_some(base));
    });
}

#[cfg_attr(kani, kani::proof, kani::unwind(10))]
#[cfg_attr(not(kani), test)]
fn what_is_read_only_stays_whatever_is_written_over_it() {
    every(|any| {
        let (config, _) = function(BarKind::Memory32, 0x1000);
        let before = config.image();
        let (offset, len) = (any.up_to(0x10) as u16, 1 + any.up_to(7) as usize);
        config.write(offset, &[any.of(&[0, 0xff, 0x55]); 8][..len]);
        let after = config.image();
        let writable = |at: usize| at == 4 || at == 5 || at == 0xc || (0x10..0x18).contains(&at);
        for at in 0..0x40 {
            assert!(before[at] == after[at] || writable(at), "byte {at:#x}");
        }
    });
}

#[cfg_attr(kani, kani::proof, kani::unwind(10))]
#[cfg_attr(not(kani), test)]
fn a_bridge_forwards_what_lies_in_an_open_window_to_its_last_byte() {
    every(|any| {
        let bridge = ConfigBuilder::bridge(IDS).build();
        bridge.write(spec::COMMAND, &[3, 0]);
        let grain = window::MEMORY_GRAIN;
        let (start, grains) = (any.of(&[0, 1, 0x7ff, 0xffe]) * grain, any.up_to(2) * grain);
        let is_open = grains > 0;
        window::assign(&bridge, BarKind::Memory32, is_open.then_some((start, grains)));
        window::assign(&bridge, BarKind::Memory64, None);
        let base = start.saturating_add(any.edge(1) % (4 * grain)).saturating_sub(grain);
        let size = any.of(&[1, 16, 0x1000, grain, 2 * grain]);
        let lies_inside = is_open && base >= start && base + size <= start + grains;
        let forwards = window::forwards(&bridge, BarKind::Memory32, base, size);
        assert_eq!(forwards, lies_inside, "{base:#x}+{size:#x} of {start:#x}+{grains:#x}");
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn each_register_of_each_function_has_a_place_of_its_own_in_the_window() {
    every(|any| {
        let devfn = any.up_to(255) as u8;
        let address = PciAddress::from_devfn(any.of(&[0, 1, 0x7f, 0xff]), devfn);
        let register = any.of(&[0, 1, 0xff, 0x100, 0xffc, 0xfff]);
        let offset = address.ecam_offset() + u64::from(register);
        assert_eq!(ecam::target(offset), (address, register));
        assert!(offset < 256 << 20);
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn accesses_that_are_taken_stay_inside_the_table() {
    every(|any| {
        let vectors = 1 + any.up_to(3) as usize;
        let (offset, len) = (any.up_to(16 * 4), any.of(&[4, 8]));
        if offset < 16 * vectors as u64 && msix::aligned(offset, len) {
            let words = msix::words(offset, len);
            assert!(words.end <= 4 * vectors, "{offset:#x}+{len} of {vectors} vectors");
            // One entry alone is brought in line afterwards.
            assert_eq!(words.start / 4, (words.end - 1) / 4);
        }
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn pending_bits_have_room_for_each_vector_in_whole_quadwords() {
    every(|any| {
        let vectors = any.up_to(2048) as usize;
        let len = msix::pba_len(vectors);
        assert!(
            len.is_multiple_of(8) && len * 8 >= vectors as u64 && len * 8 < vectors as u64 + 64
        );
    });
}
