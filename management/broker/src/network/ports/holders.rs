//! Who holds which address, as sets that the rules of all ports ask: a lease more is an element more.
//!
//! An address that one guest holds no other may claim; those of nobody are for whoever takes them.

use std::net::IpAddr;

use super::TABLE;
use crate::network::AddressHolder;
use crate::network::nft::{Batch, KeyKind, Set};

const fn set(name: &'static str, kind: KeyKind) -> Set {
    Set { table: TABLE, name, kind }
}

const HOLDERS4: Set = set("holders4", KeyKind::Ipv4AndMac);
const TAKEN4: Set = set("taken4", KeyKind::Ipv4);
const HOLDERS6: Set = set("holders6", KeyKind::Ipv6AndMac);
const TAKEN6: Set = set("taken6", KeyKind::Ipv6);

/// Addresses with their holders, and without.
pub(super) fn sets(is_ipv4: bool) -> (Set, Set) {
    if is_ipv4 { (HOLDERS4, TAKEN4) } else { (HOLDERS6, TAKEN6) }
}

struct Keys {
    holders: Vec<Vec<u8>>,
    taken: Vec<Vec<u8>>,
}

fn keys(held: &[AddressHolder], is_ipv4: bool) -> Keys {
    let of_family = held.iter().filter(|holder| holder.address.is_ipv4() == is_ipv4);
    let (holders, taken) = of_family
        .map(|AddressHolder { address, mac }| {
            let address = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            // Two registers of four bytes.
            ([&address[..], mac, &[0, 0]].concat(), address)
        })
        .unzip();
    Keys { holders, taken }
}

pub(super) fn add(batch: &mut Batch, held: &[AddressHolder]) {
    for is_ipv4 in [true, false] {
        let (holders, taken) = sets(is_ipv4);
        let keys = keys(held, is_ipv4);
        batch.add_set(&holders, &keys.holders);
        batch.add_set(&taken, &keys.taken);
    }
}

pub(in super::super) fn change(
    batch: &mut Batch,
    before: &[AddressHolder],
    after: &[AddressHolder],
) {
    for is_ipv4 in [true, false] {
        let (holders, taken) = sets(is_ipv4);
        let (before, after) = (keys(before, is_ipv4), keys(after, is_ipv4));
        batch.remove_elements(&holders, &before.holders);
        batch.remove_elements(&taken, &before.taken);
        batch.add_elements(&holders, &after.holders);
        batch.add_elements(&taken, &after.taken);
    }
}
