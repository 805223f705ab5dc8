//! Sizes as people write and read them.

use std::str::FromStr;

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl FromStr for Size {
    type Err = String;

    /// `512`, `10G`, `1.5T`: units of 1024, as qemu-img has them.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no size; write bytes, or a number with K, M, G, T, P or E");
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.strip_suffix("iB").unwrap_or(unit);
        let power = match unit.to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            "P" => 5,
            "E" => 6,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let unit = 1_u64 << (10 * power);
        let mut bytes = whole.checked_mul(unit).ok_or_else(wrong)?;
        if !fraction.is_empty() {
            let parts: f64 = format!("0.{fraction}").parse().map_err(|_| wrong())?;
            bytes = bytes.checked_add((parts * unit as f64) as u64).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

/// `1.5 GiB`, with three digits or so, as qemu-img prints it.
pub(crate) fn human(bytes: u64) -> String {
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let text = format!("{value:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("10G"), Ok(10 << 30));
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("1.5k"), Ok(1536));
        for wrong in ["", "G", "10X", "-1", "99999999999E", "1..5G", "1e9"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_with_units() {
        let cases = [
            (0, "0 B"),
            (512, "512 B"),
            (196_608, "192 KiB"),
            (5 << 30, "5 GiB"),
            (1536, "1.5 KiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text);
        }
    }
}
