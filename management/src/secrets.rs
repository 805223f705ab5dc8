//! [`Secrets`]: passwords and keys that definitions name and do not hold (libvirt's secrets).

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;
use xml::SecretDef;

pub use xml::secret::SecretUsageType;

use crate::error::{Code, Error};
use crate::events::{EventKind, SecretChange};
use crate::journal::Journal;
use crate::store::{Contents, Store, StoredSecret, Vfs};

/// More than anybody looks after.
const MOST: usize = 1000;
/// libvirt's bound.
const LONGEST_VALUE: usize = 65536;

/// What is told of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretView {
    pub uuid: Uuid,
    pub usage: Option<SecretUsageType>,
    pub usage_id: String,
    pub ephemeral: bool,
    pub private: bool,
}

/// A secret as a caller names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    Uuid(Uuid),
    Usage(SecretUsageType, String),
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uuid(uuid) => write!(f, "{uuid}"),
            Self::Usage(kind, id) => write!(f, "{kind}:{id}"),
        }
    }
}

struct Known {
    def: SecretDef,
    uuid: Uuid,
    generation: u64,
    value: Option<Vec<u8>>,
}

impl Known {
    fn view(&self) -> SecretView {
        let usage = self.def.usage.as_ref();
        SecretView {
            uuid: self.uuid,
            usage: usage.map(|usage| usage.kind),
            usage_id: usage.map(|usage| usage.id().to_owned()).unwrap_or_default(),
            ephemeral: self.def.is_ephemeral(),
            private: self.def.is_private(),
        }
    }

    /// No two secrets have the same.
    fn name(&self) -> String {
        let view = self.view();
        match view.usage {
            Some(kind) => SecretRef::Usage(kind, view.usage_id).to_string(),
            None => self.uuid.to_string(),
        }
    }

    fn stored(&self) -> StoredSecret {
        StoredSecret {
            uuid: self.uuid,
            name: self.name(),
            generation: self.generation,
            value: self.value.as_ref().map(|value| STANDARD.encode(value)),
            xml: self.def.to_xml(),
        }
    }

    fn from_stored(stored: StoredSecret) -> Option<Self> {
        let StoredSecret { uuid, generation, value, xml, .. } = stored;
        let def = SecretDef::parse_stored(&xml).ok()?.value;
        let value = value.and_then(|value| STANDARD.decode(value).ok());
        Some(Self { def, uuid, generation, value })
    }
}

pub(crate) struct Secrets {
    store: Store<StoredSecret>,
    table: Mutex<HashMap<Uuid, Known>>,
    /// Held by the one thread that changes what is stored.
    changing: Mutex<()>,
    journal: Arc<Journal>,
}

