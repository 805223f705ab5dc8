//! How a command fails: what it says on stderr, and its exit status.

use std::fmt::Write as _;

use api::client::ClientError;
use api::types::{Mistake, Problem};

use crate::terminal::{Terminal, printable};

/// Exit statuses of the native command line. Under the name `virsh` every failure is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Denied = 5,
    Unreachable = 6,
    /// Only of `manor run`.
    GuestCrashed = 8,
}

/// What virsh says first when there is no daemon to talk to.
pub(crate) const NOT_CONNECTED: &str = "failed to connect to the hypervisor";

/// Lines for stderr, each printed behind `error: `, then hints.
#[derive(Debug)]
pub(crate) struct Failure {
    lines: Vec<String>,
    hints: Vec<String>,
    pub(crate) exit: Exit,
    /// Of a program that ran in a guest: it has said itself what is wrong.
    guest: Option<u8>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, line: impl Into<String>) -> Self {
        Self { lines: vec![line.into()], hints: Vec::new(), exit, guest: None }
    }

    /// A program in a guest ended so, and said why itself.
    pub(crate) fn of_guest(status: i64) -> Self {
        let status = u8::try_from(status).unwrap_or(u8::MAX);
        Self { lines: Vec::new(), hints: Vec::new(), exit: Exit::Failed, guest: Some(status) }
    }

    /// What this process ends with.
    pub(crate) fn status(&self, as_virsh: bool) -> u8 {
        let own = if as_virsh { 1 } else { self.exit as u8 };
        self.guest.unwrap_or(own)
    }

    pub(crate) fn usage(line: impl Into<String>) -> Self {
        Self::new(Exit::Usage, line)
    }

    pub(crate) fn other(line: impl Into<String>) -> Self {
        Self::new(Exit::Failed, line)
    }

    /// Say first what was attempted; of a daemon that is not there, that is said already.
    #[must_use]
    pub(crate) fn while_doing(mut self, attempt: impl Into<String>) -> Self {
        if self.lines.first().is_none_or(|line| line != NOT_CONNECTED) {
            self.lines.insert(0, attempt.into());
        }
        self
    }

    /// The same, but for a domain that does not exist: virsh says no more than that.
    #[must_use]
    pub(crate) fn unless_lost(self, attempt: impl Into<String>) -> Self {
        if self.exit == Exit::NotFound { self } else { self.while_doing(attempt) }
    }

    /// One more line of the same weight.
    #[must_use]
    pub(crate) fn also(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Suggest what was probably meant.
    #[must_use]
    pub(crate) fn hint_near(self, word: &str, known: impl Iterator<Item = String>) -> Self {
        let near = known.map(|known| (distance(word, &known), known)).min();
        match near {
            Some((distance, known)) if distance <= 1 + word.len() / 4 => {
                self.hint(format!("did you mean '{known}'?"))
            }
            _ => self,
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Print it.
    pub(crate) fn report(&self, terminal: &Terminal) {
        if self.guest.is_some() {
            return;
        }
        if terminal.json {
            let error = serde_json::json!({"error": self.lines, "hints": self.hints});
            terminal.complain(&format!("{error}\n"));
            return;
        }
        let mut text = String::new();
        for line in &self.lines {
            let _ = writeln!(text, "{} {}", terminal.red("error:"), printable(line));
        }
        if !terminal.as_virsh {
            for hint in &self.hints {
                let _ = writeln!(text, "{} {}", terminal.dim("hint:"), printable(hint));
            }
        }
        terminal.complain(&text);
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(problem) => problem_failure(&problem),
            ClientError::Unreachable { endpoint, source } => unreachable(&endpoint, &source),
            other => {
                let mut line = other.to_string();
                let mut next = std::error::Error::source(&other);
                while let Some(cause) = next {
                    let _ = write!(line, ": {cause}");
                    next = cause.source();
                }
                Self::new(Exit::Unreachable, line)
            }
        }
    }
}

/// Of a unix socket.
const LONGEST_PATH: usize = api::http::server::LONGEST_PATH;

/// A certificate that was made for an authority, as `openssl req -x509` makes them, is no server's.
fn cause_is_authority(source: &std::io::Error) -> bool {
    source.to_string().contains("CaUsedAsEndEntity")
}

fn unreachable(endpoint: &api::client::Endpoint, source: &std::io::Error) -> Failure {
    let cause = |why: &str| format!("Failed to connect socket to '{endpoint}': {why}");
    if let api::client::Endpoint::Unix(path) = endpoint
        && path.as_os_str().len() > LONGEST_PATH
    {
        let len = path.as_os_str().len();
        let why =
            format!("its path is {len} bytes long, and the kernel takes {LONGEST_PATH} at most");
        return Failure::new(Exit::Unreachable, cause(&why)).while_doing(NOT_CONNECTED);
    }
    let cause = cause(&reason(source));
    let denied = source.kind() == std::io::ErrorKind::PermissionDenied;
    let exit = if denied { Exit::Denied } else { Exit::Unreachable };
    let failure = Failure::new(exit, cause).while_doing(NOT_CONNECTED);
    if cause_is_authority(source) {
        return failure
            .hint("the daemon's certificate is that of an authority; make one with CA:FALSE");
    }
    let is_tls = matches!(endpoint, api::client::Endpoint::Tls(_));
    if is_tls && source.kind() == std::io::ErrorKind::InvalidData {
        failure.hint("--ca FILE names the authority that signed the daemon's certificate")
    } else if is_tls {
        failure.hint("does the daemon listen there? ([listen] in its configuration)")
    } else if denied {
        failure.hint("members of the group of the socket may connect; see 'manor help setup'")
    } else {
        failure.hint("is the daemon running? 'systemctl start manor.socket', or 'manor daemon'")
    }
}

/// An error with every cause behind it.
pub(crate) fn chain(error: &dyn std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    Failure::other(text)
}

/// The text of an I/O error without Rust's `(os error 2)`.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn problem_failure(problem: &Problem) -> Failure {
    let exit = match problem.code() {
        "not-found" | "device-not-found" => Exit::NotFound,
        "exists" | "invalid-state" | "risky" | "busy" | "locked" | "changed" => Exit::Conflict,
        "denied" | "foreign-origin" | "unauthenticated" | "too-many-failures" => Exit::Denied,
        "vmm-unreachable" | "timeout" => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let line = match problem.code() {
        // virsh's words, which scripts look for.
        "invalid-state" => format!("Requested operation is not valid: {problem}"),
        _ => problem.to_string(),
    };
    let failure = Failure::new(exit, line);
    if problem.code() == "unauthenticated" {
        return failure
            .hint("--token-file FILE or MANOR_TOKEN, or --cert and --key; see 'manor token'");
    }
    failure
}

/// Each mistake of a document, as a compiler would print it.
pub(crate) fn mistakes(file: &str, mistakes: &[Mistake]) -> Vec<String> {
    mistakes
        .iter()
        .map(|mistake| {
            let between = if mistake.line.is_some() { ":" } else { ": " };
            format!("{file}{between}{mistake}")
        })
        .collect()
}

impl Failure {
    /// A refused document: the attempt, every mistake in its place, and the verdict if there is
    /// no mistake to show.
    pub(crate) fn of_document(error: ClientError, attempt: String, file: &str) -> Self {
        let errors = match &error {
            ClientError::Refused(problem) => problem.errors.clone(),
            _ => Vec::new(),
        };
        let mut failure = Self::from(error).while_doing(attempt);
        let found: Vec<_> = errors.into_iter().filter(|mistake| !mistake.warning).collect();
        if !found.is_empty() {
            failure.lines.truncate(1);
            failure.lines.extend(mistakes(file, &found));
        }
        failure
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_suggested_and_far_ones_are_not() {
        let known = || ["list", "start", "shutdown"].map(str::to_owned).into_iter();
        let hint = |word: &str| Failure::usage("x").hint_near(word, known()).hints;
        assert_eq!(hint("lsit"), ["did you mean 'list'?"]);
        assert_eq!(hint("lst"), ["did you mean 'list'?"]);
        assert_eq!(hint("shutdwon"), ["did you mean 'shutdown'?"]);
        assert_eq!(hint("migrate"), Vec::<String>::new());
    }

    #[test]
    fn codes_become_exit_statuses() {
        let exit = |code: &str| {
            let problem = Problem {
                kind: format!("urn:manor:error:{code}"),
                title: String::new(),
                status: 400,
                detail: "it failed".into(),
                causes: vec!["because".into()],
                errors: Vec::new(),
            };
            let failure = problem_failure(&problem);
            assert!(failure.lines()[0].ends_with("it failed: because"));
            failure.exit as u8
        };
        assert_eq!(
            ["internal", "not-found", "exists", "locked", "denied"].map(exit),
            [1, 3, 4, 4, 5]
        );
        assert_eq!(["vmm-unreachable", "no-space", "invalid-xml"].map(exit), [6, 1, 1]);
    }
}
