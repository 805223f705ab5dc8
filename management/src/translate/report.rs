//! What is found wrong with a definition, placed in the user's text.

use xml::{Diagnostic, Diagnostics, Kind, Severity, Source};

use crate::error::{Code, Error, Problem};

pub(super) struct Report<'a> {
    source: &'a Source,
    /// The text is of one device alone, which stands here in the definition.
    device: Option<String>,
    found: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, device: None, found: Vec::new() }
    }

    /// Of the device whose text this is, and which stands at `path` (`/domain/devices/disk[2]`):
    /// what is found elsewhere was accepted before.
    pub(super) fn of_device(source: &'a Source, path: String) -> Self {
        Self { source, device: Some(path), found: Vec::new() }
    }

    fn add(&mut self, severity: Severity, kind: Kind, path: &str, message: String) {
        let path = match &self.device {
            None => path.to_owned(),
            Some(device) => {
                let element = device.rsplit('/').next().unwrap_or_default();
                let name = element.split('[').next().unwrap_or_default();
                match path.strip_prefix(device.as_str()) {
                    Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                        format!("/{name}{rest}")
                    }
                    // Of the machine as a whole, with it.
                    _ if path == "/domain/devices" => format!("/{name}"),
                    _ => return,
                }
            }
        };
        self.found.push(match severity {
            Severity::Error => self.source.error(kind, &path, message),
            Severity::Warning => self.source.warning(kind, &path, message),
        });
    }

    /// libvirt has it, we do not.
    pub(super) fn refuse(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Error, Kind::Unsupported, path, message.into());
    }

    pub(super) fn invalid(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Error, Kind::Invalid, path, message.into());
    }

    pub(super) fn missing(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Error, Kind::Missing, path, message.into());
    }

    /// Accepted and left out.
    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Warning, Kind::Unsupported, path, message.into());
    }

    pub(super) fn refuse_if(&mut self, present: bool, path: &str, message: &str) {
        if present {
            self.refuse(path, message);
        }
    }

    pub(super) fn warn_if(&mut self, present: bool, path: &str, message: &str) {
        if present {
            self.warn(path, message);
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.found.iter().any(|found| found.severity == Severity::Error)
    }

    pub(super) fn into_error(self, earlier: Vec<Diagnostic>) -> Error {
        invalid(Diagnostics(self.all(earlier)))
    }

    pub(super) fn into_warnings(self, earlier: Vec<Diagnostic>) -> Vec<Problem> {
        self.all(earlier).into_iter().map(problem).collect()
    }

    fn all(self, mut earlier: Vec<Diagnostic>) -> Vec<Diagnostic> {
        earlier.extend(self.found);
        earlier.sort_by_key(|found| found.position);
        earlier
    }
}

fn problem(found: Diagnostic) -> Problem {
    Problem {
        warning: found.severity == Severity::Warning,
        kind: match found.kind {
            Kind::Malformed => "malformed",
            Kind::Unknown => "unknown",
            Kind::Unsupported => "unsupported",
            Kind::Invalid => "invalid",
            Kind::Missing => "missing",
            Kind::Limit => "limit",
        },
        line: found.position.line,
        column: found.position.column,
        path: found.path,
        message: found.message,
        expected: found.expected,
        suggestion: found.suggestion,
    }
}

/// The error of a document: `Unsupported` if nothing else is wrong with it than what we lack.
pub(crate) fn invalid(found: Diagnostics) -> Error {
    let only_lacking = found.errors().all(|error| error.kind == Kind::Unsupported);
    let code = if only_lacking { Code::Unsupported } else { Code::InvalidXml };
    let count = found.errors().count();
    let first = found.errors().next().map(ToString::to_string).unwrap_or_default();
    let message = match count {
        0 | 1 => first,
        2 => format!("{first} (and one more problem)"),
        _ => format!("{first} (and {} more problems)", count - 1),
    };
    Error::new(code, message).with_problems(found.0.into_iter().map(problem).collect())
}
