//! Volumes of pools, and their bytes.

use management::ops::{
    CreateVolume, DeleteVolume, DescribeVolume, DownloadVolume, FindVolume, MadeVolume,
    ResizeVolume, UploadVolume, WipeVolume,
};
use management::storage::{VolumeRef, VolumeView, WipeAlgorithm};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::{Pool, Volume};
use super::super::stream::Stream;
use super::super::table::Streaming;
use super::{Client, jobs};

const AREA: Area = Area::Volume;

async fn view(client: &Client, volume: VolumeRef) -> Result<VolumeView, Failure> {
    client.ask(AREA, DescribeVolume { volume }).await
}

pub(crate) async fn by_name(
    client: Client,
    (pool, name): (Pool, String),
) -> Result<Volume, Failure> {
    let volume = VolumeRef::new(pool.reference(), name);
    Ok(Volume::from(&view(&client, volume).await?))
}

/// The key of a file is its path.
pub(crate) async fn by_path(client: Client, path: String) -> Result<Volume, Failure> {
    Ok(Volume::from(&client.ask(AREA, FindVolume { path: path.into() }).await?))
}

async fn make(
    client: Client,
    pool: Pool,
    xml: String,
    from: Option<VolumeRef>,
) -> Result<Volume, Failure> {
    match client.ask(AREA, CreateVolume { pool: pool.reference(), xml, from }).await? {
        MadeVolume::Made(made) => Ok(Volume::from(&*made)),
        MadeVolume::Making(job) => {
            jobs::ended(&client, AREA, &job).await?;
            let (_, name) = job.object.rsplit_once('/').unwrap_or_default();
            let volume = VolumeRef::new(pool.reference(), name);
            Ok(Volume::from(&view(&client, volume).await?))
        }
    }
}

/// Metadata is always there at once, and documents are always validated.
const PREALLOCATE_METADATA: u32 = 1;
const VALIDATE: u32 = 4;

pub(crate) async fn create(
    client: Client,
    (pool, xml, flags): (Pool, String, u32),
) -> Result<Volume, Failure> {
    known_flags(flags, PREALLOCATE_METADATA | VALIDATE, "virStorageVolCreateXML")?;
    make(client, pool, xml, None).await
}

pub(crate) async fn create_from(
    client: Client,
    (pool, xml, from, flags): (Pool, String, Volume, u32),
) -> Result<Volume, Failure> {
    // Blocks are shared wherever the file system can.
    const REFLINK: u32 = 2;
    let known = PREALLOCATE_METADATA | REFLINK | VALIDATE;
    known_flags(flags, known, "virStorageVolCreateXMLFrom")?;
    make(client, pool, xml, Some(from.reference())).await
}

pub(crate) async fn delete(client: Client, (volume, flags): (Volume, u32)) -> Result<(), Failure> {
    known_flags(flags, 0, "virStorageVolDelete")?;
    client.ask(AREA, DeleteVolume { volume: volume.reference() }).await
}

fn kind(view: &VolumeView) -> i32 {
    i32::from(view.path.starts_with("/dev"))
}

pub(crate) async fn info(client: Client, volume: Volume) -> Result<(i32, u64, u64), Failure> {
    let view = view(&client, volume.reference()).await?;
    Ok((kind(&view), view.capacity, view.allocation))
}

pub(crate) async fn info_flags(
    client: Client,
    (volume, flags): (Volume, u32),
) -> Result<(i32, u64, u64), Failure> {
    const PHYSICAL: u32 = 1;
    known_flags(flags, PHYSICAL, "virStorageVolGetInfoFlags")?;
    let view = view(&client, volume.reference()).await?;
    let given = if flags & PHYSICAL != 0 { view.physical } else { view.allocation };
    Ok((kind(&view), view.capacity, given))
}

pub(crate) async fn xml(client: Client, (volume, flags): (Volume, u32)) -> Result<String, Failure> {
    known_flags(flags, 0, "virStorageVolGetXMLDesc")?;
    let view = view(&client, volume.reference()).await?;
    view.to_xml().ok_or_else(|| {
        Failure::operation_failed(
            AREA,
            &format!("volume {:?} has a name that no XML has", view.name),
        )
    })
}

pub(crate) async fn path(client: Client, volume: Volume) -> Result<String, Failure> {
    Ok(view(&client, volume.reference()).await?.path.display().to_string())
}

pub(crate) async fn resize(
    client: Client,
    (volume, capacity, flags): (Volume, u64, u32),
) -> Result<(), Failure> {
    const ALLOCATE: u32 = 1;
    const DELTA: u32 = 2;
    const SHRINK: u32 = 4;
    known_flags(flags, ALLOCATE | DELTA | SHRINK, "virStorageVolResize")?;
    let resize = ResizeVolume {
        volume: volume.reference(),
        capacity,
        delta: flags & DELTA != 0,
        allocate: flags & ALLOCATE != 0,
        shrink: flags & SHRINK != 0,
    };
    client.ask(AREA, resize).await
}

pub(crate) async fn wipe(client: Client, (volume, flags): (Volume, u32)) -> Result<(), Failure> {
    known_flags(flags, 0, "virStorageVolWipe")?;
    wipe_pattern(client, (volume, 0, flags)).await
}

pub(crate) async fn wipe_pattern(
    client: Client,
    (volume, algorithm, flags): (Volume, u32, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virStorageVolWipePattern")?;
    let known = WipeAlgorithm::from_number(algorithm).ok_or_else(|| {
        Failure::invalid_argument(AREA, &format!("there is no algorithm {algorithm}"))
    })?;
    let wipe = WipeVolume { volume: volume.reference(), algorithm: known };
    let job = client.ask(AREA, wipe).await?;
    jobs::ended(&client, AREA, &job).await
}

const SPARSE: u32 = 1;

pub(crate) async fn upload(
    client: Client,
    (volume, offset, length, flags): (Volume, u64, u64, u32),
) -> Result<Streaming<()>, Failure> {
    known_flags(flags, SPARSE, "virStorageVolUpload")?;
    // 0: as many as come.
    let length = Some(length).filter(|length| *length > 0);
    let upload = UploadVolume { volume: volume.reference(), offset, length };
    let upload = client.ask(AREA, upload).await?;
    Ok(Streaming { answer: (), stream: Stream::Upload { upload, sparse: flags & SPARSE != 0 } })
}

pub(crate) async fn download(
    client: Client,
    (volume, offset, length, flags): (Volume, u64, u64, u32),
) -> Result<Streaming<()>, Failure> {
    known_flags(flags, SPARSE, "virStorageVolDownload")?;
    let length = Some(length).filter(|length| *length > 0);
    let download = DownloadVolume { volume: volume.reference(), offset, length };
    let download = client.ask(AREA, download).await?;
    let sparse = flags & SPARSE != 0;
    Ok(Streaming { answer: (), stream: Stream::Download { download, sparse } })
}
