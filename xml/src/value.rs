//! Values: what the text of an attribute or element stands for.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Why a text is no value of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// One of these names.
    Names(&'static [&'static str]),
    /// Something of this form.
    Form(&'static str),
    /// The right form, but outside these bounds.
    Range(String),
}

pub(crate) trait Value: Sized {
    /// White space around an element's text is layout, except in free text.
    const TRIMMED: bool = true;
    fn parse(text: &str) -> Result<Self, Expected>;
    fn print(&self) -> Cow<'_, str>;
}

/// An enumeration whose variants are names of libvirt.
macro_rules! names {
    ($( $(#[$meta:meta])* pub enum $type:ident { $( $(#[$vmeta:meta])* $variant:ident = $name:literal ),+ $(,)? } )+) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $( $(#[$vmeta])* $variant ),+ }

        impl $type {
            /// Every name libvirt has for this, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $name ),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl $crate::value::Value for $type {
            fn parse(text: &str) -> Result<Self, $crate::value::Expected> {
                match text {
                    $( $name => Ok(Self::$variant), )+
                    _ => Err($crate::value::Expected::Names(Self::NAMES)),
                }
            }
            fn print(&self) -> std::borrow::Cow<'_, str> {
                std::borrow::Cow::Borrowed(self.name())
            }
        }
    )+ };
}
pub(crate) use names;

names! {
    pub enum YesNo { Yes = "yes", No = "no" }
    pub enum OnOff { On = "on", Off = "off" }
}

impl YesNo {
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

impl OnOff {
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

macro_rules! integers {
    ($($type:ty),+) => { $(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, Expected> {
                let digits = text.strip_prefix('-').filter(|_| <$type>::MIN != 0).unwrap_or(text);
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    let signed = <$type>::MIN != 0;
                    return Err(Expected::Form(if signed { "a whole number" } else { "a whole number from 0 up" }));
                }
                text.parse().map_err(|_| Expected::Range(format!("{} to {}", <$type>::MIN, <$type>::MAX)))
            }
            fn print(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }
        }
    )+ };
}
integers!(u16, u32, u64, i32, i64);

impl Value for String {
    const TRIMMED: bool = false;
    fn parse(text: &str) -> Result<Self, Expected> {
        Ok(text.to_owned())
    }
    fn print(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, Expected> {
        match text {
            "" => Err(Expected::Form("a path")),
            _ => Ok(Path::new(text).to_owned()),
        }
    }
    fn print(&self) -> Cow<'_, str> {
        self.to_string_lossy()
    }
}

macro_rules! addresses {
    ($($type:ty: $form:literal),+) => { $(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, Expected> {
                text.parse().map_err(|_| Expected::Form($form))
            }
            fn print(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }
        }
    )+ };
}
addresses!(IpAddr: "an IP address such as 192.168.122.1", Ipv4Addr: "an IPv4 address such as 192.168.122.1");

impl Value for Uuid {
    fn parse(text: &str) -> Result<Self, Expected> {
        let form = Expected::Form("a UUID such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
        if text.starts_with(['{', 'u', 'U']) {
            return Err(form);
        }
        Uuid::try_parse(text).map_err(|_| form)
    }
    fn print(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}

/// A number written in hexadecimal, as libvirt prints parts of addresses and ports of controllers; read in either base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex(pub u32);

impl Value for Hex {
    fn parse(text: &str) -> Result<Self, Expected> {
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => (hex, 16),
            None => (text, 10),
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(Expected::Form("a number, decimal or with 0x"));
        }
        u32::from_str_radix(digits, radix)
            .map(Self)
            .map_err(|_| Expected::Range("at most 0xffffffff".to_owned()))
    }
    fn print(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{:#x}", self.0))
    }
}
