//! Disks: the open image of a definition as a [`Disk`] for whichever device model serves it, and
//! what is counted of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::backend::{Cache, Disk, DiskIo, DiskSpec, RawDisk};
use devices::virtio::blk::{BlockStats, ErrorPolicy};
use vmm_protocol::config::{self, Medium};
use vmm_protocol::control::BlockStatistics;

use super::{BuildError, Site};
use crate::notices::TellErrors;

/// Open `medium` for `queues` users at once, each with up to `depth` requests in flight. `id` is
/// the alias of the disk.
pub(super) fn open(
    site: &mut Site<'_>,
    id: &str,
    medium: &Medium,
    queues: usize,
    depth: u16,
) -> Result<Arc<dyn Disk>, BuildError> {
    let config::Image::Raw { file } = &medium.image;
    let spec = DiskSpec {
        file: site.files.take_file(*file)?,
        read_only: medium.read_only,
        cache: match medium.cache {
            config::Cache::None => Cache::None,
            config::Cache::Writethrough => Cache::Writethrough,
            config::Cache::Writeback => Cache::Writeback,
            config::Cache::Directsync => Cache::DirectSync,
            config::Cache::Unsafe => Cache::Unsafe,
        },
        discard: medium.discard == config::Discard::Unmap,
        block_size: medium.logical_block_size,
        io: match medium.io {
            config::DiskIo::Uring => DiskIo::Uring,
            config::DiskIo::Plain => DiskIo::Threads,
        },
        queues,
        depth,
    };
    Ok(Arc::new(RawDisk::new(spec).map_err(BuildError::device(id))?))
}

/// Who is told of what the host fails to do for disk `id`.
pub(super) fn errors(site: &Site<'_>, id: &str) -> Arc<dyn ErrorPolicy> {
    Arc::new(TellErrors { id: id.to_owned(), notices: site.parts.notices.clone() })
}

pub(super) fn figures(stats: &BlockStats) -> BlockStatistics {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    BlockStatistics {
        read_requests: read(&stats.read_requests),
        read_bytes: read(&stats.read_bytes),
        write_requests: read(&stats.write_requests),
        write_bytes: read(&stats.write_bytes),
        flush_requests: read(&stats.flush_requests),
        errors: read(&stats.errors),
    }
}
