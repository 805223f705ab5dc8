//! The images beneath a disk: open files in an order, from which the disk is made, and later made
//! anew in another order.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::backend::{Disk, DiskIo, DiskSpec, ImageDisk, ImageSpec, Pool, RawDisk, Swappable};
use image::chain::{self, MOST_DEEP, Node};
use image::qcow2::Qcow2;
use image::{Description, FileStorage, Format, Image, ImageError, Storage, Watermark};
use vmm_protocol::config::{self, Fd, ImageFormat, Medium};
use vmm_protocol::control::EventKind;

use super::{BuildError, Site, disk};
use crate::notices::Notices;
use crate::sandbox::Kind;

/// Requests of an image that are carried out at once, when several come together.
const IMAGE_THREADS: usize = 4;
const IMAGE_THREAD: &str = "image";

/// One image of a chain, with its open files.
#[derive(Clone)]
pub(crate) struct Layer {
    format: Format,
    file: Arc<FileStorage>,
    data_file: Option<Arc<FileStorage>>,
    extents: Vec<Arc<FileStorage>>,
    threshold: Arc<Threshold>,
}

/// What tells that an image is written to beyond a place, and what the client calls it then.
pub(crate) struct Threshold {
    mark: Arc<Watermark>,
    name: Arc<Mutex<String>>,
}

impl Threshold {
    fn new(id: &str, notices: &Arc<Notices>) -> Self {
        let name = Arc::<Mutex<String>>::default();
        let (id, notices, named) = (id.to_owned(), notices.clone(), name.clone());
        let mark = Watermark::new(move |threshold, excess| {
            let (id, name) = (id.clone(), lock(&named).clone());
            notices.post(EventKind::ThresholdPassed { id, name, threshold, excess });
        });
        Self { mark: Arc::new(mark), name }
    }

    pub(crate) fn set(&self, place: Option<u64>, name: String) {
        *lock(&self.name) = name;
        self.mark.set(place);
    }

    pub(crate) fn place(&self) -> Option<u64> {
        self.mark.place()
    }
}

