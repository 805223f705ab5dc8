//! [`Place`]: where a path leads, held open, so that what was judged is what is used.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlink, statat,
};
use rustix::io::Errno;

use super::{Ground, Policy, Wish, by_number, refused};
use crate::BrokerError;

/// By the policy, or by none: where the daemon could do all that its broker can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge<'a>(pub(crate) Option<&'a Policy>);

/// A way to what a path leads to.
#[derive(Debug)]
pub(crate) struct Place {
    /// For the kernel: the path itself, or one through the open descriptor.
    by: PathBuf,
    _held: Option<OwnedFd>,
    /// None: not looked at.
    real: Option<PathBuf>,
}

impl Place {
    fn as_said(path: &Path) -> Self {
        Self { by: path.to_owned(), _held: None, real: None }
    }

    pub(crate) fn by(&self) -> &Path {
        &self.by
    }

    pub(crate) fn real(&self) -> Option<&Path> {
        self.real.as_deref()
    }
}

impl Judge<'_> {
    #[cfg(test)]
    pub(crate) const NONE: Judge<'static> = Judge(None);

    pub(crate) fn is_none(self) -> bool {
        self.0.is_none()
    }

    /// What is there; a link in the last place is followed, or is what it is.
    pub(crate) fn find(
        self,
        wish: Wish,
        what: &str,
        path: &Path,
        follow: bool,
    ) -> Result<Place, BrokerError> {
        let Some(policy) = self.0 else { return Ok(Place::as_said(path)) };
        let links = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let (file, real) = reach(wish, what, path, path, links)
            .map_err(|error| self.unless_closed(wish, path, error))?;
        policy.file(&file, &real, wish).map_err(|refusal| refusal.of(path, &real, wish))?;
        Ok(Place { by: by_number(&file).into(), _held: Some(file), real: Some(real) })
    }

    /// What is made, replaced or removed there. A link in the last place is not followed: whoever opens it
    /// says so.
    pub(crate) fn make(self, what: &str, path: &Path) -> Result<Place, BrokerError> {
        let Some(policy) = self.0 else { return Ok(Place::as_said(path)) };
        let wish = Wish::Write;
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refused(path, path, wish, "it names no file".into()));
        };
        let (above, real) = reach(wish, what, path, above, OFlags::DIRECTORY)
            .map_err(|error| self.unless_closed(wish, path, error))?;
        let real = real.join(name);
        policy.place(&real, wish).map_err(|reason| refused(path, &real, wish, reason))?;
        let by = PathBuf::from(by_number(&above)).join(name);
        // What is there already may be worth more than its place says.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(file) = openat(&above, name, flags, Mode::empty()) {
            policy.file(&file, &real, wish).map_err(|refusal| refusal.of(path, &real, wish))?;
        }
        Ok(Place { by, _held: Some(above), real: Some(real) })
    }

    /// As [`make`](Self::make) for what is to be gone; none: not even its directory is there.
    pub(crate) fn make_if_there(
        self,
        what: &str,
        path: &Path,
    ) -> Result<Option<Place>, BrokerError> {
        match self.make(what, path) {
            Err(BrokerError::Missing { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// A directory that was there before gets another owner or mode: in a home it keeps them.
    pub(crate) fn give(self, place: &Place, path: &Path) -> Result<(), BrokerError> {
        let (Some(policy), Some(real)) = (self.0, place.real()) else { return Ok(()) };
        match policy.grounds.of(real).1 {
            Ground::Homes => {
                let reason = "it is there already, and in a home nothing gets another owner";
                Err(refused(path, real, Wish::Write, reason.into()))
            }
            _ => Ok(()),
        }
    }

    /// A volume in a directory that is open.
    pub(crate) fn volume(self, pool: &Place, path: &Path) -> Result<(), BrokerError> {
        let (Some(policy), Some(dir)) = (self.0, pool.real()) else { return Ok(()) };
        let real = dir.join(path.file_name().unwrap_or_default());
        let judged = policy.place(&real, Wish::Write);
        judged.map(drop).map_err(|reason| refused(path, &real, Wish::Write, reason))
    }

    /// The directory, which is made with those above it where it is not there.
    pub(crate) fn make_all(self, what: &str, path: &Path, mode: u32) -> Result<(), BrokerError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let failed = |error: io::Error| BrokerError::open("make", what, path, error);
        let Some(policy) = self.0 else {
            let mut all = std::fs::DirBuilder::new();
            return all.recursive(true).mode(mode).create(path).map_err(failed);
        };
        let is_there = |path: &&Path| path.metadata().is_ok();
        let there = path.ancestors().find(is_there).unwrap_or(Path::new("/"));
        let missing = path.strip_prefix(there).unwrap_or(Path::new(""));
        let (mut dir, mut real) = reach(Wish::Write, what, path, there, OFlags::DIRECTORY)?;
        for part in missing.components() {
            real.push(part);
            policy
                .place(&real, Wish::Write)
                .map_err(|reason| refused(path, &real, Wish::Write, reason))?;
            let std::path::Component::Normal(name) = part else {
                return Err(refused(path, &real, Wish::Write, "there is a '..' in it".into()));
            };
            match mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dir = openat(&dir, name, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        }
        Ok(())
    }

    /// A file that a program of the host makes, by its name.
    pub(crate) fn named(self, what: &str, path: &Path) -> Result<(), BrokerError> {
        let place = self.make(what, path)?;
        let real = place.real().unwrap_or(path);
        self.steady(Wish::Write, path, real.parent().unwrap_or(real))
    }

    /// A directory that only the daemon's own directories have.
    pub(crate) fn own(self, path: &Path) -> Result<(), BrokerError> {
        match self.0 {
            None => Ok(()),
            Some(_) => {
                let reason = "it is in none of the daemon's directories";
                Err(refused(path, path, Wish::Write, reason.into()))
            }
        }
    }

    /// That nobody but root can exchange a part of the way: for programs of the host that take a path.
    pub(crate) fn steady(self, wish: Wish, path: &Path, dir: &Path) -> Result<(), BrokerError> {
        if self.0.is_none() {
            return Ok(());
        }
        for part in dir.ancestors() {
            let stat = statat(CWD, part, AtFlags::SYMLINK_NOFOLLOW);
            if !stat.is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & 0o022 == 0) {
                let reason = format!("others than root could exchange {}", part.display());
                return Err(refused(path, path, wish, reason.into()));
            }
        }
        Ok(())
    }
}

/// Through links, but not those of `/proc` that lead past all names; where it really is.
pub(super) fn reach(
    wish: Wish,
    what: &str,
    path: &Path,
    to: &Path,
    more: OFlags,
) -> Result<(OwnedFd, PathBuf), BrokerError> {
    if !path.is_absolute() {
        return Err(refused(path, path, wish, "it does not begin with '/'".into()));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC | more;
    let file = openat2(CWD, to, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let file = file.map_err(|errno| match errno {
        Errno::LOOP => refused(path, path, wish, "links lead in circles, or through /proc".into()),
        _ => BrokerError::open(wish.verb(), what, path, errno.into()),
    })?;
    let real = readlink(by_number(&file), Vec::new()).map_err(|errno| {
        BrokerError::host(format!("see where {} leads", path.display()))(errno.into())
    })?;
    use std::os::unix::ffi::OsStringExt as _;
    let real = PathBuf::from(std::ffi::OsString::from_vec(real.into_bytes()));
    if !real.is_absolute() {
        return Err(refused(path, &real, wish, "it is outside of the host's tree".into()));
    }
    Ok((file, real))
}
