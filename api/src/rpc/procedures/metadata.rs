//! What people and programs note about a domain.

use management::domain::{ElementChange, MetadataChange, NewElement};
use management::ops::{GetMetadata, SetMetadata};

use super::super::failure::{Area, Failure};
use super::super::protocol::object::Domain;
use super::{Client, affects};

/// virDomainMetadataType.
const DESCRIPTION: i32 = 0;
const TITLE: i32 = 1;
const ELEMENT: i32 = 2;

fn unknown(kind: i32) -> Failure {
    Failure::invalid_argument(Area::Domain, &format!("there is no metadata of type {kind}"))
}

fn namespace(uri: Option<String>) -> Result<String, Failure> {
    uri.ok_or_else(|| Failure::invalid_argument(Area::Domain, "an element has a namespace URI"))
}

pub(crate) async fn get(
    client: Client,
    (domain, kind, uri, flags): (Domain, i32, Option<String>, u32),
) -> Result<String, Failure> {
    let affects = affects(flags, 0, "virDomainGetMetadata")?;
    let uri = if kind == ELEMENT { Some(namespace(uri)?) } else { None };
    let found = client.domain(GetMetadata { domain: domain.reference(), uri, affects }).await?;
    let found = match kind {
        DESCRIPTION => found.description,
        TITLE => found.title,
        ELEMENT => found.element,
        other => return Err(unknown(other)),
    };
    found.ok_or_else(|| Failure::no_metadata("Requested metadata element is not present"))
}

/// What is to be written, the prefix of its namespace, and the namespace.
type New = (Option<String>, Option<String>, Option<String>);

pub(crate) async fn set(
    client: Client,
    (domain, kind, new, flags): (Domain, i32, New, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainSetMetadata")?;
    let (text, key, uri) = new;
    let mut change = MetadataChange::default();
    match kind {
        DESCRIPTION => change.description = Some(text.unwrap_or_default()),
        TITLE => change.title = Some(text.unwrap_or_default()),
        ELEMENT => {
            let new = text.map(|xml| NewElement { key: key.unwrap_or_default(), xml });
            change.element = Some(ElementChange { uri: namespace(uri)?, new });
        }
        other => return Err(unknown(other)),
    }
    client.domain(SetMetadata { domain: domain.reference(), change, affects }).await
}
