//! Block jobs of disks.

use std::path::PathBuf;

use management::domain::{BlockJobKind, BlockJobSpec};
use management::ops::{EndBlockJob, LimitBlockJob, ListBlockJobs, StartBlockJob};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::typed::{Parameter, Value};
use super::{Client, disk_target};

const MIB: u64 = 1 << 20;

fn bytes(bandwidth: u64, in_bytes: bool) -> u64 {
    if in_bytes { bandwidth } else { bandwidth.saturating_mul(MIB) }
}

/// `virDomainBlockJobType`
pub(crate) fn kind_number(kind: BlockJobKind) -> i32 {
    match kind {
        BlockJobKind::Pull => 1,
        BlockJobKind::Copy => 2,
        BlockJobKind::Commit => 3,
        BlockJobKind::ActiveCommit => 4,
    }
}

async fn start(
    client: &Client,
    domain: &Domain,
    disk: String,
    spec: BlockJobSpec,
    bandwidth: u64,
) -> Result<(), Failure> {
    let start = StartBlockJob { domain: domain.reference(), disk, spec, bandwidth };
    client.domain(start).await.map(drop)
}

pub(crate) async fn pull(
    client: Client,
    (domain, disk, bandwidth, flags): (Domain, String, u64, u32),
) -> Result<(), Failure> {
    const BYTES: u32 = 64;
    known_flags(flags, BYTES, "virDomainBlockPull")?;
    let bandwidth = bytes(bandwidth, flags & BYTES != 0);
    let spec = BlockJobSpec::Pull { base: None, relative: false };
    start(&client, &domain, disk, spec, bandwidth).await
}

pub(crate) async fn rebase(
    client: Client,
    (domain, disk, base, bandwidth, flags): (Domain, String, Option<String>, u64, u32),
) -> Result<(), Failure> {
    const SHALLOW: u32 = 1;
    const REUSE: u32 = 2;
    const COPY_RAW: u32 = 4;
    const COPY: u32 = 8;
    const RELATIVE: u32 = 16;
    const BYTES: u32 = 64;
    let copies = flags & COPY != 0;
    let known = if copies { SHALLOW | REUSE | COPY_RAW | COPY | BYTES } else { BYTES | RELATIVE };
    known_flags(flags, known, "virDomainBlockRebase")?;
    let spec = match base {
        Some(path) if copies => BlockJobSpec::Copy {
            path: PathBuf::from(path),
            format: (flags & COPY_RAW != 0).then(|| "raw".to_owned()),
            shallow: flags & SHALLOW != 0,
            reuse: flags & REUSE != 0,
        },
        None if copies => {
            return Err(Failure::invalid_argument(Area::Domain, "the copy has no name"));
        }
        base => BlockJobSpec::Pull { base, relative: flags & RELATIVE != 0 },
    };
    start(&client, &domain, disk, spec, bytes(bandwidth, flags & BYTES != 0)).await
}

pub(crate) async fn commit(
    client: Client,
    (domain, disk, base, top, bandwidth, flags): (
        Domain,
        String,
        Option<String>,
        Option<String>,
        u64,
        u32,
    ),
) -> Result<(), Failure> {
    const SHALLOW: u32 = 1;
    const DELETE: u32 = 2;
    const ACTIVE: u32 = 4;
    const RELATIVE: u32 = 8;
    const BYTES: u32 = 16;
    let known = SHALLOW | DELETE | ACTIVE | RELATIVE | BYTES;
    known_flags(flags, known, "virDomainBlockCommit")?;
    let spec = BlockJobSpec::Commit {
        base,
        top,
        shallow: flags & SHALLOW != 0,
        active: flags & ACTIVE != 0,
        delete: flags & DELETE != 0,
        relative: flags & RELATIVE != 0,
    };
    start(&client, &domain, disk, spec, bytes(bandwidth, flags & BYTES != 0)).await
}

pub(crate) async fn copy(
    client: Client,
    (domain, disk, destination, parameters, flags): (Domain, String, String, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    const SHALLOW: u32 = 1;
    const REUSE: u32 = 2;
    // Jobs end with their domain here, and writes go to both sides.
    const TRANSIENT: u32 = 4;
    const SYNCHRONOUS: u32 = 8;
    known_flags(flags, SHALLOW | REUSE | TRANSIENT | SYNCHRONOUS, "virDomainBlockCopy")?;
    let mut bandwidth = 0;
    for Parameter { field, value } in &parameters {
        match (&**field, value) {
            ("bandwidth", Value::Ullong(value)) => bandwidth = *value,
            // How libvirt's copies are cut into pieces; ours have their own.
            ("granularity" | "buf-size", _) => {}
            _ => {
                let text = format!("there is no parameter {field:?} of a copy");
                return Err(Failure::invalid_argument(Area::Domain, &text));
            }
        }
    }
    let (shallow, reuse) = (flags & SHALLOW != 0, flags & REUSE != 0);
    let spec = BlockJobSpec::copy_to(&destination, shallow, reuse)
        .map_err(|error| Failure::invalid_argument(Area::Domain, &error.chain()))?;
    start(&client, &domain, disk, spec, bandwidth).await
}

pub(crate) async fn abort(
    client: Client,
    (domain, disk, flags): (Domain, String, u32),
) -> Result<(), Failure> {
    // A job has ended when the answer comes, asked to wait or not.
    const ASYNC: u32 = 1;
    const PIVOT: u32 = 2;
    known_flags(flags, ASYNC | PIVOT, "virDomainBlockJobAbort")?;
    let end = EndBlockJob { domain: domain.reference(), disk, pivot: flags & PIVOT != 0 };
    client.domain(end).await
}

pub(crate) async fn limit(
    client: Client,
    (domain, disk, bandwidth, flags): (Domain, String, u64, u32),
) -> Result<(), Failure> {
    const BYTES: u32 = 1;
    known_flags(flags, BYTES, "virDomainBlockJobSetSpeed")?;
    let bandwidth = bytes(bandwidth, flags & BYTES != 0);
    client.domain(LimitBlockJob { domain: domain.reference(), disk, bandwidth }).await
}

/// Found, type, bandwidth, and how far it is.
pub(crate) async fn info(
    client: Client,
    (domain, disk, flags): (Domain, String, u32),
) -> Result<(i32, i32, u64, u64, u64), Failure> {
    const BYTES: u32 = 1;
    known_flags(flags, BYTES, "virDomainGetBlockJobInfo")?;
    let disk = disk_target(&client, &domain, &disk, false).await?;
    let jobs = client.domain(ListBlockJobs { domain: domain.reference() }).await?;
    let Some(job) = jobs.into_iter().find(|job| job.target == disk) else {
        return Ok((0, 0, 0, 0, 0));
    };
    let speed = if flags & BYTES != 0 { job.bandwidth } else { job.bandwidth / MIB };
    // Clients pivot when both are the same: not before that is safe.
    let (done, total) = match job.ready {
        true => (job.total, job.total),
        false => (job.done.min(job.total.saturating_sub(1)), job.total.max(1)),
    };
    Ok((1, kind_number(job.kind), speed, done, total))
}
