//! Opening an image and what it names, each locked as QEMU would lock it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::{Broker, BrokerError, Sharing};
use image::chain::{self, MOST_DEEP, Node};
use image::{Description, FileStorage, Format, ImageError, Storage};

use super::args::Source;
use crate::failure::{Exit, Failure};

/// Opens files on behalf of a person: with that person's own rights.
pub(crate) struct Opener {
    broker: broker::Local,
    sharing: Sharing,
}

/// One image of a chain, looked at.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// Nobody said so: its first bytes did.
    guessed: bool,
    pub(crate) file: Arc<dyn Storage>,
    pub(crate) description: Description,
}

impl Found {
    /// The first other file that it needs.
    fn names(&self) -> Option<&str> {
        let it = &self.description;
        let backing = it.backing.as_ref().map(|backing| &backing.name);
        backing.or(it.data_file.as_ref()).or(it.extents.first()).map(String::as_str)
    }
}

impl Opener {
    pub(crate) fn new(force_share: bool) -> Self {
        let sharing = if force_share { Sharing::Shared } else { Sharing::Exclusive };
        Self { broker: broker::Local::new(), sharing }
    }

    pub(crate) fn file(&self, path: &Path, read_only: bool) -> Result<Arc<dyn Storage>, Failure> {
        let broker: &dyn Broker = &self.broker;
        let file = broker.open_image(path, read_only, false, self.sharing).map_err(refused)?;
        let storage = FileStorage::new(file.into()).map_err(|error| {
            Failure::other(format!("cannot look at {}: {error}", path.display()))
        })?;
        Ok(Arc::new(storage))
    }

    /// The image that a person named.
    pub(crate) fn find(&self, source: &Source, read_only: bool) -> Result<Found, Failure> {
        let file = self.file(&source.path, read_only)?;
        let format = match source.format {
            Some(format) => format,
            None => image::guess(&*file).map_err(|error| {
                Failure::other(format!("cannot read {}: {error}", source.path.display()))
            })?,
        };
        let found = look(source.path.clone(), format, file)?;
        Ok(Found { guessed: source.format.is_none(), ..found })
    }

    /// The image below, if there is one. Its format is not guessed: whoever filled that image chose
    /// its first bytes.
    pub(crate) fn below(&self, found: &Found) -> Result<Option<Found>, Failure> {
        let Some(backing) = &found.description.backing else { return Ok(None) };
        let path = chain::locate(&backing.name, &found.path).map_err(of(&found.path))?;
        let format = chain::declared_format(backing).map_err(of(&found.path))?;
        look(path.clone(), format, self.file(&path, true)?).map(Some)
    }

    /// What the image's data lies in besides itself.
    fn with_files(&self, found: Found, read_only: bool) -> Result<Node, Failure> {
        let mut node = Node::new(found.format, found.file);
        if let Some(name) = &found.description.data_file {
            let path = chain::locate(name, &found.path).map_err(of(&found.path))?;
            node.data_file = Some(self.file(&path, read_only)?);
        }
        for name in &found.description.extents {
            let path = chain::locate(name, &found.path).map_err(of(&found.path))?;
            node.extents.push(self.file(&path, read_only)?);
        }
        Ok(node)
    }

    /// The image with everything it needs.
    pub(crate) fn chain(&self, top: Found, read_only: bool) -> Result<Node, Failure> {
        if let Some(name) = top.names().filter(|_| top.guessed) {
            // A guest can write such a header into its raw disk, and would be given what it names.
            let (path, format) = (top.path.display(), top.format);
            let line = format!("{path} begins as {format} images do, and names {name:?}");
            let hint =
                format!("say what it is: -f {format}, or -f raw if it is a guest's raw disk");
            return Err(Failure::usage(line).hint(hint));
        }
        let mut found = vec![top];
        while let Some(below) = found.last().map(|last| self.below(last)).transpose()?.flatten() {
            found.push(below);
            if found.len() > MOST_DEEP {
                let line = format!("more than {MOST_DEEP} images on top of each other");
                return Err(Failure::other(line));
            }
        }
        let mut node: Option<Box<Node>> = None;
        while let Some(next) = found.pop() {
            let read_only = read_only || !found.is_empty();
            let mut next = self.with_files(next, read_only)?;
            next.backing = node.take();
            node = Some(Box::new(next));
        }
        node.map(|node| *node).ok_or_else(|| Failure::other("no image"))
    }
}

fn look(path: PathBuf, format: Format, file: Arc<dyn Storage>) -> Result<Found, Failure> {
    let description = image::describe(&*file, format).map_err(of(&path))?;
    Ok(Found { path, format, guessed: false, file, description })
}

/// An error about the image at `path`.
pub(crate) fn of(path: &Path) -> impl Fn(ImageError) -> Failure {
    move |error| Failure::other(format!("{}: {}", path.display(), error.in_full()))
}

fn refused(error: BrokerError) -> Failure {
    let exit = match &error {
        BrokerError::Missing { .. } => Exit::NotFound,
        BrokerError::Locked { .. } => Exit::Conflict,
        BrokerError::Denied { .. } => Exit::Denied,
        _ => Exit::Failed,
    };
    let mut line = error.to_string();
    if let Some(cause) = std::error::Error::source(&error) {
        line = format!("{line}: {cause}");
    }
    Failure::new(exit, line)
}
