//! MAC addresses of guest interfaces.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::value::{Expected, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Value for MacAddress {
    fn parse(text: &str) -> Result<Self, Expected> {
        let form = || Expected::Form("a MAC address such as 52:54:00:12:34:56");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| matches!(p.len(), 1 | 2)).ok_or_else(form)?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(form());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| form())?;
        }
        if parts.next().is_some() {
            return Err(form());
        }
        if bytes[0] & 1 != 0 {
            return Err(Expected::Form("a unicast address: the first byte even"));
        }
        Ok(Self(bytes))
    }
    fn print(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotMacAddress;

impl fmt::Display for NotMacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a guest's MAC address is unicast and looks like 52:54:00:12:34:56")
    }
}

impl std::error::Error for NotMacAddress {}

impl FromStr for MacAddress {
    type Err = NotMacAddress;
    fn from_str(text: &str) -> Result<Self, NotMacAddress> {
        <Self as Value>::parse(text).map_err(|_| NotMacAddress)
    }
}
