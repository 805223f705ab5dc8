//! What holds of every place in a table, whatever an image says.

use scope::{Any, every};

use super::header::Header;
use super::lookup::{Entry, Geometry, State};
use super::refcount::{clusters_of, count_at, most, place_of, put_count};
use super::spec::*;
use super::tables::{idle_until, is_busy};

/// Of clusters of every size, with subclusters and without.
fn geometry(any: &mut Any) -> Geometry {
    let cluster_bits = any.of(&[9, 14, 16, 21]);
    let extended = cluster_bits >= 14 && any.flag();
    let (cluster, entry) = (1 << cluster_bits, if extended { 16 } else { 8 });
    Geometry {
        cluster,
        cluster_bits,
        unit: if extended { cluster / SUBCLUSTERS } else { cluster },
        extended,
        version: 3,
        coverage: cluster / entry * cluster,
        entry,
        data_file: false,
        raw_data_file: false,
    }
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn the_entry_of_every_guest_offset_lies_in_its_table() {
    every(|any| {
        let (geometry, guest) = (geometry(any), any.edge(2));
        let offset = geometry.entry_offset(guest);
        assert!(offset + geometry.entry <= geometry.cluster);
        assert_eq!(offset % geometry.entry, 0);
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn the_next_cluster_has_the_next_entry_or_the_first_of_the_next_table() {
    every(|any| {
        let (geometry, guest) = (geometry(any), any.edge(2) >> 1);
        let this = geometry.entry_offset(guest);
        let next = geometry.entry_offset(guest + geometry.cluster);
        assert_eq!(next, (this + geometry.entry) % geometry.cluster);
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn every_offset_is_in_one_of_the_units_of_its_cluster() {
    every(|any| {
        let (geometry, guest) = (geometry(any), any.edge(2));
        let unit = geometry.unit_of(guest);
        let start = guest - guest % geometry.cluster + unit * geometry.unit;
        assert!(unit < SUBCLUSTERS && guest >= start && guest - start < geometry.unit);
    });
}

/// An entry with any of the bits that mean something, and some that must not be there.
fn entry(any: &mut Any) -> Entry {
    let flags = any.of(&[0, COPIED, COMPRESSED, COPIED | COMPRESSED]);
    let extra = any.of(&[0, ZERO, 2, 1 << 61]);
    let offset = any.of(&[0, 0x200, 0x4000, 0x20_0000, OFFSET & !0x1f_ffff, OFFSET]);
    let bitmap = any.of(&[0, 1, 1 << 32, 1 << 32 | 1, u64::MAX]);
    Entry { word: flags | extra | offset, bitmap }
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn data_lies_on_a_clusters_boundary_and_ends_below_every_offset_that_overflows() {
    every(|any| {
        let (geometry, entry, unit) = (geometry(any), entry(any), any.of(&[0, 1, 31]));
        if let Ok(State::Data) = entry.state(&geometry, unit) {
            let host = entry.host(&geometry).expect("data is somewhere");
            assert_eq!(host % geometry.cluster, 0);
            assert_ne!(host, 0, "over the header");
            assert!(host.checked_add(geometry.cluster).is_some_and(|end| end < 1 << 57));
        }
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn entries_with_bits_that_nobody_knows_are_never_followed() {
    every(|any| {
        let (geometry, entry) = (geometry(any), entry(any));
        let is_known = entry.is_compressed() || entry.word & L2_RESERVED == 0;
        let state = entry.state(&geometry, 0);
        assert!(is_known || state.is_err(), "{:#x} is {state:?}", entry.word);
        // One kind of data is not taken for the other.
        assert_eq!(matches!(state, Ok(State::Compressed)), entry.is_compressed());
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn every_cluster_has_a_count_of_its_own_inside_its_block() {
    every(|any| {
        let (bits, order) = (any.of(&[9, 16, 21]), any.up_to(6) as u32);
        let cluster = any.edge(2) >> 16;
        let place = |cluster| {
            let (block, byte, shift) = place_of(cluster, bits, order);
            assert!(byte < 1 << bits && shift < 8);
            // In bits, from the first block on.
            (u128::from(block) << (bits + 3)) + (u128::from(byte) << 3) + u128::from(shift)
        };
        assert_eq!(place(cluster + 1) - place(cluster), 1 << order);
    });
}

#[cfg_attr(kani, kani::proof, kani::unwind(18))]
#[cfg_attr(not(kani), test)]
fn a_count_comes_back_and_its_neighbours_stay() {
    every(|any| {
        let (order, fill) = (any.up_to(6) as u32, any.of(&[0_u8, 0xff, 0x5a]));
        let count = any.edge(1) & most(order);
        let index = any.up_to(if order == 0 { 15 } else { 127 >> order });
        let (_, byte, shift) = place_of(index, 9, order);
        let mut block = [fill; 24];
        let at = byte as usize % 16;
        let neighbours = |block: &[u8]| {
            let (first, last) = ((at * 8) as u32 + shift, (at * 8) as u32 + shift + (1 << order));
            let bit = |bit: u32| block[bit as usize / 8] >> (bit % 8) & 1;
            (0..24 * 8).filter(|at| *at < first || *at >= last).map(bit).collect::<Vec<_>>()
        };
        let before = neighbours(&block);
        put_count(&mut block, at, shift, order, count);
        assert_eq!(count_at(&block, at, shift, order), count);
        assert_eq!(neighbours(&block), before);
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn tables_are_protected_to_their_last_byte() {
    every(|any| {
        let (bits, offset, len) = (any.of(&[9, 16, 21]), any.edge(1) >> 8, any.edge(1) >> 8);
        let clusters = clusters_of(offset, len, bits);
        if len > 0 {
            assert!(clusters.contains(&(offset >> bits)));
            assert!(clusters.contains(&((offset + len - 1) >> bits)));
            assert!(clusters.end - clusters.start <= (len >> bits) + 2);
        }
    });
}

fn header(cluster_bits: u32) -> Header {
    Header {
        version: 3,
        cluster_bits,
        size: 0,
        encryption: 0,
        l1_size: 0,
        l1_offset: 0,
        refcount_table_offset: 0,
        refcount_table_clusters: 1,
        snapshots: 0,
        snapshots_offset: 0,
        incompatible: 0,
        compatible: 0,
        autoclear: 0,
        refcount_order: 4,
        compression: Compression::Zlib,
        backing: None,
        data_file: None,
        bitmaps: None,
    }
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn a_table_is_accepted_on_a_clusters_boundary_below_any_files_end() {
    every(|any| {
        let header = header(any.of(&[9, 16, 21]));
        let (offset, len) = (any.edge(1), any.edge(1));
        let is_accepted = header.check_place("table", offset, len).is_ok();
        let end = u128::from(offset) + u128::from(len);
        let is_good = offset.is_multiple_of(header.cluster_size()) && end <= u128::from(OFFSET);
        assert_eq!(is_accepted, is_good, "{offset:#x}+{len:#x}");
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn an_l1_table_is_accepted_behind_the_header_and_of_a_bounded_size() {
    every(|any| {
        let header = header(16);
        let (offset, entries) = (any.edge(1), any.edge(1) as u32);
        if super::header::check_l1(offset, entries, &header).is_ok() {
            assert!(u64::from(entries) * 8 <= MOST_L1_BYTES);
            assert!(entries == 0 || offset >= header.cluster_size());
        }
    });
}

#[cfg_attr(kani, kani::proof, kani::unwind(8))]
#[cfg_attr(not(kani), test)]
fn the_idle_part_of_a_range_is_all_of_it_up_to_the_first_byte_that_is_busy() {
    every(|any| {
        let mut some = |most| {
            let start = any.up_to(most);
            start..start + 1 + any.up_to(2)
        };
        let (busy, range) = ([some(5), some(5)], some(4));
        let is_busy_at = |at: u64| busy.iter().any(|busy| busy.contains(&at));
        let until = idle_until(&busy, &range);
        assert!((range.start..until).all(|at| !is_busy_at(at)));
        assert!(range.start <= until && until <= range.end);
        let is_whole = range.clone().all(|at| !is_busy_at(at));
        assert_eq!(until == range.end, is_whole);
        assert_eq!(is_busy(&busy, &range), !is_whole);
    });
}
