//! Whom the daemon's own directories belong to, where it is not root itself: what is done in them is
//! done as that user, so that what is made there is the daemon's, and a link that it put there leads
//! nowhere that it could not go by itself.

use std::path::{Path, PathBuf};

use crate::saved::SavedAct;
use crate::{BrokerError, Request, sys};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// Absolute.
    pub directories: Vec<PathBuf>,
}

impl Owner {
    fn has(&self, path: &Path) -> bool {
        self.directories.iter().any(|directory| path.starts_with(directory))
    }

    /// This thread makes and opens files as the owner until that is dropped, if `path` is in a directory
    /// of the owner's.
    pub(crate) fn act_in(&self, path: &Path) -> Result<Option<sys::FileUser>, BrokerError> {
        self.has(path).then(|| self.act(path)).transpose()
    }

    /// The same, wherever `path` is.
    pub(crate) fn act(&self, path: &Path) -> Result<sys::FileUser, BrokerError> {
        sys::FileUser::become_user(self.uid, self.gid).map_err(|source| BrokerError::Host {
            act: format!("act as user {} in {}", self.uid, path.display()),
            source,
        })
    }
}

/// Where a request works by itself with files that may be the daemon's own. Not those that do more than
/// that, nor those that only open what is there.
pub(crate) fn place(request: &Request) -> Option<&Path> {
    match request {
        Request::OpenOutput { path, .. }
        | Request::MakeVariables { path, .. }
        | Request::RemoveVariables { path }
        | Request::Listen { path }
        | Request::MakeRunDir { path }
        | Request::RemoveRunDir { path }
        | Request::LockRunDir { path }
        | Request::Saved(
            SavedAct::Create { path, .. }
            | SavedAct::Open { path }
            | SavedAct::Rename { to: path, .. }
            | SavedAct::Name { to: path, .. }
            | SavedAct::Remove { path },
        ) => Some(path),
        _ => None,
    }
}
