//! `<pool>` and `<volume>`: places for disk images, and the images in them.

mod amount;
pub mod pool;
pub mod volume;

pub use amount::Bytes;
pub use pool::{PoolDef, PoolType};
pub use volume::VolumeDef;

use crate::diagnostic::Diagnostics;
use crate::document::{self, Bounds, Parsed};
use crate::element::{Element, element};
use crate::value::{Expected, Value};
use crate::write::Writer;

macro_rules! document {
    ($type:ident, $root:literal) => {
        impl $type {
            /// Read a definition, or say everything that is wrong with it.
            pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
                document::parse(text, $root, Bounds::OUTSIDE)
            }

            /// [`Self::parse`] for what [`Self::to_xml`] wrote.
            pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
                document::parse(text, $root, Bounds::OWN)
            }

            /// The definition as libvirt prints it.
            pub fn to_xml(&self) -> String {
                let mut out = Writer::default();
                Element::write(self, $root, &mut out);
                out.finish()
            }
        }
    };
}
document!(PoolDef, "pool");
document!(VolumeDef, "volume");

element! {
    /// Of a pool's directory, or a volume's file.
    #[derive(Default)]
    pub struct Permissions {
        child mode: Option<Mode>,
        child owner: Option<Owner>,
        child group: Option<Owner>,
        child label: Option<String>,
    }
}

/// Permission bits, written in octal: `0711`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Value for Mode {
    fn parse(text: &str) -> Result<Self, Expected> {
        let octal = !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
        mode.filter(|mode| *mode <= 0o7777)
            .map(Self)
            .ok_or(Expected::Form("permission bits in octal, such as 0711"))
    }
    fn print(&self) -> std::borrow::Cow<'_, str> {
        format!("{:04o}", self.0).into()
    }
}

/// A user's or group's number; none (`-1`) means whatever the host chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(pub Option<u32>);

impl Value for Owner {
    fn parse(text: &str) -> Result<Self, Expected> {
        if text == "-1" {
            return Ok(Self(None));
        }
        let number = text.parse().ok().filter(|number| *number != u32::MAX);
        number.map(|number| Self(Some(number))).ok_or(Expected::Form("a number, or -1 for any"))
    }
    fn print(&self) -> std::borrow::Cow<'_, str> {
        self.0.map_or_else(|| "-1".into(), |number| number.to_string().into())
    }
}
