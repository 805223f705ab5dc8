//! How far a long work has come, on one line of the terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use super::size::human;
use crate::terminal::Terminal;

const EACH: Duration = Duration::from_millis(100);

pub(crate) struct Progress<'a> {
    terminal: &'a Terminal,
    total: u64,
    shown: bool,
    start: Instant,
    last: Option<Instant>,
}

impl<'a> Progress<'a> {
    /// On a terminal, or where it is asked for.
    pub(crate) fn new(terminal: &'a Terminal, total: u64, asked: bool) -> Self {
        let wanted = !terminal.quiet && !terminal.json && std::io::stderr().is_terminal();
        Self { terminal, total, shown: wanted || asked, start: Instant::now(), last: None }
    }

    /// The work has another size than it seemed.
    pub(crate) fn at_of(&mut self, done: u64, total: u64) {
        self.total = total;
        self.at(done);
    }

    pub(crate) fn at(&mut self, done: u64) {
        let soon = self.last.is_some_and(|last| last.elapsed() < EACH) && done < self.total;
        if !self.shown || soon {
            return;
        }
        self.last = Some(Instant::now());
        let percent = if self.total == 0 { 100.0 } else { 100.0 * done as f64 / self.total as f64 };
        let rate = done as f64 / self.start.elapsed().as_secs_f64().max(0.001);
        let line = format!(
            "\r    ({percent:.2}/100%)  {} of {}, {}/s \x1b[K",
            human(done),
            human(self.total),
            human(rate as u64)
        );
        self.terminal.complain(&line);
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.last.is_some() {
            self.terminal.complain("\n");
        }
    }
}
