//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side: who knows a password proves it without
//! saying it, and what is stored does not let anybody in.
//!
//! ```text
//! client-first ─▶ Exchange::begin ─▶ server-first (salt, iterations, nonce)
//! client-final ─▶ Exchange::finish ─▶ server-final (that we know it too)
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Cyrus SASL, which libvirt's clients bring along, does not count further than 65536.
pub(super) const ITERATIONS: u32 = 50_000;
/// A nonce of a client.
const LONGEST_NONCE: usize = 256;
const LONGEST_MESSAGE: usize = 4096;

pub(super) type Key = [u8; 32];

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("a message of SCRAM that cannot be: {0}")]
    Malformed(&'static str),
    #[error("SCRAM with {0} is not offered")]
    Unsupported(&'static str),
    #[error("the user or the password is wrong")]
    Wrong,
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    pub(super) stored: Key,
    pub(super) server: Key,
}

impl Keys {
    pub(super) fn of(password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = salted(password.as_bytes(), &salt, iterations);
        let stored = Sha256::digest(hmac(&salted, b"Client Key")).into();
        let server = hmac(&salted, b"Server Key");
        Self { salt, iterations, stored, server }
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Key {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// `Hi` of RFC 5802: the first block of PBKDF2.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut last = hmac(password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut sum = last;
    for _ in 1..iterations {
        last = hmac(password, &last);
        sum.iter_mut().zip(last).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// What a client said first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct First {
    pub(super) user: String,
    nonce: String,
    /// `n,,`
    header: String,
    /// What stands behind the header.
    bare: String,
}

impl First {
    pub(super) fn read(message: &[u8]) -> Result<Self, ScramError> {
        let malformed = ScramError::Malformed;
        let text = text(message)?;
        let (binding, rest) = text.split_once(',').ok_or(malformed("no header"))?;
        match binding {
            // `y`: it would bind to the channel if we offered that.
            "n" | "y" => {}
            binding if binding.starts_with("p=") => {
                return Err(ScramError::Unsupported("channel binding"));
            }
            _ => return Err(malformed("the header")),
        }
        let (other, bare) = rest.split_once(',').ok_or(malformed("no header"))?;
        let mut fields = bare.split(',');
        let mut next = |name: &'static str| {
            let field = fields.next().and_then(|field| field.strip_prefix(name));
            field.ok_or(ScramError::Malformed("a field is missing"))
        };
        if bare.starts_with("m=") {
            return Err(ScramError::Unsupported("extensions"));
        }
        let user = name(next("n=")?)?;
        // It may say that it is itself, and nobody else.
        let same = other.is_empty() || name(other.strip_prefix("a=").unwrap_or(","))? == user;
        if !same {
            return Err(ScramError::Unsupported("another user's rights"));
        }
        let nonce = next("r=")?;
        let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if nonce.is_empty() || nonce.len() > LONGEST_NONCE || !printable {
            return Err(malformed("the nonce"));
        }
        let header = text[..text.len() - bare.len()].to_owned();
        Ok(Self { user, nonce: nonce.to_owned(), header, bare: bare.to_owned() })
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > LONGEST_MESSAGE {
        return Err(ScramError::Malformed("too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("no text"))
}

/// RFC 5802, section 5.1: commas and equals signs are written otherwise.
fn name(escaped: &str) -> Result<String, ScramError> {
    let plain = escaped.replace("=2C", ",").replace("=3D", "=");
    // Names of users have neither.
    if plain.is_empty() || plain.contains(['=', ',']) {
        return Err(ScramError::Malformed("the user's name"));
    }
    Ok(plain)
}

/// Between the two messages of a client.
pub(super) struct Exchange {
    keys: Keys,
    /// Of both sides.
    nonce: String,
    header: String,
    /// `client-first-bare,server-first`
    said: String,
}

impl Exchange {
    /// With the server's nonce, which is new each time; and what to answer.
    pub(super) fn begin(first: First, keys: Keys, nonce: &str) -> (Self, Vec<u8>) {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = STANDARD.encode(&keys.salt);
        let answer = format!("r={nonce},s={salt},i={}", keys.iterations);
        let said = format!("{},{answer}", first.bare);
        (Self { keys, nonce, header: first.header, said }, answer.into_bytes())
    }

    /// What to answer to who knows the password.
    pub(super) fn finish(self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let malformed = ScramError::Malformed;
        let text = text(message)?;
        let (without, proof) = text.rsplit_once(",p=").ok_or(malformed("no proof"))?;
        let mut fields = without.split(',');
        let mut next = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        if next("c=") != Some(STANDARD.encode(&self.header).as_str()) {
            return Err(malformed("the header is another one"));
        }
        if next("r=") != Some(self.nonce.as_str()) {
            return Err(malformed("the nonce is another one"));
        }
        let proof: Key = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(malformed("the proof"))?;
        let said = format!("{},{without}", self.said);
        let mut client = hmac(&self.keys.stored, said.as_bytes());
        client.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
        let stored: Key = Sha256::digest(client).into();
        if !bool::from(stored.ct_eq(&self.keys.stored)) {
            return Err(ScramError::Wrong);
        }
        let signature = hmac(&self.keys.server, said.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    /// RFC 7677, section 3.
    fn begun() -> (Exchange, Vec<u8>) {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Keys::of("pencil", salt, 4096);
        Exchange::begin(First::read(FIRST).unwrap(), keys, SERVER_NONCE)
    }

    #[test]
    fn the_example_of_the_rfc_is_let_in() {
        let (exchange, answer) = begun();
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let answer = exchange.finish(FINAL.as_bytes()).unwrap();
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn another_proof_nonce_or_header_is_not() {
        for (from, to, error) in [
            ("p=dHz", "p=eHz", ScramError::Wrong),
            ("c=biws", "c=eSws", ScramError::Malformed("the header is another one")),
            ("r=rO", "r=sO", ScramError::Malformed("the nonce is another one")),
            (",p=", ",q=", ScramError::Malformed("no proof")),
            ("dVQ=", "dVQ", ScramError::Malformed("the proof")),
        ] {
            let message = FINAL.replace(from, to);
            assert_eq!(begun().0.finish(message.as_bytes()), Err(error), "{message}");
        }
    }

    #[test]
    fn first_messages_that_cannot_be_are_refused() {
        let read = |message: &str| First::read(message.as_bytes());
        assert_eq!(read("y,a=u,n=u,r=x").unwrap().user, "u");
        for wrong in
            ["", "n", "n,", "n,,", "n,,n=,r=x", "n,,r=x,n=u", "n,,n=u", "n,,n=u,r=", "x,,n=u,r=x"]
        {
            assert!(matches!(read(wrong), Err(ScramError::Malformed(_))), "{wrong}");
        }
        for not_offered in ["p=tls-unique,,n=u,r=x", "n,a=root,n=u,r=x", "n,,m=x,n=u,r=x"] {
            assert!(matches!(read(not_offered), Err(ScramError::Unsupported(_))), "{not_offered}");
        }
        assert!(First::read(&[0xff; 10]).is_err());
        assert!(First::read(&[b'n'; LONGEST_MESSAGE + 1]).is_err());
    }
}
