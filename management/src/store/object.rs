//! A stored definition as bytes: libvirt XML with a comment before and after it.
//!
//! ```text
//! <!-- manor domain 1 {"uuid":"…","name":"web","generation":7,"autostart":true,"platform":1} -->
//! <domain type='kvm'>…</domain>
//! <!-- end length=1234 crc32=89abcdef -->
//! ```
//! Length and checksum are of everything before the last line.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{StoredFilter, StoredNetwork, StoredPool};
use crate::domain::Turn;

/// A definition and what belongs to it beside the XML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDomain {
    pub uuid: Uuid,
    pub name: String,
    /// Counts the changes of this definition.
    pub generation: u64,
    pub autostart: bool,
    #[serde(default, skip_serializing_if = "Turn::is_usual")]
    pub turn: Turn,
    /// Version of the platform the guest sees, pinned when it was first defined.
    pub platform: u16,
    #[serde(skip)]
    pub xml: String,
}

const LAST: &str = "<!-- end length=";
const CLOSE: &str = " -->\n";

/// What is stored: one file each, in a directory for each kind.
pub(crate) trait Object: Sized {
    /// In the first line of each file.
    const KIND: &'static str;
    const DIRECTORY: &'static str;
    const EXTENSION: &'static str = "xml";
    fn uuid(&self) -> Uuid;
    fn name(&self) -> &str;
    fn generation(&self) -> u64;
    fn set_generation(&mut self, generation: u64);
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Result<Self, &'static str>;
}

/// Those that are XML: what they have beside it is in the first line, field by field.
macro_rules! documents {
    ($($stored:ident = $kind:literal in $directory:literal),+ $(,)?) => {$(
        impl Object for $stored {
            const KIND: &'static str = $kind;
            const DIRECTORY: &'static str = $directory;

            fn uuid(&self) -> Uuid {
                self.uuid
            }

            fn name(&self) -> &str {
                &self.name
            }

            fn generation(&self) -> u64 {
                self.generation
            }

            fn set_generation(&mut self, generation: u64) {
                self.generation = generation;
            }

            fn encode(&self) -> Vec<u8> {
                encode(Self::KIND, self, &self.xml)
            }

            fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
                let (header, xml) = decode(Self::KIND, bytes)?;
                let stored: Self = serde_json::from_str(header).map_err(|_| DAMAGED)?;
                Ok(Self { xml: xml.to_owned(), ..stored })
            }
        }
    )+};
}

documents! {
    StoredDomain = "domain" in "domains",
    StoredPool = "pool" in "pools",
    StoredNetwork = "network" in "networks",
    StoredFilter = "filter" in "filters",
}

pub(super) const DAMAGED: &str = "its first line is damaged";

/// The file of an object of `kind`.
pub(super) fn encode(kind: &str, header: &impl Serialize, xml: &str) -> Vec<u8> {
    // XML allows no double hyphen in a comment, JSON any escape in a string.
    let header = serde_json::to_string(header).unwrap_or_default().replace("--", "-\\u002d");
    let mut text = format!("<!-- manor {kind} 1 {header}{CLOSE}{xml}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let (length, crc) = (text.len(), crc32(text.as_bytes()));
    text.push_str(&format!("{LAST}{length} crc32={crc:08x}{CLOSE}"));
    text.into_bytes()
}

/// The header and the XML of a file that is whole and of `kind`.
pub(super) fn decode<'a>(kind: &str, bytes: &'a [u8]) -> Result<(&'a str, &'a str), &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let body = text.rfind(LAST).ok_or("its last line is missing: it was cut off")?;
    let (body, last) = text.split_at(body);
    let last = last.strip_prefix(LAST).and_then(|last| last.strip_suffix(CLOSE));
    let (length, crc) =
        last.and_then(|last| last.split_once(" crc32=")).ok_or("its last line is damaged")?;
    if length.parse() != Ok(body.len()) {
        return Err("its length is not that which was written");
    }
    if u32::from_str_radix(crc, 16) != Ok(crc32(body.as_bytes())) {
        return Err("its checksum does not match");
    }
    let (first, xml) = body.split_once('\n').ok_or("its first line is missing")?;
    let header = first
        .strip_prefix(&format!("<!-- manor {kind} 1 "))
        .and_then(|first| first.strip_suffix(CLOSE.trim_end()))
        .ok_or("its first line is of another version, or damaged")?;
    Ok((header, xml))
}

/// CRC-32 as in Ethernet and zip.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AtShutdown;

    fn sample() -> StoredDomain {
        StoredDomain {
            uuid: Uuid::from_u128(7),
            name: "web --> \"1\"".to_owned(),
            generation: 3,
            autostart: true,
            turn: Turn {
                order: 20,
                delay: 5,
                patience: Some(60),
                at_shutdown: Some(AtShutdown::Save),
            },
            platform: 1,
            xml: "<domain>\n  <!-- end length=1 crc32=0 -->\n</domain>\n".to_owned(),
        }
    }

    #[test]
    fn an_object_comes_back_as_it_was() {
        assert_eq!(StoredDomain::decode(&sample().encode()).unwrap(), sample());
    }

    #[test]
    fn the_file_is_xml_as_a_whole() {
        let bytes = sample().encode();
        let first = std::str::from_utf8(&bytes).unwrap().lines().next().unwrap();
        let comment = first.strip_prefix("<!--").unwrap().strip_suffix("-->").unwrap();
        assert!(!comment.contains("--"), "{comment}");
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x01;
            assert!(StoredDomain::decode(&changed).is_err(), "byte {at}");
            assert!(StoredDomain::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_checksum_is_the_one_everybody_has() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
