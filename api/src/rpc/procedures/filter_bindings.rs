//! Filters as they are bound to interfaces of running guests.

use management::ops::{DescribeFilterBinding, ListFilterBindings};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::FilterBinding;
use super::{Client, listed};

const AREA: Area = Area::FilterBinding;

impl From<management::ops::FilterBinding> for FilterBinding {
    fn from(binding: management::ops::FilterBinding) -> Self {
        Self { device: binding.device, filter: binding.filter }
    }
}

pub(crate) async fn list(
    client: Client,
    (wanted, flags): (i32, u32),
) -> Result<(Vec<FilterBinding>, u32), Failure> {
    known_flags(flags, 0, "virConnectListAllNWFilterBindings")?;
    let all = client.ask(AREA, ListFilterBindings).await?;
    Ok(listed(all.into_iter().map(Into::into).collect(), wanted))
}

pub(crate) async fn by_device(client: Client, device: String) -> Result<FilterBinding, Failure> {
    Ok(client.ask(AREA, DescribeFilterBinding { device }).await?.into())
}

pub(crate) async fn xml(
    client: Client,
    (binding, flags): (FilterBinding, u32),
) -> Result<String, Failure> {
    known_flags(flags, 0, "virNWFilterBindingGetXMLDesc")?;
    Ok(client.ask(AREA, DescribeFilterBinding { device: binding.device }).await?.xml)
}
