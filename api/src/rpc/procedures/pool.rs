//! Storage pools.

use std::path::Path;

use management::ops::{
    ChangePool, CreatePool, DefinePool, DescribePool, DumpPoolXml, FindPoolSources,
    GetPoolCapabilities, ListPools, ListVolumes, PoolAction,
};
use management::storage::{PoolRef, PoolView};
use uuid::Uuid;

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::{Pool, Volume};
use super::{Client, LIST_FLAGS, count, is_wanted, listed, names};

const AREA: Area = Area::Pool;
const WITH_BUILD: u32 = 1;
/// Nothing is overwritten: what is built is a directory.
const OVERWRITE: u32 = 2;
const NO_OVERWRITE: u32 = 4;

async fn all(client: &Client) -> Result<Vec<PoolView>, Failure> {
    client.ask(AREA, ListPools).await
}

/// The kinds of pools that a list is confined to; 0: it is not.
const KINDS: [(&str, u32); 6] =
    [("dir", 64), ("fs", 128), ("netfs", 256), ("logical", 512), ("disk", 1024), ("iscsi", 2048)];
const ALL_KINDS: u32 = 0x000f_ffc0;

pub(crate) async fn list_all(
    client: Client,
    (wanted, flags): (i32, u32),
) -> Result<(Vec<Pool>, u32), Failure> {
    known_flags(flags, LIST_FLAGS | ALL_KINDS, "virConnectListAllStoragePools")?;
    let kinds = flags & ALL_KINDS;
    let mut all = all(&client).await?;
    all.retain(|pool| {
        is_wanted(flags, pool.active, pool.persistent, pool.autostart)
            && (kinds == 0
                || KINDS.iter().any(|(name, bit)| *name == pool.kind && kinds & bit != 0))
    });
    Ok(listed(all.iter().map(Pool::from).collect(), wanted))
}

pub(crate) async fn active_count(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(all(&client).await?.iter().filter(|pool| pool.active).count()))
}

pub(crate) async fn inactive_count(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(all(&client).await?.iter().filter(|pool| !pool.active).count()))
}

pub(crate) async fn active_names(client: Client, room: i32) -> Result<Vec<String>, Failure> {
    let all = all(&client).await?.into_iter().filter(|pool| pool.active);
    Ok(names(all.map(|pool| pool.name), room))
}

pub(crate) async fn inactive_names(client: Client, room: i32) -> Result<Vec<String>, Failure> {
    let all = all(&client).await?.into_iter().filter(|pool| !pool.active);
    Ok(names(all.map(|pool| pool.name), room))
}

async fn view(client: &Client, pool: PoolRef) -> Result<PoolView, Failure> {
    client.ask(AREA, DescribePool { pool }).await
}

pub(crate) async fn by_name(client: Client, name: String) -> Result<Pool, Failure> {
    Ok(Pool::from(&view(&client, name.as_str().into()).await?))
}

pub(crate) async fn by_uuid(client: Client, uuid: Uuid) -> Result<Pool, Failure> {
    Ok(Pool::from(&view(&client, uuid.into()).await?))
}

pub(crate) async fn by_target_path(client: Client, path: String) -> Result<Pool, Failure> {
    let found = all(&client).await?.into_iter().find(|pool| pool.path == Path::new(&path));
    let missing = || {
        let text = format!("no storage pool lies at {path:?}");
        client.failure(AREA, &management::Error::new(management::Code::NotFound, text))
    };
    found.as_ref().map(Pool::from).ok_or_else(missing)
}

pub(crate) async fn by_volume(client: Client, volume: Volume) -> Result<Pool, Failure> {
    Ok(Pool::from(&view(&client, volume.pool.as_str().into()).await?))
}

pub(crate) async fn define(client: Client, (xml, flags): (String, u32)) -> Result<Pool, Failure> {
    const VALIDATE: u32 = 1;
    known_flags(flags, VALIDATE, "virStoragePoolDefineXML")?;
    Ok(Pool::from(&client.ask(AREA, DefinePool { xml }).await?))
}

pub(crate) async fn create_xml(
    client: Client,
    (xml, flags): (String, u32),
) -> Result<Pool, Failure> {
    const VALIDATE: u32 = 8;
    let known = WITH_BUILD | OVERWRITE | NO_OVERWRITE | VALIDATE;
    known_flags(flags, known, "virStoragePoolCreateXML")?;
    let create = CreatePool { xml, build: flags & WITH_BUILD != 0 };
    Ok(Pool::from(&client.ask(AREA, create).await?))
}

async fn change(client: &Client, pool: &Pool, action: PoolAction) -> Result<(), Failure> {
    client.ask(AREA, ChangePool { pool: pool.reference(), action }).await
}

