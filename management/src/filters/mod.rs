//! [`Filters`]: rules of people's own about what may come through an interface (libvirt's nwfilters).

mod builtin;
mod compile;
mod library;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;
use xml::FilterDef;

use builtin::BUILTIN;
pub(crate) use builtin::checks;
pub use builtin::is_builtin;
use library::Known;
pub(crate) use library::Library;
pub(crate) use tree::{Instance, instance};

use crate::error::{Code, Error};
use crate::store::{Contents, Store, StoredFilter, Vfs};

/// More than anybody looks after.
const MOST: usize = 1000;

/// What is told of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterView {
    pub name: String,
    pub uuid: Uuid,
    /// Manor comes with it: it cannot be changed.
    pub builtin: bool,
    /// libvirt's filter XML.
    pub xml: String,
}

/// A filter as a caller names it: by its name or its UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterName(pub String);

/// Puts a library in force at all interfaces, and then keeps it by what it is given; if that fails, or it
/// cannot be in force, all is as it was.
pub(crate) type Apply<'a> =
    &'a dyn Fn(&Library, &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error>;

/// Names a domain with an interface whose filter is so.
pub(crate) type User<'a> = &'a dyn Fn(&dyn Fn(&str) -> bool) -> Option<String>;

pub(crate) struct Filters {
    store: Store<StoredFilter>,
    library: Mutex<Library>,
    /// Held by the one thread that changes what is stored.
    changing: Mutex<()>,
}

impl Filters {
    /// With what could not be read and what does not work.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
    ) -> (Self, Vec<(String, String)>, Vec<String>) {
        let (store, contents) = Store::open(vfs, dir);
        let Contents { objects, mut quarantined, degraded } = contents;
        let mut known = Vec::with_capacity(objects.len());
        for StoredFilter { uuid, generation, xml, .. } in objects {
            match FilterDef::parse_stored(&xml) {
                Ok(def) => known.push(Known { uuid, generation, def: def.value }),
                // It stays where it is: another version of this program may read it.
                Err(error) => quarantined.push((format!("{uuid}.xml"), error.to_string())),
            }
        }
        let library = Mutex::new(Library::new(known.into_iter()));
        (Self { store, library, changing: Mutex::default() }, quarantined, degraded)
    }

    fn locked(&self) -> MutexGuard<'_, Library> {
        self.library.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As they are now.
    pub(crate) fn library(&self) -> Library {
        self.locked().clone()
    }

    /// All of them by name.
    pub(crate) fn views(&self) -> Vec<FilterView> {
        let library = self.library();
        let own = library.own().map(|known| view(&known.def, known.uuid, false));
        let builtin = BUILTIN.values().map(|def| view(def, def.uuid.unwrap_or_default(), true));
        let mut views: Vec<_> = own.chain(builtin).collect();
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    pub(crate) fn view(&self, filter: &FilterName) -> Result<FilterView, Error> {
        let uuid = Uuid::try_parse(&filter.0).ok();
        let views = self.views();
        let by_uuid = views.iter().find(|view| Some(view.uuid) == uuid);
        let found = by_uuid.or_else(|| views.iter().find(|view| view.name == filter.0));
        found.cloned().ok_or_else(|| {
            let text =
                format!("there is no filter {:?}; nwfilter-list shows those there are", filter.0);
            Error::new(Code::NotFound, text)
        })
    }

    /// Whether a filter can be defined so, and what would be stored.
    fn checked(&self, mut def: FilterDef) -> Result<Known, Error> {
        let name = def.name.to_string();
        let exists = |text: String| Err(Error::new(Code::Exists, text));
        if BUILTIN.contains_key(&*name) {
            let text = format!(
                "filter {name:?} is one that Manor comes with, which stays as it is; choose another name"
            );
            return Err(Error::new(Code::InvalidState, text));
        }
        let views = self.views();
        let of_name = views.iter().find(|view| view.name == name);
        let uuid = def.uuid.or(of_name.map(|view| view.uuid)).unwrap_or_else(Uuid::new_v4);
        if let Some(other) = of_name.filter(|view| view.uuid != uuid) {
            return exists(format!(
                "there is a filter {name:?} already, with UUID {}; give that <uuid> to change it, or choose \
                 another name",
                other.uuid
            ));
        }
        if let Some(other) = views.iter().find(|view| view.uuid == uuid && view.name != name) {
            return exists(format!(
                "UUID {uuid} is that of filter {:?}; leave <uuid> out to define another",
                other.name
            ));
        }
        if of_name.is_none() && self.locked().own().count() >= MOST {
            let text = format!("there are {MOST} filters already; undefine some first");
            return Err(Error::new(Code::InvalidState, text));
        }
        def.uuid = Some(uuid);
        def.fill_defaults();
        let before = self.locked().own().find(|known| known.uuid == uuid).map(|it| it.generation);
        let generation = before.unwrap_or(0).saturating_add(1);
        let known = Known { uuid, generation, def };
        self.library().with(known.clone()).check_cycle(&name)?;
        Ok(known)
    }

    /// Whether [`Self::define`] would take it.
    pub(crate) fn may_define(&self, def: FilterDef) -> Result<(), Error> {
        self.checked(def).map(drop)
    }

    /// Blocks. A definition replaces the one of the same name, also where it is in force.
    pub(crate) fn define(&self, def: FilterDef, apply: Apply<'_>) -> Result<FilterView, Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.checked(def)?;
        let view = view(&known.def, known.uuid, false);
        let stored = StoredFilter {
            uuid: known.uuid,
            name: view.name.clone(),
            generation: known.generation,
            xml: view.xml.clone(),
        };
        let library = self.library().with(known);
        apply(&library, &mut || {
            self.store.put(&stored)?;
            *self.locked() = library.clone();
            Ok(())
        })?;
        Ok(view)
    }

    /// Blocks.
    pub(crate) fn undefine(
        &self,
        filter: &FilterName,
        user: User<'_>,
        apply: Apply<'_>,
    ) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view(filter)?;
        let name = view.name;
        let refused = |text: String| Err(Error::new(Code::InvalidState, text));
        if view.builtin {
            return refused(format!("filter {name:?} is one that Manor comes with, and stays"));
        }
        let library = self.library();
        if let Some(user) = user(&|named| library.leads_to(named, &name)) {
            return refused(format!(
                "nwfilter is in use: an interface of domain {user:?} has filter {name:?}; remove it from there \
                 first"
            ));
        }
        let library = library.without(&name);
        apply(&library, &mut || {
            self.store.remove(view.uuid)?;
            *self.locked() = library.clone();
            Ok(())
        })
    }
}

fn view(def: &FilterDef, uuid: Uuid, builtin: bool) -> FilterView {
    FilterView { name: def.name.to_string(), uuid, builtin, xml: def.to_xml() }
}
