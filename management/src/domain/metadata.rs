//! What people and programs note about a domain: its title, its description, and elements of their own.

use xml::DomainDef;
use xml::domain::Metadata;

use super::actor::Actor;
use super::link::Affects;
use crate::error::{Code, Error};
use crate::events::{EventKind, Lifecycle, MetadataKind};

/// A title is one line of lists.
const LONGEST_TITLE: usize = 4 << 10;
const LONGEST_DESCRIPTION: usize = 256 << 10;

/// What a change does not speak of stays; an empty title or description is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataChange {
    pub title: Option<String>,
    pub description: Option<String>,
    pub element: Option<ElementChange>,
}

/// The element of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementChange {
    pub uri: String,
    /// None: there shall be none.
    pub new: Option<NewElement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewElement {
    /// The prefix that stands for the namespace.
    pub key: String,
    pub xml: String,
}

/// The same, as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataView {
    pub title: Option<String>,
    pub description: Option<String>,
    /// Of the namespace that was asked for, without it.
    pub element: Option<String>,
}

impl MetadataView {
    pub(crate) fn of(def: &DomainDef, uri: Option<&str>) -> Self {
        let metadata = def.metadata.as_ref();
        Self {
            title: def.title.clone(),
            description: def.description.clone(),
            element: metadata.and_then(|metadata| metadata.element(uri?)),
        }
    }
}

impl MetadataChange {
    fn apply(&self, def: &mut DomainDef) -> Result<(), Error> {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        if let Some(title) = &self.title {
            if title.contains('\n') || title.len() > LONGEST_TITLE {
                let text = format!("a title is one line of up to {LONGEST_TITLE} bytes");
                return Err(Error::new(Code::InvalidArgument, text));
            }
            def.title = some(title);
        }
        if let Some(description) = &self.description {
            if description.len() > LONGEST_DESCRIPTION {
                let text = format!("a description has up to {LONGEST_DESCRIPTION} bytes");
                return Err(Error::new(Code::InvalidArgument, text));
            }
            def.description = some(description);
        }
        match &self.element {
            None => Ok(()),
            Some(change) => change.apply(&mut def.metadata),
        }
    }

    fn events(&self) -> Vec<EventKind> {
        let of = |kind, uri| EventKind::MetadataChange { kind, uri };
        let description = self.description.as_ref().map(|_| of(MetadataKind::Description, None));
        let title = self.title.as_ref().map(|_| of(MetadataKind::Title, None));
        let element = self.element.as_ref();
        let element = element.map(|change| of(MetadataKind::Element, Some(change.uri.clone())));
        [description, title, element].into_iter().flatten().collect()
    }
}

impl ElementChange {
    fn apply(&self, metadata: &mut Option<Metadata>) -> Result<(), Error> {
        if self.uri.is_empty() {
            let text = "an element of <metadata> has a namespace, and that a URI";
            return Err(Error::new(Code::InvalidArgument, text));
        }
        *metadata = match &self.new {
            None => metadata.take().and_then(|old| old.without_element(&self.uri)),
            Some(NewElement { key, xml }) => {
                let new = Metadata::with_element(metadata.as_ref(), &self.uri, key, xml);
                let refused = |error| {
                    let text = "the element cannot be kept in <metadata>";
                    Error::new(Code::InvalidArgument, text).with_source(error)
                };
                Some(new.map_err(refused)?)
            }
        };
        Ok(())
    }
}

impl Actor {
    pub(super) async fn change_metadata(
        &mut self,
        change: MetadataChange,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        // All is found good before anything is changed.
        if live {
            change.apply(&mut self.running()?.live.def.clone())?;
        }
        let stored = if config { self.stored_changed(|def| change.apply(def))? } else { None };
        if live {
            self.change_live(|def| {
                // What it was started from may have other elements, which cannot matter.
                let mut new = def.clone();
                if change.apply(&mut new).is_ok() {
                    *def = new;
                }
            })
            .await;
        }
        if let Some((stored, def)) = stored {
            self.put(stored, def).await?;
            self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        }
        for event in change.events() {
            self.announce(event, None);
        }
        Ok(())
    }
}
