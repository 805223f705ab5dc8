//! What whoever started the process demands of it, whatever its configuration says: that is the daemon's,
//! and the broker, which has more rights, lets nobody run with them who would keep them.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use vmm_protocol::config::{IsolationMode, ProcessFiles};

/// Nothing, without arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    isolation: IsolationMode,
    /// One of these it has to become.
    users: Option<RangeInclusive<u32>>,
    seccomp: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TermsError {
    #[error(
        "run-domain takes --isolation=possible|required, --users=FIRST-LAST and --seccomp, and not {word:?}: \
         its configuration comes on a descriptor"
    )]
    Unknown { word: String },
    #[error(
        "the configuration asks for less isolation ({asked:?}) than the host's does ({least:?})"
    )]
    Isolation { asked: IsolationMode, least: IsolationMode },
    #[error("the configuration names no user of [domains] users ({asked:?})")]
    User { asked: Option<u32> },
    #[error("the configuration asks for no seccomp filters, and the host's does")]
    Seccomp,
}

impl Terms {
    pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, TermsError> {
        let mut terms = Self::default();
        for word in words {
            let word = word.to_string_lossy().into_owned();
            let (name, value) = word.split_once('=').unwrap_or((&word, ""));
            match (name, value) {
                ("--isolation", "possible") => terms.isolation = IsolationMode::Possible,
                ("--isolation", "required") => terms.isolation = IsolationMode::Required,
                ("--seccomp", "") => terms.seccomp = true,
                ("--users", range) => {
                    let range = range.split_once('-');
                    let range = range.and_then(|(first, last)| {
                        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
                    });
                    terms.users = Some(range.ok_or(TermsError::Unknown { word: word.clone() })?);
                }
                _ => return Err(TermsError::Unknown { word }),
            }
        }
        Ok(terms)
    }

    /// Whether a process that does what its configuration says keeps to them.
    pub(super) fn judge(&self, process: &ProcessFiles) -> Result<(), TermsError> {
        let strength = |mode| match mode {
            IsolationMode::Off => 0,
            IsolationMode::Possible => 1,
            IsolationMode::Required => 2,
        };
        let (asked, least) = (process.isolation.mode, self.isolation);
        if strength(asked) < strength(least) {
            return Err(TermsError::Isolation { asked, least });
        }
        let asked = process.isolation.user;
        let is_one_of = |users: &RangeInclusive<u32>| asked.is_some_and(|it| users.contains(&it));
        if !self.users.as_ref().is_none_or(is_one_of) {
            return Err(TermsError::User { asked });
        }
        if self.seccomp && !process.seccomp { Err(TermsError::Seccomp) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use vmm_protocol::config::{Fd, Isolation};

    use super::*;

    fn parse(words: &[&str]) -> Result<Terms, String> {
        Terms::parse(words.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn process(mode: IsolationMode, user: Option<u32>, seccomp: bool) -> ProcessFiles {
        ProcessFiles {
            kvm: Fd(3),
            control: Fd(4),
            exit_record: Fd(5),
            log: None,
            locks: Vec::new(),
            live_record: String::new(),
            seccomp,
            isolation: Isolation { mode, user },
        }
    }

    #[test]
    fn a_configuration_that_asks_for_less_than_the_hosts_is_refused_by_name() {
        let terms = parse(&["--isolation=possible", "--users=100-199", "--seccomp"]).unwrap();
        let judge = |mode, user, seccomp| {
            terms.judge(&process(mode, user, seccomp)).map_err(|error| error.to_string())
        };
        for mode in [IsolationMode::Possible, IsolationMode::Required] {
            judge(mode, Some(100), true).unwrap();
            judge(mode, Some(199), true).unwrap();
        }
        let off = judge(IsolationMode::Off, Some(100), true).unwrap_err();
        assert!(off.contains("less isolation (Off)"), "{off}");
        for user in [None, Some(0), Some(99), Some(200)] {
            let error = judge(IsolationMode::Possible, user, true).unwrap_err();
            assert!(error.contains("[domains] users"), "{error}");
        }
        let error = judge(IsolationMode::Possible, Some(150), false).unwrap_err();
        assert!(error.contains("seccomp"), "{error}");
        let required = parse(&["--isolation=required"]).unwrap();
        assert!(required.judge(&process(IsolationMode::Possible, None, false)).is_err());
    }

    #[test]
    fn without_terms_the_configuration_alone_counts_and_unknown_ones_are_none() {
        let none = parse(&[]).unwrap();
        none.judge(&process(IsolationMode::Off, None, false)).unwrap();
        for word in ["--isolation=off", "--users=1", "--users=a-b", "--seccomp=no", "demo"] {
            assert!(parse(&[word]).unwrap_err().contains(word), "{word}");
        }
    }
}
