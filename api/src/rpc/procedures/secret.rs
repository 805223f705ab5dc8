//! Secrets.

use management::ops::{
    DefineSecret, DescribeSecret, DumpSecretXml, GetSecretValue, ListSecrets, SetSecretValue,
    UndefineSecret,
};
use management::secrets::{SecretRef, SecretUsageType, SecretView};
use uuid::Uuid;

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Secret;
use super::super::protocol::xdr::Opaque;
use super::{Client, count, either, listed, names};

/// virSecretUsageType.
const USAGES: &[(i32, SecretUsageType)] = &[
    (1, SecretUsageType::Volume),
    (2, SecretUsageType::Ceph),
    (3, SecretUsageType::Iscsi),
    (4, SecretUsageType::Tls),
    (5, SecretUsageType::Vtpm),
];

pub(in crate::rpc) fn usage_number(usage: Option<&str>) -> i32 {
    let known = USAGES.iter().find(|(_, kind)| Some(kind.name()) == usage);
    known.map_or(0, |(number, _)| *number)
}

impl From<SecretView> for Secret {
    fn from(view: SecretView) -> Self {
        let usage_type = usage_number(view.usage.map(SecretUsageType::name));
        Self { uuid: view.uuid, usage_type, usage_id: view.usage_id }
    }
}

impl Secret {
    fn reference(&self) -> SecretRef {
        SecretRef::Uuid(self.uuid)
    }
}

pub(crate) async fn number(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(client.ask(Area::Secret, ListSecrets).await?.len()))
}

pub(crate) async fn uuids(client: Client, room: i32) -> Result<Vec<String>, Failure> {
    let all = client.ask(Area::Secret, ListSecrets).await?;
    Ok(names(all.into_iter().map(|view| view.uuid.to_string()), room))
}

pub(crate) async fn list_all(
    client: Client,
    (wanted, flags): (i32, u32),
) -> Result<(Vec<Secret>, u32), Failure> {
    const EPHEMERAL: u32 = 1;
    const NO_EPHEMERAL: u32 = 2;
    const PRIVATE: u32 = 4;
    const NO_PRIVATE: u32 = 8;
    known_flags(flags, 15, "virConnectListAllSecrets")?;
    let all = client.ask(Area::Secret, ListSecrets).await?;
    let is_wanted = |view: &SecretView| {
        either(flags, EPHEMERAL, NO_EPHEMERAL, view.ephemeral)
            && either(flags, PRIVATE, NO_PRIVATE, view.private)
    };
    Ok(listed(all.into_iter().filter(is_wanted).map(Secret::from).collect(), wanted))
}

pub(crate) async fn by_uuid(client: Client, uuid: Uuid) -> Result<Secret, Failure> {
    let describe = DescribeSecret { secret: SecretRef::Uuid(uuid) };
    Ok(client.ask(Area::Secret, describe).await?.into())
}

pub(crate) async fn by_usage(
    client: Client,
    (usage, id): (i32, String),
) -> Result<Secret, Failure> {
    let Some((_, kind)) = USAGES.iter().find(|(number, _)| *number == usage) else {
        let text = format!("there are no secrets of usage {usage}");
        return Err(Failure::invalid_argument(Area::Secret, &text));
    };
    let describe = DescribeSecret { secret: SecretRef::Usage(*kind, id) };
    Ok(client.ask(Area::Secret, describe).await?.into())
}

pub(crate) async fn define(client: Client, (xml, flags): (String, u32)) -> Result<Secret, Failure> {
    known_flags(flags, 0, "virSecretDefineXML")?;
    Ok(client.ask(Area::Secret, DefineSecret { xml }).await?.into())
}

pub(crate) async fn xml(client: Client, (secret, flags): (Secret, u32)) -> Result<String, Failure> {
    known_flags(flags, 0, "virSecretGetXMLDesc")?;
    client.ask(Area::Secret, DumpSecretXml { secret: secret.reference() }).await
}

pub(crate) async fn set_value(
    client: Client,
    (secret, value, flags): (Secret, Opaque, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virSecretSetValue")?;
    let set = SetSecretValue { secret: secret.reference(), value: value.0 };
    client.ask(Area::Secret, set).await
}

pub(crate) async fn value(
    client: Client,
    (secret, flags): (Secret, u32),
) -> Result<Opaque, Failure> {
    known_flags(flags, 0, "virSecretGetValue")?;
    let get = GetSecretValue { secret: secret.reference() };
    Ok(Opaque(client.ask(Area::Secret, get).await?))
}

pub(crate) async fn undefine(client: Client, secret: Secret) -> Result<(), Failure> {
    client.ask(Area::Secret, UndefineSecret { secret: secret.reference() }).await
}
