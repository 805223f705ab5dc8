//! Pools, volumes, and the jobs that work on them.

pub(super) mod job;
pub(super) mod pool;
pub(super) mod transfer;
pub(super) mod users;
pub(super) mod volume;

use crate::failure::{Exit, Failure};

/// `97.92 GiB`, as virsh rounds.
fn pretty(bytes: u64) -> String {
    capacity(bytes, 2)
}

/// With so many decimals.
pub(super) fn capacity(bytes: u64, decimals: usize) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.decimals$} {}", UNITS[unit])
}

fn lost(what: &str, name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("failed to get {what} '{name}'"))
}

/// An element with text in it.
fn element(name: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<{name}>{text}</{name}>")
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn sizes_are_rounded_as_virsh_rounds_them() {
        for (bytes, text) in [(0, "0.00 B"), (1 << 20, "1.00 MiB"), (1_610_612_736, "1.50 GiB")] {
            assert_eq!(pretty(bytes), text);
        }
    }
}
