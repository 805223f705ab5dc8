//! VNC authentication (RFC 6143 §7.2.2): a challenge that the password encrypts.

use std::time::SystemTime;

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};

pub(super) const CHALLENGE: usize = 16;

/// A password that viewers must know. It has eight significant bytes, by the protocol.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    pub text: String,
    /// From then on it is nobody's.
    pub valid_to: Option<SystemTime>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Password").field("valid_to", &self.valid_to).finish_non_exhaustive()
    }
}

impl Password {
    /// Whether `response` answers `challenge`. An empty password is one that nobody knows.
    pub(super) fn admits(
        &self,
        challenge: &[u8; CHALLENGE],
        response: &[u8; CHALLENGE],
        now: SystemTime,
    ) -> bool {
        let usable = !self.text.is_empty() && self.valid_to.is_none_or(|end| now < end);
        // All bytes are compared, so that the time taken tells nothing.
        let differs = encrypt(&self.text, challenge)
            .iter()
            .zip(response)
            .fold(0, |differs, (a, b)| differs | a ^ b);
        usable && differs == 0
    }
}

/// The challenge under DES, with the password as its key, the bits of each byte reversed.
fn encrypt(password: &str, challenge: &[u8; CHALLENGE]) -> [u8; CHALLENGE] {
    let mut key = [0; 8];
    for (key, byte) in key.iter_mut().zip(password.bytes()) {
        *key = byte.reverse_bits();
    }
    let cipher = Des::new(&key.into());
    let mut out = *challenge;
    for half in out.chunks_exact_mut(8) {
        let mut block: [u8; 8] = std::array::from_fn(|at| half[at]);
        let mut array = block.into();
        cipher.encrypt_block(&mut array);
        block = array.into();
        half.copy_from_slice(&block);
    }
    out
}

#[cfg(test)]
pub(super) fn answer(password: &str, challenge: &[u8; CHALLENGE]) -> [u8; CHALLENGE] {
    encrypt(password, challenge)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_key_is_the_password_with_its_bits_reversed() {
        // DES of zeros under the key 0x0e329232ea6d0d73 is a published vector, for the plain text
        // 0x8787878787878787; the password is that key, reversed.
        let key = [0x0eu8, 0x32, 0x92, 0x32, 0xea, 0x6d, 0x0d, 0x73].map(u8::reverse_bits);
        let cipher = Des::new(&key.map(u8::reverse_bits).into());
        let mut block = [0x87u8; 8].into();
        cipher.encrypt_block(&mut block);
        assert_eq!(<[u8; 8]>::from(block), [0; 8]);
    }

    #[test]
    fn an_answer_is_right_for_its_password_and_in_its_time() {
        let challenge = std::array::from_fn(|at| at as u8);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let password = Password { text: "secret".to_owned(), valid_to: None };
        let right = answer("secret", &challenge);
        assert!(password.admits(&challenge, &right, now));
        assert!(!password.admits(&challenge, &answer("secres", &challenge), now));
        let passed = Password { valid_to: Some(now), ..password.clone() };
        assert!(!passed.admits(&challenge, &right, now));
        let empty = Password { text: String::new(), valid_to: None };
        assert!(!empty.admits(&challenge, &answer("", &challenge), now));
        assert!(!format!("{password:?}").contains("secret"));
    }
}
