//! The secret of a token: `manor_`, the token's id, and 256 random bits that nobody stores.

use std::fmt::Write as _;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// By which people and scanners for leaked secrets know it.
const PREFIX: &str = "manor_";
const BYTES: usize = 32;

/// SHA-256 of a secret, in hexadecimal digits. Secrets are random and long: nothing that is slower
/// would make them harder to guess.
pub(super) fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// A new secret of the token `id`.
pub(super) fn secret(id: Uuid) -> io::Result<String> {
    let mut random = [0; BYTES];
    // Up to 256 bytes come in one call (getrandom(2)).
    if getrandom(&mut random, GetRandomFlags::empty())? != BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(format!("{PREFIX}{}_{}", id.simple(), hex(&random)))
}

/// Which token this can be the secret of.
pub(super) fn id_of(secret: &str) -> Option<Uuid> {
    let (id, _) = secret.strip_prefix(PREFIX)?.split_once('_')?;
    Uuid::try_parse(id).ok()
}

/// In the same time, wherever they differ.
pub(super) fn is_same(digest: &str, other: &str) -> bool {
    digest.as_bytes().ct_eq(other.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_its_token_and_is_no_other_ones() {
        let id = Uuid::from_u128(7);
        let (one, other) = (secret(id).unwrap(), secret(id).unwrap());
        assert_ne!(one, other);
        assert_eq!(id_of(&one), Some(id));
        assert_eq!(one.len(), PREFIX.len() + 32 + 1 + 64);
        assert!(is_same(&digest(&one), &digest(&one)));
        assert!(!is_same(&digest(&one), &digest(&other)));
        for wrong in ["", "manor_", "manor_x_y", "Manor_00000000000000000000000000000007_"] {
            assert_eq!(id_of(wrong), None, "{wrong}");
        }
        // FIPS 180-2, B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest("abc"), abc);
    }
}
