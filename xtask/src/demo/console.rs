//! The guest's console as one who sits before it sees it.

use std::time::{Duration, Instant};

use anyhow::bail;
use manor_tests::http;

/// Seconds on hardware; the emulated host may have to share its processors with a build.
const LIMIT: Duration = Duration::from_secs(180);
const FAILED: &str = "MANOR-FAIL";

pub(super) struct Console {
    inner: http::Console,
    /// Bytes that stand on our terminal.
    shown: usize,
    typed: u32,
}

impl Console {
    pub(super) fn new(inner: http::Console) -> Console {
        Console { inner, shown: 0, typed: 0 }
    }

    /// Shows it until all of the words have come.
    pub(super) fn watch(&mut self, words: &[&str]) -> anyhow::Result<&str> {
        let until = Instant::now() + LIMIT;
        loop {
            let new = self.inner.read(until.saturating_duration_since(Instant::now()))?;
            self.show();
            let text = self.inner.text();
            if let Some(line) = text.lines().find(|line| line.contains(FAILED)) {
                bail!("the guest says: {}", plain(line));
            }
            let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
            if missing.is_empty() {
                return Ok(self.inner.text());
            }
            if new.is_empty() {
                let how = if self.inner.is_closed() { "has ended" } else { "is silent" };
                bail!("the guest {how} and did not say {missing:?}");
            }
        }
    }

    /// Types a command that must succeed; what it wrote.
    pub(super) fn run(&mut self, command: &str) -> anyhow::Result<String> {
        self.typed += 1;
        // The guest computes the marks, so that the echo of what is typed is none.
        let number = 700 + self.typed;
        self.inner.forget();
        self.shown = 0;
        let mark = |word: &str| format!("echo {word}-$(({number}+0))");
        let line =
            format!("{}; {command} && {} || {}\n", mark("begin"), mark("done"), mark("failed"));
        self.inner.write(line.as_bytes())?;
        let [begin, done, failed] =
            ["begin", "done", "failed"].map(|word| format!("{word}-{number}"));
        let until = Instant::now() + LIMIT;
        while !self.inner.text().contains(&done) {
            if self.inner.text().contains(&failed) {
                self.show();
                bail!("{command:?} failed in the guest");
            }
            if self.inner.read(until.saturating_duration_since(Instant::now()))?.is_empty() {
                bail!("{command:?} does not end in the guest: {:?}", plain(self.inner.text()));
            }
        }
        let text = self.inner.text();
        let output = text.split_once(&begin).map_or(text, |(_, output)| output);
        let output = output.rsplit_once(&done).map_or(output, |(output, _)| output).to_owned();
        println!("  | # {command}");
        for line in output.lines().filter(|line| !line.trim().is_empty()) {
            println!("  | {}", plain(line));
        }
        Ok(output)
    }

    fn show(&mut self) {
        let text = self.inner.text();
        let end = text.rfind('\n').map_or(0, |at| at + 1).max(self.shown);
        for line in text[self.shown..end].lines() {
            println!("  | {}", plain(line));
        }
        self.shown = end;
    }
}

/// A guest's bytes are its own; a terminal should not obey them.
fn plain(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}
