//! What holds of every chain, and of every way to cut one up.

use std::cell::Cell;

use scope::{Any, every};

use super::*;

const TABLE: u64 = 0x1000;
const OTHER: u64 = 0x2000;

/// A table of three descriptors of every shape, and an indirect one of two.
fn descriptor(any: &mut Any, indexes: u64) -> Descriptor {
    let flags = any.of(&[0, NEXT, WRITE, INDIRECT, NEXT | INDIRECT]);
    let next = if flags & NEXT == 0 { 0 } else { any.up_to(indexes) as u16 };
    let len = if flags & INDIRECT == 0 { 1 } else { 32 };
    Descriptor { gpa: OTHER, len, flags, next }
}

#[cfg_attr(kani, kani::proof, kani::unwind(8))]
#[cfg_attr(not(kani), test)]
fn every_walk_ends_and_reads_inside_its_tables_alone() {
    let ended_well = Cell::new(0_u64);
    let cases = every(|any| {
        let direct = [(); 2].map(|()| descriptor(any, 2));
        let indirect = [(); 2].map(|()| descriptor(any, 2));
        let limits = Limits { table: TABLE, direct: 2, indirect: Some(2) };
        let (reads, buffers) = (Cell::new(0), Cell::new(0));
        let read = |gpa: u64| {
            reads.set(reads.get() + 1);
            let (table, base) = if gpa < OTHER { (&direct, TABLE) } else { (&indirect, OTHER) };
            let index = (gpa - base) / DESCRIPTOR;
            assert!(index < 2 && gpa.is_multiple_of(DESCRIPTOR), "{gpa:#x} is in no table");
            Some(table[index as usize])
        };
        let walked = walk(any.up_to(2) as u16, &limits, read, |descriptor| {
            assert_eq!(descriptor.flags & INDIRECT, 0, "a table is no buffer");
            buffers.set(buffers.get() + 1);
            Ok(())
        });
        assert!(reads.get() <= 4 && buffers.get() <= reads.get());
        if walked.is_ok() {
            assert!(buffers.get() > 0, "a chain without buffers");
            ended_well.set(ended_well.get() + 1);
        }
    });
    assert!(ended_well.get() > 0 && ended_well.get() < cases, "{} of {cases}", ended_well.get());
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn an_entry_lies_in_its_table_or_nowhere() {
    every(|any| {
        let (table, entries, index) = (any.edge(33), any.up_to(3) as u16, any.up_to(4) as u16);
        match place((table, entries), index) {
            Ok(gpa) => {
                assert!(index < entries);
                assert_eq!(gpa.checked_sub(table), Some(16 * u64::from(index)), "it wraps");
            }
            Err(BadChain::Index(which)) => assert!(which == index && index >= entries),
            Err(_) => assert!(table.checked_add(16 * u64::from(index)).is_none()),
        }
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn an_indirect_table_has_whole_entries_and_no_more_than_are_allowed() {
    every(|any| {
        let len = any.edge(17) as u32;
        let longest = any.of(&[1, 2, 256, 1024, 32768]);
        let expected = (1..=longest).contains(&(len / 16)).then_some(len / 16);
        let expected = expected.filter(|count| count * 16 == len);
        assert_eq!(entries(len, longest as u16).map(u32::from), expected);
    });
}

/// Up to three ranges of up to three bytes each, which lie apart.
fn ranges(any: &mut Any) -> Vec<Range> {
    let count = any.up_to(3);
    (0..count).map(|number| (0x100 * (number + 1), 1 + any.up_to(2))).collect()
}

fn bytes(ranges: &[Range]) -> Vec<u64> {
    ranges.iter().flat_map(|(gpa, len)| *gpa..gpa + len).collect()
}

#[cfg_attr(kani, kani::proof, kani::unwind(12))]
#[cfg_attr(not(kani), test)]
fn what_is_taken_from_the_front_and_what_is_left_are_all_of_it_in_order() {
    every(|any| {
        let mut left = ranges(any);
        let (all, count) = (bytes(&left), any.up_to(10));
        let mut total = all.len() as u64;
        let mut taken = Vec::new();
        let is_enough = take_front(&mut left, &mut total, count, |gpa, part| {
            taken.extend(gpa..gpa + part as u64);
            true
        });
        assert_eq!(is_enough, count as usize <= all.len());
        assert_eq!(taken.len() as u64, if is_enough { count } else { 0 }, "all or nothing");
        assert_eq!(total, bytes(&left).len() as u64);
        assert!(left.iter().all(|(_, len)| *len > 0));
        taken.extend(bytes(&left));
        assert_eq!(taken, all);
    });
}

#[cfg_attr(kani, kani::proof, kani::unwind(12))]
#[cfg_attr(not(kani), test)]
fn the_status_is_the_last_byte_whatever_the_shape() {
    every(|any| {
        let mut left = ranges(any);
        let mut all = bytes(&left);
        assert_eq!(take_last(&mut left), all.pop());
        assert_eq!(bytes(&left), all);
        assert!(left.iter().all(|(_, len)| *len > 0));
    });
}