impl Layer {
    /// From descriptors that came with the process, or with a request.
    pub(super) fn take(
        site: &mut Site<'_>,
        id: &str,
        layer: &config::Layer,
    ) -> Result<Self, BuildError> {
        let threshold = Threshold::new(id, &site.parts.notices);
        let mut storage = |file: Fd| -> Result<FileStorage, BuildError> {
            let file: File = site.files.take_file(file)?;
            FileStorage::new(file).map_err(BuildError::device(id))
        };
        let file = Arc::new(storage(layer.file)?.marked(threshold.mark.clone()));
        let mut storage = |file: Fd| storage(file).map(Arc::new);
        Ok(Self {
            format: format(layer.format),
            file,
            threshold: Arc::new(threshold),
            data_file: layer.data_file.map(&mut storage).transpose()?,
            extents: layer.extents.iter().map(|file| storage(*file)).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn file(&self) -> &FileStorage {
        &self.file
    }

    pub(crate) fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    /// It says in its header what lies below it.
    pub(crate) fn may_be_linked(&self) -> bool {
        self.format == Format::Qcow2
    }

    /// # Errors
    /// When the image is damaged.
    pub(crate) fn describe(&self) -> Result<Description, ImageError> {
        image::describe(&*self.file, self.format)
    }

    pub(crate) fn is_writable(&self) -> bool {
        let flags = rustix::fs::fcntl_getfl(self.file.file());
        flags.is_ok_and(|flags| flags.contains(rustix::fs::OFlags::RDWR))
    }

    /// Whether the guest, or a block job, writes to it from now on. Where not, others may read it: an
    /// image that lies below an overlay is the ground of twins, too.
    pub(crate) fn tell_writing(&self, writes: bool) {
        if self.is_writable()
            && let Err(error) = super::sys::tell_writing(self.file.file(), writes)
        {
            tracing::warn!(%error, writes, "others take an image for what it is not");
        }
    }

    fn node(&self) -> Node {
        let plain = |file: &Arc<FileStorage>| -> Arc<dyn Storage> { file.clone() };
        let mut node = Node::new(self.format, plain(&self.file));
        node.data_file = self.data_file.as_ref().map(plain);
        node.extents = self.extents.iter().map(plain).collect();
        node
    }
}

fn lock(name: &Mutex<String>) -> MutexGuard<'_, String> {
    name.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk made of files of the host, and what it takes to make it of others.
pub(crate) struct Images {
    id: String,
    disk: Swappable,
    /// How the disk is used, whatever it is made of.
    usage: Usage,
    /// Users that the disk has at once.
    queues: usize,
    /// From what the guest writes to down to what lies lowest.
    layers: Vec<Layer>,
    /// The image that the guest uses; none: its one file is raw, and used as it is.
    image: Option<Arc<dyn Image>>,
    /// The raw disk that it was at the beginning: its rings cannot be had again once the guest runs.
    home: Option<(Arc<File>, Arc<RawDisk>)>,
    threads: Option<Arc<Pool>>,
}

#[derive(Clone, Copy)]
struct Usage {
    read_only: bool,
    cache: config::Cache,
    discard: bool,
    block_size: u32,
}

/// A disk that is ready to take the place of another.
pub(crate) struct Prepared {
    disk: Arc<dyn Disk>,
    image: Option<Arc<dyn Image>>,
    layers: Vec<Layer>,
}

impl Images {
    /// Make disk `id` for `queues` users at once, each with up to `depth` requests in flight.
    pub(super) fn open(
        site: &mut Site<'_>,
        id: &str,
        medium: &Medium,
        queues: usize,
        depth: u16,
    ) -> Result<Self, BuildError> {
        let usage = Usage {
            read_only: medium.read_only,
            cache: medium.cache,
            discard: medium.discard == config::Discard::Unmap,
            block_size: medium.logical_block_size,
        };
        let only;
        let layers = match &medium.image {
            config::Image::Raw { file } => {
                only = [raw(*file)];
                &only[..]
            }
            config::Image::Chain(layers) => layers,
            config::Image::Nbd(_) => {
                return Err(BuildError::config("disk", id, "it lies on a server, not in files"));
            }
        };
        let layers: Vec<_> =
            layers.iter().map(|layer| Layer::take(site, id, layer)).collect::<Result<_, _>>()?;
        if let [Layer { format: Format::Raw, file, threshold, .. }] = &layers[..] {
            let wanted = medium.io == config::DiskIo::Uring;
            let io = if wanted && !site.confined { DiskIo::Uring } else { DiskIo::Threads };
            let spec = DiskSpec { io, queues, depth, ..usage.raw(file.file()) };
            let mut made = RawDisk::new(spec).map_err(BuildError::device(id))?;
            if wanted && site.confined {
                made = made.with_rings(site.parts.reserve.rings.clone());
            }
            let made = Arc::new(made.marked(threshold.mark.clone()));
            let home = Some((file.file().clone(), made.clone()));
            let disk = Swappable::new(made);
            let id = id.to_owned();
            return Ok(Self { id, disk, usage, queues, layers, image: None, home, threads: None });
        }
        let threads = (!site.confined).then(|| {
            let sandbox = site.sandbox.clone();
            let prepare = move || sandbox.enter(Kind::Io);
            Pool::new(IMAGE_THREAD, IMAGE_THREADS, queues, prepare).map(Arc::new)
        });
        let threads = threads.transpose().map_err(BuildError::device(id))?;
        let image = open_chain(id, &layers, usage.read_only)?;
        let made = usage.over(&image, threads.clone()).map_err(BuildError::device(id))?;
        let (disk, id) = (Swappable::new(made), id.to_owned());
        Ok(Self { id, disk, usage, queues, layers, image: Some(image), home: None, threads })
    }

    pub(crate) fn disk(&self) -> &Swappable {
        &self.disk
    }

    /// The image that the guest writes to, where that can have snapshots inside.
    pub(crate) fn qcow2(&self) -> Option<&Qcow2> {
        self.image.as_ref().and_then(|image| image.as_qcow2()).filter(|disk| !disk.read_only())
    }

    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Get ready to be made of `layers`. The guest uses nothing of the disk meanwhile, and until it is
    /// [put](Self::put) there: files may belong to both.
    ///
    /// # Errors
    /// When the disk would be another one to the guest, or an image cannot be opened.
    pub(crate) fn prepare(&self, layers: Vec<Layer>) -> Result<Prepared, BuildError> {
        let device = || BuildError::device(&self.id);
        if let Some(image) = &self.image {
            // What the old image knows and its file does not, the new one would miss.
            image.flush().map_err(device())?;
        }
        let prepared = match &layers[..] {
            [layer @ Layer { format: Format::Raw, .. }] => {
                let disk = self.raw(layer).map_err(device())?;
                Prepared { disk, image: None, layers }
            }
            _ => {
                let image = open_chain(&self.id, &layers, self.usage.read_only)?;
                let disk = self.usage.over(&image, self.threads.clone()).map_err(device())?;
                Prepared { disk, image: Some(image), layers }
            }
        };
        let (is, was) = (prepared.disk.info().size, self.disk.now().info().size);
        if is != was {
            let reason = "of bytes is another one than the guest knows of its disk";
            return Err(BuildError::config("size", is, reason));
        }
        Ok(prepared)
    }

    /// Get ready to be made of `layers`, which are open as `image` already.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub(crate) fn prepare_open(
        &self,
        image: Arc<dyn Image>,
        layers: Vec<Layer>,
    ) -> Result<Prepared, BuildError> {
        if let [Layer { format: Format::Raw, .. }] = &layers[..] {
            return self.prepare(layers);
        }
        let device = BuildError::device(&self.id);
        let disk = self.usage.over(&image, self.threads.clone()).map_err(device)?;
        Ok(Prepared { disk, image: Some(image), layers })
    }

    /// How the disk would be used if `server` had it, and by how many: those it has, and a copier.
    pub(super) fn on_server(&self, server: &config::Nbd) -> (Medium, usize) {
        let Usage { read_only, cache, discard, block_size } = self.usage;
        let medium = Medium {
            image: config::Image::Nbd(server.clone()),
            read_only,
            cache,
            discard: if discard { config::Discard::Unmap } else { config::Discard::Ignore },
            logical_block_size: block_size,
            io: config::DiskIo::Plain,
        };
        (medium, self.queues + 1)
    }

    /// Get ready to be on a server, and made of no files.
    pub(crate) fn prepare_server(disk: Arc<dyn Disk>) -> Prepared {
        Prepared { disk, image: None, layers: Vec::new() }
    }

    /// The image that the guest uses, opened as one if it is not yet.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn source(&self) -> Result<Arc<dyn Image>, BuildError> {
        match &self.image {
            Some(image) => Ok(image.clone()),
            None => self.chain(&self.layers, self.usage.read_only),
        }
    }

    /// Have the guest's requests go to `image`, which passes them on to that of the disk.
    ///
    /// # Errors
    /// When that cannot be.
    pub(crate) fn lead_past(&mut self, image: Arc<dyn Image>) -> Result<(), BuildError> {
        let device = BuildError::device(&self.id);
        let disk = self.usage.over(&image, self.threads.clone()).map_err(device)?;
        let layers = self.layers.clone();
        self.put(Prepared { disk, image: Some(image), layers });
        Ok(())
    }

    /// The disk is made of its images again, of which `image` is open, and of nothing else.
    ///
    /// # Errors
    /// When that cannot be.
    pub(crate) fn lead_back(&mut self, image: Arc<dyn Image>) -> Result<(), BuildError> {
        let prepared = self.prepare_open(image, self.layers.clone())?;
        self.put(prepared);
        self.tell_writing();
        Ok(())
    }

    /// What the guest wrote is in the files, as their formats have it.
    ///
    /// # Errors
    /// What the host refused.
    pub(crate) fn flush(&self) -> std::io::Result<()> {
        self.image.as_ref().map_or(Ok(()), |image| image.flush())
    }

    /// Make an image as large as the disk.
    ///
    /// # Errors
    /// What the host or its format refuses.
    pub(crate) fn grow(&self, image: &dyn Image, size: u64) -> Result<(), BuildError> {
        image.grow(size).map_err(BuildError::device(&self.id))
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.usage.read_only
    }

    /// Images of this disk, or such that are to be.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(crate) fn chain(
        &self,
        layers: &[Layer],
        read_only: bool,
    ) -> Result<Arc<dyn Image>, BuildError> {
        open_chain(&self.id, layers, read_only)
    }

