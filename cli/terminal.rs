//! stdout and stderr: results, messages, colours, and nothing of a guest's or a stranger's that
//! could drive the terminal.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing happens")]

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use serde::Serialize;

/// How to print.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    pub(crate) quiet: bool,
    pub(crate) json: bool,
    /// Called by the name `virsh`: its words, its exit statuses, no colours.
    pub(crate) as_virsh: bool,
    color: bool,
}

impl Terminal {
    pub(crate) fn new(quiet: bool, json: bool, no_color: bool, as_virsh: bool) -> Self {
        let color = !no_color
            && !as_virsh
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::io::stderr().is_terminal();
        Self { quiet, json, as_virsh, color }
    }

    /// A result.
    pub(crate) fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            if error.kind() == ErrorKind::BrokenPipe {
                // Whoever read has read enough. What a shell reports for SIGPIPE.
                std::process::exit(141);
            }
            self.complain(&format!("error: cannot write to stdout: {error}\n"));
            std::process::exit(1);
        }
    }

    /// A message that a program would not want.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            self.print(text);
        }
    }

    pub(crate) fn print_json<T: Serialize>(&self, value: &T) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.print(&format!("{text}\n"));
    }

    /// To stderr.
    pub(crate) fn complain(&self, text: &str) {
        // There is nowhere left to report a failure to.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    pub(crate) fn warn(&self, text: &str) {
        self.complain(&format!("{} {}\n", self.paint("33", "warning:"), printable(text)));
    }

    pub(crate) fn red(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text that moves no cursor, rings no bell, turns no line around: such characters become `\xNN`,
/// as virsh writes them in its tables.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns_around(c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that change the direction of the text after them.
fn turns_around(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(printable("a\x1b[31mb\n"), "a\\x1b[31mb\\x0a");
        assert_eq!(printable("a\u{202e}b"), "a\\xe2\\x80\\xaeb");
        assert_eq!(printable("Gäste 虚"), "Gäste 虚");
    }
}