impl Secrets {
    /// With what could not be read and what does not work.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        journal: Arc<Journal>,
    ) -> (Self, Vec<(String, String)>, Vec<String>) {
        let (store, contents) = Store::open(vfs, dir);
        let Contents { objects, quarantined, degraded } = contents;
        let known = objects.into_iter().filter_map(Known::from_stored);
        let table = Mutex::new(known.map(|known| (known.uuid, known)).collect());
        (Self { store, table, changing: Mutex::default(), journal }, quarantined, degraded)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them by UUID.
    pub(crate) fn views(&self) -> Vec<SecretView> {
        let mut views: Vec<_> = self.table().values().map(Known::view).collect();
        views.sort_by_key(|view| view.uuid);
        views
    }

    fn with<T>(
        &self,
        secret: &SecretRef,
        look: impl FnOnce(&Known) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let table = self.table();
        let found = match secret {
            SecretRef::Uuid(uuid) => table.get(uuid),
            SecretRef::Usage(kind, id) => table.values().find(|known| {
                let usage = known.def.usage.as_ref();
                usage.is_some_and(|usage| usage.kind == *kind && usage.id() == id)
            }),
        };
        let missing = || Error::new(Code::NotFound, format!("there is no secret {secret}"));
        look(found.ok_or_else(missing)?)
    }

    pub(crate) fn view(&self, secret: &SecretRef) -> Result<SecretView, Error> {
        self.with(secret, |known| Ok(known.view()))
    }

    /// Its definition, which never holds the secret itself.
    pub(crate) fn xml(&self, secret: &SecretRef) -> Result<String, Error> {
        self.with(secret, |known| Ok(known.def.to_xml()))
    }

    pub(crate) fn value(&self, secret: &SecretRef) -> Result<Vec<u8>, Error> {
        self.with(secret, |known| {
            if known.def.is_private() {
                let text = format!("secret {} is private: it is told to nobody", known.uuid);
                return Err(Error::new(Code::Denied, text));
            }
            known.value.clone().ok_or_else(|| {
                let text = format!("secret {} has no value yet", known.uuid);
                Error::new(Code::NotFound, text)
            })
        })
    }

    pub(crate) fn has_value(&self, secret: &SecretRef) -> bool {
        self.with(secret, |known| Ok(known.value.is_some())).unwrap_or(false)
    }

    /// Blocks. A definition replaces the one of the same UUID or usage, and leaves its value.
    pub(crate) fn define(&self, mut def: SecretDef) -> Result<SecretView, Error> {
        use xml::YesNo;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        def.ephemeral.get_or_insert(YesNo::No);
        def.private.get_or_insert(YesNo::No);
        let usage = def.usage.as_ref().map(|usage| SecretRef::Usage(usage.kind, usage.id().into()));
        let of_usage = usage.and_then(|usage| self.view(&usage).ok()).map(|view| view.uuid);
        let uuid = def.uuid.or(of_usage).unwrap_or_else(Uuid::new_v4);
        if let Some(other) = of_usage.filter(|other| *other != uuid) {
            let text = format!("secret {other} is for the same use already; undefine it first");
            return Err(Error::new(Code::Exists, text));
        }
        def.uuid = Some(uuid);
        let (value, generation) = {
            let table = self.table();
            let before = table.get(&uuid);
            if before.is_none() && table.len() >= MOST {
                let text = format!("there are {MOST} secrets already; undefine some first");
                return Err(Error::new(Code::InvalidState, text));
            }
            if let Some(before) = before {
                // What was told as a secret of this process alone, or to be told to nobody, stays that.
                let looser = (before.def.is_ephemeral() && !def.is_ephemeral())
                    || (before.def.is_private() && !def.is_private());
                if looser {
                    let text = format!(
                        "secret {uuid} stays ephemeral or private as it is; undefine it first"
                    );
                    return Err(Error::new(Code::InvalidState, text));
                }
            }
            before.map_or((None, 0), |before| (before.value.clone(), before.generation))
        };
        let known = Known { def, uuid, generation: generation + 1, value };
        self.keep(known, SecretChange::Defined)
    }

    /// Blocks.
    pub(crate) fn set_value(&self, secret: &SecretRef, value: Vec<u8>) -> Result<(), Error> {
        if value.len() > LONGEST_VALUE {
            let text = format!("a secret has at most {LONGEST_VALUE} bytes");
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.with(secret, |known| {
            let Known { def, uuid, generation, .. } = known;
            let (def, value) = (def.clone(), Some(value));
            Ok(Known { def, uuid: *uuid, generation: generation + 1, value })
        })?;
        self.keep(known, SecretChange::ValueChanged).map(drop)
    }

    /// To the disk, unless it is not to go there; then it is known.
    fn keep(&self, known: Known, change: SecretChange) -> Result<SecretView, Error> {
        if !known.def.is_ephemeral() {
            self.store.put(&known.stored())?;
        } else if self.is_stored(known.uuid) {
            self.store.remove(known.uuid)?;
        }
        let view = known.view();
        self.table().insert(known.uuid, known);
        self.tell(&view, change);
        Ok(view)
    }

    /// Blocks.
    pub(crate) fn undefine(&self, secret: &SecretRef) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view(secret)?;
        if !view.ephemeral {
            self.store.remove(view.uuid)?;
        }
        self.table().remove(&view.uuid);
        self.tell(&view, SecretChange::Undefined);
        Ok(())
    }

    fn is_stored(&self, uuid: Uuid) -> bool {
        self.table().get(&uuid).is_some_and(|known| !known.def.is_ephemeral())
    }

    fn tell(&self, view: &SecretView, change: SecretChange) {
        let kind = EventKind::Secret {
            secret: view.uuid,
            usage: view.usage.map(|usage| usage.name().to_owned()),
            usage_id: view.usage_id.clone(),
            change,
        };
        self.journal.publish(None, kind, None);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::Disk;

    const UUID: Uuid = Uuid::from_u128(7);

    fn open(dir: &Path) -> Secrets {
        let journal = Journal::open(dir, false);
        let (secrets, quarantined, degraded) = Secrets::open(Arc::new(Disk), dir, journal);
        assert!(quarantined.is_empty() && degraded.is_empty(), "{quarantined:?} {degraded:?}");
        secrets
    }

    fn def(attributes: &str, usage: &str) -> SecretDef {
        let text = format!("<secret {attributes}><uuid>{UUID}</uuid>{usage}</secret>");
        SecretDef::parse(&text).unwrap().value
    }

    const USAGE: &str = "<usage type='ceph'><name>pool</name></usage>";

    #[test]
    fn a_secret_is_kept_for_its_owner_alone_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = open(dir.path());
        secrets.define(def("", USAGE)).unwrap();
        let by_usage = SecretRef::Usage(SecretUsageType::Ceph, "pool".to_owned());
        assert_eq!(secrets.value(&by_usage).unwrap_err().code, Code::NotFound);
        secrets.set_value(&by_usage, b"s\0cret".to_vec()).unwrap();
        for entry in std::fs::read_dir(dir.path().join("secrets")).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
        let secrets = open(dir.path());
        assert_eq!(secrets.value(&by_usage).unwrap(), b"s\0cret");
        assert!(!secrets.xml(&by_usage).unwrap().contains("cret'"));
        // Another definition leaves the value.
        secrets.define(def("", "<description>x</description>")).unwrap();
        assert_eq!(secrets.value(&SecretRef::Uuid(UUID)).unwrap(), b"s\0cret");
        secrets.undefine(&SecretRef::Uuid(UUID)).unwrap();
        assert!(open(dir.path()).views().is_empty());
    }

    #[test]
    fn a_private_one_is_told_to_nobody_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = open(dir.path());
        secrets.define(def("private='yes'", "")).unwrap();
        secrets.set_value(&SecretRef::Uuid(UUID), b"x".to_vec()).unwrap();
        assert_eq!(secrets.value(&SecretRef::Uuid(UUID)).unwrap_err().code, Code::Denied);
        assert_eq!(secrets.define(def("", "")).unwrap_err().code, Code::InvalidState);
    }

    #[test]
    fn an_ephemeral_one_never_reaches_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = open(dir.path());
        secrets.define(def("ephemeral='yes'", "")).unwrap();
        secrets.set_value(&SecretRef::Uuid(UUID), b"x".to_vec()).unwrap();
        assert_eq!(secrets.value(&SecretRef::Uuid(UUID)).unwrap(), b"x");
        assert!(open(dir.path()).views().is_empty());
    }

    #[test]
    fn two_secrets_are_not_for_the_same_use() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = open(dir.path());
        secrets.define(def("", USAGE)).unwrap();
        let other = SecretDef { uuid: Some(Uuid::from_u128(8)), ..def("", USAGE) };
        assert_eq!(secrets.define(other).unwrap_err().code, Code::Exists);
        let unnamed = SecretDef { uuid: None, ..def("", USAGE) };
        assert_eq!(secrets.define(unnamed).unwrap().uuid, UUID);
    }
}