    /// A raw disk of `file`: the one of the beginning, if it is that file.
    fn raw(&self, layer: &Layer) -> std::io::Result<Arc<dyn Disk>> {
        let file = layer.file.file();
        if let Some((home, disk)) = &self.home
            && Arc::ptr_eq(home, file)
        {
            let size = self.disk.now().info().size;
            if disk.info().size < size {
                disk.grow(size)?;
            }
            return Ok(disk.clone());
        }
        let spec = DiskSpec { io: DiskIo::Threads, queues: 0, depth: 0, ..self.usage.raw(file) };
        Ok(Arc::new(RawDisk::new(spec)?.marked(layer.threshold.mark.clone())))
    }

    /// This is the disk now. What it was is closed, with the files that are no part of it any more.
    pub(crate) fn put(&mut self, prepared: Prepared) {
        let Prepared { disk, image, layers } = prepared;
        drop(self.disk.put(disk));
        (self.image, self.layers) = (image, layers);
    }

    /// Have others know which of its images is written to, now that no block job writes to one.
    pub(crate) fn tell_writing(&self) {
        for (depth, layer) in self.layers.iter().enumerate() {
            layer.tell_writing(depth == 0 && !self.usage.read_only);
        }
    }
}

impl Usage {
    /// On the calling thread, unless `io` and what it needs are said.
    fn raw(self, file: &Arc<File>) -> DiskSpec {
        DiskSpec {
            file: file.clone(),
            read_only: self.read_only,
            cache: disk::cache(self.cache),
            discard: self.discard,
            block_size: self.block_size,
            io: DiskIo::Threads,
            queues: 0,
            depth: 0,
        }
    }

