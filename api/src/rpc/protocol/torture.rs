//! For fuzzing: what a stranger sends, read in every way in which anything is read.

use super::object::{Domain, Volume};
use super::packet;
use super::typed::Parameter;
use super::xdr::{Decode, Decoder, Encode, Opaque};

const LIMIT: usize = 1 << 20;

/// Read packets until one cannot be, and each payload as all kinds of arguments.
///
/// # Panics
/// When what was read is not what is written again.
pub async fn torture(data: &[u8]) {
    let mut from = data;
    while let Ok(Some(packet)) = packet::read(&mut from, LIMIT).await {
        again::<(u32, i64, Option<String>)>(&packet.payload);
        again::<(Domain, Vec<Parameter>)>(&packet.payload);
        again::<(Domain, Opaque, u32)>(&packet.payload);
        again::<(Vec<Domain>, u32, u32)>(&packet.payload);
        again::<(Option<Volume>, u64)>(&packet.payload);
    }
}

/// What can be read has one way to be written, but for the filling of strings and for truth.
fn again<T: Decode + Encode>(payload: &[u8]) {
    let Ok(value) = T::decode(&mut Decoder::new(payload)) else { return };
    let mut written = Vec::new();
    value.encode(&mut written);
    assert!(written.len() <= payload.len(), "more is written than was read");
    let mut twice = Vec::new();
    if let Ok(value) = T::decode(&mut Decoder::new(&written)) {
        value.encode(&mut twice);
    }
    assert!(written == twice, "it changes from one time to the next");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::protocol::packet::{Header, REMOTE};
    use uuid::Uuid;

    /// Not by chance alone: each byte of good packets is made wrong in several ways.
    #[tokio::test]
    async fn packets_with_any_byte_wrong_are_read_or_refused() {
        let domain = || Domain { name: "web".to_owned(), uuid: Uuid::from_u128(7), id: -1 };
        let header = Header::message(REMOTE, 344);
        let good = [
            packet::encode(header, &(vec![domain(), domain()], 1_u32, 2_u32)),
            packet::encode(header, &(domain(), vec![("cpu_shares", 4, 9_u64)])),
            packet::encode(header, &(domain(), Opaque(vec![3]), 1_u32)),
        ]
        .concat();
        torture(&good).await;
        for at in 0..good.len() {
            for wrong in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = wrong;
                torture(&bad).await;
            }
            torture(&good[..at]).await;
        }
    }
}
