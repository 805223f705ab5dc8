//! Who the process is to be, as whoever started it says: its configuration is the daemon's, and the broker, which
//! has more rights, leaves it to nobody else who has them.

use std::ffi::OsString;

use crate::config::{Confinement, User};

/// Nothing, without arguments: then the configuration alone counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) user: Option<User>,
    seccomp: bool,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "run-network takes --user=UID:GID, neither of them root's, and --seccomp, and not {word:?}: its configuration comes \
     on a descriptor"
)]
pub(crate) struct TermsError {
    word: String,
}

impl Terms {
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, TermsError> {
        let mut terms = Self::default();
        for word in words {
            let word = word.to_string_lossy().into_owned();
            match word.split_once('=') {
                None if word == "--seccomp" => terms.seccomp = true,
                Some(("--user", ids)) => match user(ids) {
                    Some(user) => terms.user = Some(user),
                    None => return Err(TermsError { word }),
                },
                _ => return Err(TermsError { word }),
            }
        }
        Ok(terms)
    }

    /// What holds, whatever the configuration asks.
    pub(crate) fn over(&self, asked: Confinement) -> Confinement {
        let user = self.user.or(asked.user);
        Confinement { user, seccomp: asked.seccomp || self.seccomp }
    }
}

fn user(ids: &str) -> Option<User> {
    let (uid, gid) = ids.split_once(':')?;
    let user = User { uid: uid.parse().ok()?, gid: gid.parse().ok()? };
    Some(user).filter(|user| user.uid != 0 && user.gid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Terms, String> {
        Terms::parse(words.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_by_whoever_started_it_counts_more_than_the_configuration() {
        let terms = parse(&["--user=7:8", "--seccomp"]).unwrap();
        let held = Confinement { user: Some(User { uid: 7, gid: 8 }), seccomp: true };
        let root = User { uid: 0, gid: 0 };
        for user in [None, Some(root), Some(User { uid: 9, gid: 9 })] {
            assert_eq!(terms.over(Confinement { user, seccomp: false }), held);
        }
        let asked = Confinement { user: Some(root), seccomp: false };
        assert_eq!(parse(&[]).unwrap().over(asked), asked);
    }

    #[test]
    fn root_and_words_that_are_none_are_refused_by_name() {
        for word in ["--user=0:8", "--user=7:0", "--user=7", "--user=a:b", "--seccomp=no", "lab"] {
            assert!(parse(&[word]).unwrap_err().contains(word), "{word}");
        }
    }
}