    fn over(
        self,
        image: &Arc<dyn Image>,
        threads: Option<Arc<Pool>>,
    ) -> std::io::Result<Arc<dyn Disk>> {
        let Self { cache, discard, block_size, .. } = self;
        let spec = ImageSpec { cache: disk::cache(cache), discard, block_size };
        Ok(Arc::new(ImageDisk::new(image.clone(), spec)?.with_threads(threads)))
    }
}

pub(crate) fn raw(file: Fd) -> config::Layer {
    config::Layer { format: ImageFormat::Raw, file, data_file: None, extents: Vec::new() }
}

/// Open the chain of disk `id`. Headers are read again here: what was said about them when the
/// files were opened is not relied on.
fn open_chain(id: &str, layers: &[Layer], read_only: bool) -> Result<Arc<dyn Image>, BuildError> {
    if layers.len() > MOST_DEEP {
        return Err(BuildError::config("images of a chain", layers.len(), "must be at most 200"));
    }
    let mut node: Option<Box<Node>> = None;
    for layer in layers.iter().rev() {
        let mut next = layer.node();
        next.backing = node.take();
        node = Some(Box::new(next));
    }
    let node = node.ok_or_else(|| BuildError::config("images of a chain", 0, "there is none"))?;
    chain::open(*node, read_only).map_err(BuildError::device::<ImageError>(id))
}

fn format(format: ImageFormat) -> Format {
    match format {
        ImageFormat::Raw => Format::Raw,
        ImageFormat::Qcow2 => Format::Qcow2,
        ImageFormat::Vmdk => Format::Vmdk,
        ImageFormat::Vdi => Format::Vdi,
        ImageFormat::Vpc => Format::Vpc,
    }
}
