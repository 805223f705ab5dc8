//! [`Handshake`]: from the first byte to being let in (RFC 6143 §7.1 to §7.3, and VeNCrypt 0.2 of the
//! community's rfbproto).
//!
//! ```text
//! Version ─▶ Security ─▶ Response ─▶ Init ─▶ let in
//!     │      │        └── no password ──▲
//!     │      └─▶ Vencrypt ─▶ Subtype ─▶ (TLS) ─▶ Response or Init
//!     └── before 3.7 the server chooses
//! ```
//! With TLS there is no way in beside it: a viewer that cannot do it is told so.

use std::sync::Arc;
use std::time::SystemTime;

use super::auth::CHALLENGE;
use super::message::Bytes;
use super::spec::*;
use super::{Hangup, Terms};

pub(super) struct Handshake {
    terms: Arc<Terms>,
    stage: Stage,
    /// Of the protocol's version: 3, 7 or 8.
    minor: u32,
}

enum Stage {
    Version,
    Security,
    /// The version of VeNCrypt.
    Vencrypt,
    Subtype,
    Response([u8; CHALLENGE]),
    Init,
}

/// What came of the bytes that were there.
pub(super) enum Step {
    /// They are too few.
    Wait,
    /// So many are used up.
    Used(usize),
    /// The same, and after them all is TLS.
    Secure(usize),
    /// The last one, and whether others are let in beside this one.
    Done { used: usize, shared: bool },
}

impl Handshake {
    /// One whose greeting is in `out`.
    pub(super) fn new(terms: Arc<Terms>, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(VERSION);
        Self { terms, stage: Stage::Version, minor: 0 }
    }

    /// Whether the next step tells the viewer the size of the screen.
    pub(super) fn awaits_size(&self) -> bool {
        matches!(self.stage, Stage::Init)
    }

    pub(super) fn step(&mut self, bytes: Bytes<'_>, out: &mut Vec<u8>) -> Result<Step, Hangup> {
        match self.stage {
            Stage::Version => {
                let Some(version) = bytes.take::<12>(0) else { return Ok(Step::Wait) };
                self.minor = minor_version(&version).ok_or(Hangup::Protocol("no RFB version"))?;
                self.offer_security(out)?;
                Ok(Step::Used(12))
            }
            Stage::Security => {
                let Some([chosen]) = bytes.take(0) else { return Ok(Step::Wait) };
                if chosen != self.security() {
                    return Err(Hangup::Protocol("a security type that was not offered"));
                }
                if chosen == SECURITY_VENCRYPT {
                    out.extend_from_slice(&VENCRYPT_VERSION);
                    self.stage = Stage::Vencrypt;
                } else {
                    self.authenticate(out);
                }
                Ok(Step::Used(1))
            }
            Stage::Vencrypt => {
                let Some(version) = bytes.take::<2>(0) else { return Ok(Step::Wait) };
                if version != VENCRYPT_VERSION {
                    out.push(VENCRYPT_VERSION_REFUSED);
                    return Err(Hangup::Protocol("another version of VeNCrypt than 0.2"));
                }
                out.extend_from_slice(&[VENCRYPT_VERSION_TAKEN, 1]);
                out.extend_from_slice(&self.subtype().to_be_bytes());
                self.stage = Stage::Subtype;
                Ok(Step::Used(2))
            }
            Stage::Subtype => {
                let Some(chosen) = bytes.take(0).map(u32::from_be_bytes) else {
                    return Ok(Step::Wait);
                };
                if chosen != self.subtype() {
                    out.push(VENCRYPT_SUBTYPE_REFUSED);
                    return Err(Hangup::Protocol("a VeNCrypt subtype that was not offered"));
                }
                out.push(VENCRYPT_SUBTYPE_TAKEN);
                Ok(Step::Secure(4))
            }
            Stage::Response(challenge) => {
                let Some(response) = bytes.take(0) else { return Ok(Step::Wait) };
                let password = self.terms.password.as_ref();
                let now = SystemTime::now();
                if password.is_none_or(|known| !known.admits(&challenge, &response, now)) {
                    out.extend_from_slice(&1u32.to_be_bytes());
                    put_text(out, "the password is wrong, or not valid any more");
                    return Err(Hangup::Denied);
                }
                self.admit(out);
                Ok(Step::Used(CHALLENGE))
            }
            Stage::Init => {
                let Some([shared]) = bytes.take(0) else { return Ok(Step::Wait) };
                Ok(Step::Done { used: 1, shared: shared != 0 })
            }
        }
    }

    /// Go on behind TLS, of which `out` is the inside.
    pub(super) fn secured(&mut self, out: &mut Vec<u8>) {
        self.authenticate(out);
    }

    fn security(&self) -> u8 {
        match (&self.terms.tls, &self.terms.password) {
            (Some(_), _) => SECURITY_VENCRYPT,
            (None, Some(_)) => SECURITY_VNC,
            (None, None) => SECURITY_NONE,
        }
    }

    fn subtype(&self) -> u32 {
        if self.terms.password.is_some() { VENCRYPT_X509_VNC } else { VENCRYPT_X509_NONE }
    }

    fn offer_security(&mut self, out: &mut Vec<u8>) -> Result<(), Hangup> {
        let security = self.security();
        if self.minor >= 7 {
            out.extend([1, security]);
            self.stage = Stage::Security;
        } else if security == SECURITY_VENCRYPT {
            out.extend_from_slice(&0u32.to_be_bytes());
            put_text(out, "viewers come in by TLS (VeNCrypt), which this version cannot choose");
            return Err(Hangup::Protocol("a version before TLS"));
        } else {
            // Before 3.7 the server decides, and says nothing of success without a password.
            out.extend_from_slice(&u32::from(security).to_be_bytes());
            self.authenticate(out);
        }
        Ok(())
    }

    fn authenticate(&mut self, out: &mut Vec<u8>) {
        if self.terms.password.is_some() {
            let challenge = (self.terms.random)();
            out.extend_from_slice(&challenge);
            self.stage = Stage::Response(challenge);
        } else if self.minor >= 8 || self.terms.tls.is_some() {
            // RFC 6143 §7.1.3: version 3.8 hears of its success also without authentication. To
            // viewers with VeNCrypt that is an authentication in any version.
            self.admit(out);
        } else {
            self.stage = Stage::Init;
        }
    }

    fn admit(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&0u32.to_be_bytes());
        self.stage = Stage::Init;
    }
}

/// `RFB 003.00N`: anything else that begins so is taken for 3.3, as the RFC asks.
fn minor_version(version: &[u8; 12]) -> Option<u32> {
    if !version.starts_with(b"RFB 003.") || version[11] != b'\n' {
        return None;
    }
    let digits = std::str::from_utf8(&version[8..11]).ok()?;
    let minor = digits.parse::<u32>().ok()?;
    Some(match minor {
        7 => 7,
        8.. => 8,
        _ => 3,
    })
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
