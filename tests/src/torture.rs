//! What torture tests share: how much of it there is to be, and one line on what came of it.
//!
//! `cargo xtask torture` runs them in their long form and makes a table of the lines;
//! `cargo xtask test` runs them in their short one.

use std::fmt;

/// Set by `cargo xtask torture`: `long`, or the short form.
pub const FORM: &str = "MANOR_TORTURE";
/// Another seed than the usual one.
pub const SEED: &str = "MANOR_TORTURE_SEED";
/// How long the soak is.
pub const SECONDS: &str = "MANOR_TORTURE_SECONDS";

/// A binary of another version, to upgrade from and to go back to.
pub const PREVIOUS: &str = "MANOR_TORTURE_PREVIOUS";

/// How the line begins that says what came of a part.
pub const MARK: &str = "TORTURE ";

/// How much is to be tried, and from which seed.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub long: bool,
    pub seed: u64,
    pub seconds: Option<u64>,
}

impl Scale {
    /// # Panics
    /// If a number in the environment is none.
    #[must_use]
    pub fn of_environment() -> Self {
        let number = |name| {
            let text = std::env::var(name).ok()?;
            Some(text.parse().expect("it is a number"))
        };
        Self {
            long: std::env::var(FORM).is_ok_and(|form| form == "long"),
            seed: number(SEED).unwrap_or(1),
            seconds: number(SECONDS),
        }
    }

    #[must_use]
    pub fn pick<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }
}

/// What came of one part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub part: String,
    /// Failures that were made.
    pub tried: u64,
    /// Those after which something acknowledged was not there.
    pub lost: u64,
    /// Those after which everything was well.
    pub contained: u64,
    /// Those that harmed something that had no part in them, or left something behind.
    pub escaped: u64,
    /// What else is worth knowing.
    pub note: String,
}

impl Tally {
    #[must_use]
    pub fn of(part: &str) -> Self {
        Self { part: part.to_owned(), ..Self::default() }
    }

    /// Count a failure that was made, by what it did.
    pub fn count(&mut self, harm: Option<Harm>) {
        self.tried += 1;
        match harm {
            None => self.contained += 1,
            Some(Harm::Lost) => self.lost += 1,
            Some(Harm::Escaped) => self.escaped += 1,
        }
    }

    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.escaped == 0
    }

    /// The line for `cargo xtask torture`.
    #[expect(clippy::print_stdout, reason = "this is what it is for")]
    pub fn tell(&self) {
        println!("{MARK}{self}");
    }

    /// What was told, read back.
    #[must_use]
    pub fn heard(line: &str) -> Option<Self> {
        let (part, rest) = line.strip_prefix(MARK)?.split_once(": ")?;
        let (numbers, note) = rest.split_once("; ").unwrap_or((rest, ""));
        let mut counts = numbers.split(", ").map(|count| {
            let (number, _) = count.split_once(' ')?;
            number.parse().ok()
        });
        let mut next = || counts.next().flatten();
        Some(Self {
            part: part.to_owned(),
            tried: next()?,
            lost: next()?,
            contained: next()?,
            escaped: next()?,
            note: note.to_owned(),
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, tried, lost, contained, escaped, note } = self;
        write!(f, "{part}: {tried} tried, {lost} lost, {contained} contained, {escaped} escaped")?;
        if note.is_empty() { Ok(()) } else { write!(f, "; {note}") }
    }
}

/// What a failure did to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Lost,
    Escaped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        let mut tally = Tally::of("crash-daemon");
        tally.count(None);
        tally.count(Some(Harm::Lost));
        tally.count(Some(Harm::Escaped));
        assert!(!tally.is_clean());
        for note in ["", "the slowest restart took 1.5 s; 50 domains"] {
            tally.note = note.to_owned();
            assert_eq!(Tally::heard(&format!("{MARK}{tally}")), Some(tally.clone()));
        }
        assert_eq!(Tally::heard("test a ... ok"), None);
    }
}
