//! What holds of every index of a ring.

use scope::every;

use super::*;

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn the_driver_is_told_exactly_when_its_event_is_among_the_new_ones() {
    every(|any| {
        let (old, count) = (any.edge(2) as u16, any.up_to(4) as u16);
        let new = old.wrapping_add(count);
        let event = old.wrapping_add(any.up_to(8) as u16).wrapping_sub(4);
        let is_among = (0..count).any(|step| old.wrapping_add(step) == event);
        assert_eq!(is_awaited(event, old, new), is_among, "{event} of {old}..{new}");
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn slots_follow_one_another_also_where_the_index_wraps() {
    every(|any| {
        let (number, size) = (any.edge(3) as u16, 1_u16 << any.up_to(15));
        let (this, next) = (slot(number, size), slot(number.wrapping_add(1), size));
        assert!(this < size.into());
        assert_eq!(next, (this + 1) % u64::from(size));
    });
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn entries_that_are_in_flight_together_have_slots_of_their_own() {
    every(|any| {
        let (number, exponent) = (any.edge(3) as u16, any.up_to(4));
        let size = 1_u16 << exponent;
        let (first, second) = (any.up_to(15) as u16, any.up_to(15) as u16);
        if first < second && second < size {
            let at = |step| slot(number.wrapping_add(step), size);
            assert_ne!(at(first), at(second));
        }
    });
}

/// RAM of two regions with a hole between them.
fn is_ram(gpa: u64, len: u64) -> bool {
    let inside =
        |start: u64, end: u64| gpa >= start && gpa.checked_add(len).is_some_and(|last| last <= end);
    inside(0, 32) || inside(64, 96)
}

#[cfg_attr(kani, kani::proof)]
#[cfg_attr(not(kani), test)]
fn a_ring_that_is_accepted_is_aligned_and_ram_to_its_last_byte() {
    every(|any| {
        let gpa = if any.flag() { any.up_to(100) } else { u64::MAX - any.up_to(40) };
        let (len, align) = (any.up_to(40), any.of(&[2, 4, 16]));
        let is_accepted = check_ring(is_ram, "ring", gpa, len, align).is_ok();
        let lies_well = gpa.is_multiple_of(align)
            && gpa.checked_add(len).is_some_and(|end| {
                (gpa..end).all(|at| at < 32 || (64..96).contains(&at)) && (end <= 32 || gpa >= 64)
            });
        // Where nothing lies, an empty ring may be refused; no other that is good is.
        assert!(is_accepted == lies_well || len == 0, "{gpa:#x}+{len:#x}");
    });
}