pub(crate) async fn create(client: Client, (pool, flags): (Pool, u32)) -> Result<(), Failure> {
    known_flags(flags, WITH_BUILD | OVERWRITE | NO_OVERWRITE, "virStoragePoolCreate")?;
    change(&client, &pool, PoolAction::Start { build: flags & WITH_BUILD != 0 }).await
}

pub(crate) async fn build(client: Client, (pool, flags): (Pool, u32)) -> Result<(), Failure> {
    const BUILD_NO_OVERWRITE: u32 = 4;
    const BUILD_OVERWRITE: u32 = 8;
    known_flags(flags, BUILD_NO_OVERWRITE | BUILD_OVERWRITE, "virStoragePoolBuild")?;
    change(&client, &pool, PoolAction::Build).await
}

pub(crate) async fn destroy(client: Client, pool: Pool) -> Result<(), Failure> {
    change(&client, &pool, PoolAction::Stop).await
}

pub(crate) async fn delete(client: Client, (pool, flags): (Pool, u32)) -> Result<(), Failure> {
    known_flags(flags, 0, "virStoragePoolDelete")?;
    change(&client, &pool, PoolAction::Delete).await
}

pub(crate) async fn undefine(client: Client, pool: Pool) -> Result<(), Failure> {
    change(&client, &pool, PoolAction::Undefine).await
}

pub(crate) async fn refresh(client: Client, (pool, flags): (Pool, u32)) -> Result<(), Failure> {
    known_flags(flags, 0, "virStoragePoolRefresh")?;
    change(&client, &pool, PoolAction::Refresh).await
}

pub(crate) async fn set_autostart(
    client: Client,
    (pool, autostart): (Pool, i32),
) -> Result<(), Failure> {
    change(&client, &pool, PoolAction::SetAutostart(autostart != 0)).await
}

pub(crate) async fn info(client: Client, pool: Pool) -> Result<(u8, u64, u64, u64), Failure> {
    const INACTIVE: u8 = 0;
    const RUNNING: u8 = 2;
    let view = view(&client, pool.reference()).await?;
    let state = if view.active { RUNNING } else { INACTIVE };
    Ok((state, view.capacity, view.allocation, view.available))
}

pub(crate) async fn xml(client: Client, (pool, flags): (Pool, u32)) -> Result<String, Failure> {
    const INACTIVE: u32 = 1;
    known_flags(flags, INACTIVE, "virStoragePoolGetXMLDesc")?;
    let inactive = flags & INACTIVE != 0;
    client.ask(AREA, DumpPoolXml { pool: pool.reference(), inactive }).await
}

pub(crate) async fn autostart(client: Client, pool: Pool) -> Result<bool, Failure> {
    Ok(view(&client, pool.reference()).await?.autostart)
}

pub(crate) async fn is_active(client: Client, pool: Pool) -> Result<bool, Failure> {
    Ok(view(&client, pool.reference()).await?.active)
}

pub(crate) async fn is_persistent(client: Client, pool: Pool) -> Result<bool, Failure> {
    Ok(view(&client, pool.reference()).await?.persistent)
}

async fn volumes(client: &Client, pool: &Pool) -> Result<Vec<Volume>, Failure> {
    let all = client.ask(AREA, ListVolumes { pool: pool.reference() }).await?;
    Ok(all.iter().map(Volume::from).collect())
}

pub(crate) async fn list_volumes(
    client: Client,
    (pool, wanted, flags): (Pool, i32, u32),
) -> Result<(Vec<Volume>, u32), Failure> {
    known_flags(flags, 0, "virStoragePoolListAllVolumes")?;
    Ok(listed(volumes(&client, &pool).await?, wanted))
}

pub(crate) async fn volume_count(client: Client, pool: Pool) -> Result<i32, Failure> {
    Ok(count(volumes(&client, &pool).await?.len()))
}

pub(crate) async fn volume_names(
    client: Client,
    (pool, room): (Pool, i32),
) -> Result<Vec<String>, Failure> {
    let all = volumes(&client, &pool).await?;
    Ok(names(all.into_iter().map(|volume| volume.name), room))
}

pub(crate) async fn capabilities(client: Client, flags: u32) -> Result<String, Failure> {
    known_flags(flags, 0, "virConnectGetStoragePoolCapabilities")?;
    client.ask(AREA, GetPoolCapabilities).await
}

pub(crate) async fn sources(
    client: Client,
    (kind, _, flags): (String, Option<String>, u32),
) -> Result<String, Failure> {
    known_flags(flags, 0, "virConnectFindStoragePoolSources")?;
    client.ask(AREA, FindPoolSources { kind }).await
}
