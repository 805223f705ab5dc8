//! Filters of interfaces.

use management::filters::{FilterName, FilterView};
use management::ops::{DefineFilter, DescribeFilter, ListFilters, UndefineFilter};
use uuid::Uuid;

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object;
use super::{Client, count, listed, names};

async fn filters(client: &Client) -> Result<Vec<FilterView>, Failure> {
    client.ask(Area::Filter, ListFilters).await
}

async fn filter(client: &Client, named: String) -> Result<FilterView, Failure> {
    client.ask(Area::Filter, DescribeFilter { filter: FilterName(named) }).await
}

impl From<FilterView> for object::Filter {
    fn from(filter: FilterView) -> Self {
        Self { name: filter.name, uuid: filter.uuid }
    }
}

pub(crate) async fn number(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(filters(&client).await?.len()))
}

pub(crate) async fn list_names(client: Client, room: i32) -> Result<Vec<String>, Failure> {
    let all = filters(&client).await?;
    Ok(names(all.into_iter().map(|filter| filter.name), room))
}

pub(crate) async fn list_all(
    client: Client,
    (wanted, flags): (i32, u32),
) -> Result<(Vec<object::Filter>, u32), Failure> {
    known_flags(flags, 0, "virConnectListAllNWFilters")?;
    let all = filters(&client).await?;
    Ok(listed(all.into_iter().map(Into::into).collect(), wanted))
}

pub(crate) async fn by_name(client: Client, name: String) -> Result<object::Filter, Failure> {
    let found = filters(&client).await?.into_iter().find(|filter| filter.name == name);
    let missing = || Failure::not_found(Area::Filter, &format!("there is no filter {name:?}"));
    found.map(Into::into).ok_or_else(missing)
}

pub(crate) async fn by_uuid(client: Client, uuid: Uuid) -> Result<object::Filter, Failure> {
    Ok(filter(&client, uuid.to_string()).await?.into())
}

pub(crate) async fn xml(
    client: Client,
    (named, flags): (object::Filter, u32),
) -> Result<String, Failure> {
    known_flags(flags, 0, "virNWFilterGetXMLDesc")?;
    Ok(filter(&client, named.uuid.to_string()).await?.xml)
}

pub(crate) async fn define(client: Client, xml: String) -> Result<object::Filter, Failure> {
    define_flags(client, (xml, 0)).await
}

/// A definition is held against all that is known of its form in any case.
pub(crate) async fn define_flags(
    client: Client,
    (xml, flags): (String, u32),
) -> Result<object::Filter, Failure> {
    const VALIDATE: u32 = 1;
    known_flags(flags, VALIDATE, "virNWFilterDefineXMLFlags")?;
    Ok(client.ask(Area::Filter, DefineFilter { xml }).await?.into())
}

pub(crate) async fn undefine(client: Client, named: object::Filter) -> Result<(), Failure> {
    let filter = FilterName(named.uuid.to_string());
    client.ask(Area::Filter, UndefineFilter { filter }).await
}
