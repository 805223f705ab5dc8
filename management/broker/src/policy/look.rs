//! What is only looked at. That there is nothing may be as telling as what there is, so where nothing is it is
//! judged where it would be.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, readlinkat};

use super::place::reach;
use super::{Judge, Wish, refused};
use crate::BrokerError;

/// As many as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;
const FILE: &str = "file";

fn is_missing(error: &BrokerError) -> bool {
    match error {
        BrokerError::Missing { .. } => true,
        BrokerError::Host { source, .. } => source.kind() == io::ErrorKind::NotADirectory,
        _ => false,
    }
}

impl Judge<'_> {
    /// Open without its content, and where it really is; none: nothing is there, and nothing says what else is.
    pub(crate) fn look(
        self,
        path: &Path,
        follow: bool,
    ) -> Result<Option<(OwnedFd, PathBuf)>, BrokerError> {
        let (wish, links) = (Wish::Look, if follow { OFlags::empty() } else { OFlags::NOFOLLOW });
        match reach(wish, FILE, path, path, links) {
            Ok((file, real)) => {
                let judged = self.0.map_or(Ok(()), |policy| policy.file(&file, &real, wish));
                judged.map_err(|refusal| refusal.of(path, &real, wish))?;
                Ok(Some((file, real)))
            }
            Err(error) if is_missing(&error) => self.missing(wish, path).map(|()| None),
            Err(error) => Err(error),
        }
    }

    /// Why `path` cannot be reached, unless that nothing is there is not to be known either.
    pub(super) fn unless_closed(self, wish: Wish, path: &Path, error: BrokerError) -> BrokerError {
        match is_missing(&error) {
            true => self.missing(wish, path).err().unwrap_or(error),
            false => error,
        }
    }

    /// Whether it may be known that nothing is at `path`: by where the way there ends.
    fn missing(self, wish: Wish, path: &Path) -> Result<(), BrokerError> {
        let Some(policy) = self.0 else { return Ok(()) };
        let mut way = path.to_owned();
        for _ in 0..MOST_LINKS {
            let there = way.ancestors().find_map(|part| {
                Some((part, reach(wish, FILE, path, part, OFlags::NOFOLLOW).ok()?))
            });
            let Some((part, (file, real))) = there else { break };
            let rest = way.strip_prefix(part).unwrap_or(Path::new(""));
            let Ok(target) = readlinkat(&file, "", Vec::new()) else {
                // A directory in which the next is not, or something that is none.
                let real = real.join(rest);
                let judged = policy.place(&real, wish).map(drop);
                return judged.map_err(|reason| refused(path, &real, wish, reason));
            };
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            way = real.parent().unwrap_or(&real).join(target).join(rest);
        }
        Err(refused(path, &way, wish, "it leads nowhere that can be told".into()))
    }
}
