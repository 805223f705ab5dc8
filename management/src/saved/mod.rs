//! Files of saved guests, as management sees them: which guest it is, and what it was saved with.
//! How such a file is laid out is said in [`vmm_protocol::saved`].

mod images;

use std::fs::File;
use std::path::{Path, PathBuf};

use broker::{Broker, BrokerError, SavedAct};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vmm_protocol::saved::{self, Body, SavedError};
use xml::DomainDef;

pub(crate) use images::{Mark, marks};

use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::translate;

/// What management writes into a saved guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub version: u16,
    /// Of this save, among all.
    pub token: Uuid,
    pub uuid: Uuid,
    pub name: String,
    pub platform: u16,
    pub saved: jiff::Timestamp,
    /// It is to run when it goes on.
    pub running: bool,
    /// The definition it ran with, its devices by the names they had.
    pub xml: String,
    /// What its disks were like: they must not have changed when it goes on.
    #[serde(default)]
    pub images: Vec<Mark>,
    /// It was saved because its host went down, and goes on by itself when that is back.
    #[serde(default)]
    pub with_host: bool,
}

impl Description {
    pub(crate) const VERSION: u16 = 1;

    pub(crate) fn def(&self) -> Result<DomainDef, Error> {
        translate::stored(&self.xml)
    }

    pub(crate) fn write(&self, file: &File, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string(self).map_err(|error| {
            Error::new(Code::Internal, "a saved guest cannot be described").with_source(error)
        })?;
        saved::write_description(file, &text).map_err(|error| about(path, error))
    }

    fn read(file: &File, path: &Path) -> Result<Self, Error> {
        let text = saved::description(file).map_err(|error| about(path, error))?;
        let description: Self = serde_json::from_str(&text).map_err(|error| {
            let text = format!("{}: its description cannot be read", path.display());
            Error::new(Code::Unsupported, text).with_source(error)
        })?;
        if description.version != Self::VERSION {
            let text = format!(
                "{} was written by another version of Manor: its description is of version {}, and \
                 {} is known here",
                path.display(),
                description.version,
                Self::VERSION
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        Ok(description)
    }
}

/// A saved guest whose headers, description and machine state are whole.
#[derive(Debug)]
pub(crate) struct Saved {
    pub path: PathBuf,
    pub file: File,
    pub description: Description,
}

impl Saved {
    pub(crate) fn open(broker: &dyn Broker, path: &Path) -> Result<Self, Error> {
        let file = File::from(broker.saved_file(SavedAct::Open { path: path.to_owned() })?);
        let description = Description::read(&file, path)?;
        let check = || {
            let body = Body::read(&file)?;
            body.sections(&file)?;
            body.check_table(&file)
        };
        check().map_err(|error| about(path, error))?;
        Ok(Self { path: path.to_owned(), file, description })
    }

    /// Whether a guest was saved there that goes on with its host. What cannot be read says nothing.
    pub(crate) fn goes_on_with_host(broker: &dyn Broker, path: &Path) -> bool {
        let file = broker.saved_file(SavedAct::Open { path: path.to_owned() }).map(File::from);
        file.is_ok_and(|file| Description::read(&file, path).is_ok_and(|it| it.with_host))
    }

    /// Read all of its memory, and compare the checksums.
    pub(crate) fn check(&self, progress: &Progress) -> Result<(), Error> {
        let checked = saved::check_ram(&self.file, |done, total| {
            progress.set_total(total);
            progress.at(done)
        });
        checked.map_err(|error| about(&self.path, error))
    }

    /// Replace its description.
    pub(crate) fn rewrite(&mut self, description: Description) -> Result<(), Error> {
        description.write(&self.file, &self.path)?;
        self.description = description;
        Ok(())
    }
}

/// An error of a saved guest with the name of its file.
pub(crate) fn about(path: &Path, error: SavedError) -> Error {
    let code = match &error {
        SavedError::Write(source) if source.kind() == std::io::ErrorKind::StorageFull => {
            Code::NoSpace
        }
        SavedError::Write(_) | SavedError::Read(_) => Code::HostFailure,
        SavedError::NotOne | SavedError::Damaged { .. } | SavedError::Description { .. } => {
            Code::InvalidArgument
        }
        SavedError::Version { .. } | SavedError::Architecture => Code::Unsupported,
    };
    let text = format!("{}: {error}", path.display());
    match error {
        SavedError::Write(source) | SavedError::Read(source) => {
            Error::new(code, text).with_source(source)
        }
        _ => Error::new(code, text),
    }
}

/// Where a file is while it is being written: beside its name, so that it can be given that.
pub(crate) fn beside(path: &Path, token: Uuid) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!(".{name}.{token}.partial"))
}

/// A save may only replace what is itself a saved guest.
pub(crate) fn check_target(broker: &dyn Broker, path: &Path) -> Result<(), Error> {
    if !path.is_absolute() || path.file_name().is_none() {
        let text = format!("{} is no absolute path of a file", path.display());
        return Err(Error::new(Code::InvalidArgument, text));
    }
    // By the broker: what is in a directory that is closed to the daemon is lost as any other.
    match broker.saved_file(SavedAct::Open { path: path.to_owned() }).map(File::from) {
        Err(BrokerError::Missing { .. }) => return Ok(()),
        Err(BrokerError::WrongKind { .. }) => {}
        Err(error) => return Err(error.into()),
        Ok(file) => {
            let is_empty = file.metadata().is_ok_and(|found| found.len() == 0);
            if is_empty || saved::is_complete(&file) {
                return Ok(());
            }
        }
    }
    let text = format!(
        "{} is there and is no saved guest; name another file, or remove it",
        path.display()
    );
    Err(Error::new(Code::Exists, text))
}
