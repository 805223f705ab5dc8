//! [`Hex`]: bytes without a text of their own (client identifiers, raw options), written as hex digits.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex(pub Vec<u8>);

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a string of hex digits in pairs")]
pub struct BadHex(String);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('#')?;
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hex {
    type Err = BadHex;

    /// Pairs may be set apart by colons, as people write client identifiers.
    fn from_str(text: &str) -> Result<Self, BadHex> {
        let digits: Option<Vec<u8>> =
            text.bytes().filter(|byte| *byte != b':').map(digit).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0);
        let digits = digits.ok_or_else(|| BadHex(text.to_owned()))?;
        let (pairs, _) = digits.as_chunks::<2>();
        Ok(Self(pairs.iter().map(|[high, low]| high << 4 | low).collect()))
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_pairs() {
        assert_eq!("01:ff:0a".parse::<Hex>().unwrap(), Hex(vec![1, 255, 10]));
        assert_eq!(Hex(vec![1, 255, 10]).to_string(), "01ff0a");
        assert!("012".parse::<Hex>().is_err());
        assert!("0g".parse::<Hex>().is_err());
    }
}
