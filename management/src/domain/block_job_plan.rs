//! What a block job is made of: images opened, and what becomes of the disk.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use broker::{Broker, SavedAct, Sharing};
use image::qcow2::CreateOptions;
use image::{Description, FileStorage, Format, Inspected, NewImage, Reference};
use vmm_protocol::block_job::{Backing, BlockWork};
use vmm_protocol::config::{Fd, Image, Layer};
use vmm_protocol::control::SwapLayer;
use xml::device::disk::{Disk, DiskFormat};

use super::block_jobs::BlockJobSpec;
use super::disk_chain::{self, ChainNode};
use super::launch::{Launch, Opener, Table};
use super::relative_link;
use crate::error::{Code, Error};
use crate::translate::{self, formats};

/// What a job is made of: for the VMM, and for afterwards.
pub(super) struct Plan {
    pub work: BlockWork,
    pub after: Vec<ChainNode>,
    pub remove: Vec<PathBuf>,
    pub files: Vec<OwnedFd>,
    /// A file that was made for it.
    pub made: Option<PathBuf>,
    /// Images that others may have, too, and that are changed or removed.
    pub written: Vec<PathBuf>,
}

/// Open what the job needs, and say what becomes of the disk. A file that has to be made is `partial`
/// until it is whole. Blocks.
pub(super) fn plan(
    broker: &dyn Broker,
    launch: &Launch,
    disk: &Disk,
    spec: BlockJobSpec,
    partial: Option<&Path>,
) -> Result<Plan, Error> {
    let mut table = Table::of_request();
    let mut opener = Opener { broker, table: &mut table, launch, cgroup: None };
    let mut nodes = disk_chain::nodes(disk);
    if nodes[0].path().is_none() {
        // A volume, by the name of its file.
        let path = opener.place(disk)?;
        nodes[0] = ChainNode::new(&path, nodes[0].format, nodes[0].source.index);
    }
    let mut work = Worker { opener: &mut opener, disk, nodes: &nodes };
    let (work, after, remove, made) = match spec {
        BlockJobSpec::Pull { base, relative } => work.pull(base.as_deref(), relative)?,
        BlockJobSpec::Commit { base, top, shallow, active, delete, relative } => {
            let ends = (base.as_deref(), top.as_deref());
            work.commit(ends, shallow, active, delete, relative)?
        }
        BlockJobSpec::Copy { path, format, shallow, .. } => {
            work.copy(&path, format.as_deref(), shallow, partial)?
        }
        BlockJobSpec::CopyToServer(to) => work.copy_to_server(&to)?,
    };
    let written = written(&work, &nodes).into_iter().chain(remove.clone()).collect();
    Ok(Plan { work, after, remove, files: table.into_files(), made, written })
}

/// Images below the guest's that the job writes to.
fn written(work: &BlockWork, nodes: &[ChainNode]) -> Vec<PathBuf> {
    let numbers = match work {
        BlockWork::Pull { .. } | BlockWork::Copy { .. } | BlockWork::CopyToServer { .. } => {
            Vec::new()
        }
        BlockWork::ActiveCommit { base, .. } => vec![*base],
        BlockWork::Commit { top, base, .. } => vec![*base, top.saturating_sub(1)],
    };
    let below = numbers.into_iter().filter(|number| *number > 0);
    below.filter_map(|number| nodes.get(usize::from(number))?.path().cloned()).collect()
}

type Planned = (BlockWork, Vec<ChainNode>, Vec<PathBuf>, Option<PathBuf>);

struct Worker<'a, 'b> {
    opener: &'a mut Opener<'b>,
    disk: &'a Disk,
    nodes: &'a [ChainNode],
}

impl Worker<'_, '_> {
    fn refused(&self, why: &str) -> Error {
        Error::new(Code::InvalidArgument, format!("disk {}: {why}", self.disk.target.dev))
    }

    fn is_direct(&self) -> bool {
        use vmm_protocol::config::Cache;
        let cache = self.disk.driver.as_ref().and_then(|driver| driver.cache);
        let mode = translate::machine_devices::cache(cache);
        matches!(mode, Cache::None | Cache::Directsync)
    }

    fn pull(&mut self, base: Option<&str>, relative: bool) -> Result<Planned, Error> {
        if self.nodes.len() < 2 {
            return Err(self.refused("nothing lies below its image"));
        }
        let base = base.map(|base| disk_chain::find(self.disk, self.nodes, base)).transpose()?;
        if base == Some(0) {
            return Err(self.refused("the base is the image that the guest uses"));
        }
        if relative && base.is_none() {
            return Err(self.refused("without a base there is no link to keep relative"));
        }
        let backing = base.map(|base| self.link(0, base, relative)).transpose()?;
        let end = base.unwrap_or(self.nodes.len());
        let after = self.nodes[..1].iter().chain(&self.nodes[end..]).cloned().collect();
        let work = BlockWork::Pull { base: base.map(layer_number), backing };
        Ok((work, after, Vec::new(), None))
    }

    fn commit(
        &mut self,
        (base, top): (Option<&str>, Option<&str>),
        shallow: bool,
        active: bool,
        delete: bool,
        relative: bool,
    ) -> Result<Planned, Error> {
        let find = |name: &str| disk_chain::find(self.disk, self.nodes, name);
        let top = top.map(find).transpose()?.unwrap_or(0);
        let base = match base {
            Some(base) => find(base)?,
            None if shallow => top + 1,
            None => self.nodes.len() - 1,
        };
        if top >= base || base >= self.nodes.len() {
            return Err(self.refused("the base does not lie below the top"));
        }
        if top == 0 && !active {
            return Err(self.refused(
                "the top is the image that the guest uses; say active, and pivot when the job is ready",
            ));
        }
        if top > 0 && active {
            return Err(
                self.refused("the top is not the image that the guest uses: leave active out")
            );
        }
        // The link above the guest's own image would be in none.
        let link = if top > 0 { Some(self.link(top - 1, base, relative)?) } else { None };
        let into = self.open_again(base)?;
        let left_out = &self.nodes[top..base];
        let remove = if delete {
            left_out.iter().filter_map(|it| it.path().cloned()).collect()
        } else {
            Vec::new()
        };
        let after = self.nodes[..top].iter().chain(&self.nodes[base..]).cloned().collect();
        let number = layer_number(base);
        let Some(backing) = link else {
            return Ok((BlockWork::ActiveCommit { base: number, into }, after, remove, None));
        };
        let overlay = if top > 1 { Some(self.open_again(top - 1)?) } else { None };
        let work =
            BlockWork::Commit { top: layer_number(top), base: number, into, overlay, backing };
        Ok((work, after, remove, None))
    }

    /// What image `above` says lies below it once it lies on `base`.
    fn link(&mut self, above: usize, base: usize, relative: bool) -> Result<Backing, Error> {
        let link = backing(&self.nodes[base])?;
        if !relative {
            return Ok(link);
        }
        let mut names = Vec::new();
        for node in above..base {
            let below = self.describe(node)?.backing;
            names.push(below.map(|below| below.name).unwrap_or_default());
        }
        let name = relative_link::joined(names.iter().map(String::as_str)).ok_or_else(|| {
            let why = "its images are not named relative to one another, so that no link to the base \
                       stays relative; leave relative out";
            self.refused(why)
        })?;
        Ok(Backing { name, ..link })
    }

    /// An image of the disk, to be written to: the VMM has it already.
    fn open_again(&mut self, node: usize) -> Result<Layer, Error> {
        let ChainNode { format, .. } = self.nodes[node];
        let path = self.nodes[node].path().cloned();
        let path = path.ok_or_else(|| self.refused("an image of it is no file"))?;
        let direct = self.is_direct();
        let file = self.opener.disk_image(self.disk, &path, false, direct, Sharing::Again)?;
        self.layer(file, format)
    }

    fn layer(&mut self, file: OwnedFd, format: DiskFormat) -> Result<Layer, Error> {
        let known = formats::of_xml(format).and_then(formats::to_config);
        let format =
            known.ok_or_else(|| self.refused(&format!("nothing is written in format {format}")))?;
        let file: Fd = self.opener.table.add(file);
        Ok(Layer { format, file, data_file: None, extents: Vec::new() })
    }

    fn copy(
        &mut self,
        path: &Path,
        format: Option<&str>,
        shallow: bool,
        partial: Option<&Path>,
    ) -> Result<Planned, Error> {
        if !path.is_absolute() {
            return Err(self.refused(&format!("{} is no absolute path", path.display())));
        }
        let format = match format {
            Some(name) => {
                name.parse::<Format>().map_err(|error| self.refused(&error.to_string()))?
            }
            None => formats::of_xml(self.nodes[0].format).unwrap_or(Format::Raw),
        };
        let in_xml = formats::to_xml(format);
        let in_xml =
            in_xml.ok_or_else(|| self.refused(&format!("no disk can be in format {format}")))?;
        let shallow = shallow && self.nodes.len() > 1;
        if shallow && format != Format::Qcow2 {
            return Err(self.refused("a shallow copy has something below it: only qcow2 can"));
        }
        if let Some(partial) = partial {
            self.create(path, partial, format, shallow)?;
        }
        let made = partial.map(|_| path.to_owned());
        let opened = self.opener.image(path, false, self.is_direct(), Sharing::Exclusive);
        let layer = match opened.and_then(|file| self.layer(file, in_xml)) {
            Ok(layer) => layer,
            Err(error) => {
                if made.is_some() {
                    // Nobody has it yet; one that stays is said to be there the next time.
                    let _ = self.opener.broker.remove_saved(path);
                }
                return Err(error);
            }
        };
        let mut target = vec![SwapLayer::New(layer)];
        let mut after = vec![ChainNode::new(path, in_xml, None)];
        if shallow {
            target.extend((1..self.nodes.len()).map(|node| SwapLayer::Kept(layer_number(node))));
            after.extend(self.nodes[1..].iter().cloned());
        }
        let work = BlockWork::Copy { target, shallow, blank: made.is_some() };
        Ok((work, after, Vec::new(), made))
    }

    fn copy_to_server(&mut self, to: &Disk) -> Result<Planned, Error> {
        // Errors are about the disk that is copied.
        let to = Disk { target: self.disk.target.clone(), ..to.clone() };
        let Image::Nbd(server) = self.opener.network_disk(&to)?.image else {
            return Err(self.refused("it is not copied to such a server"));
        };
        let source = to.source.clone().unwrap_or_default();
        let after = vec![ChainNode { kind: to.kind(), source, format: DiskFormat::Raw }];
        Ok((BlockWork::CopyToServer { server }, after, Vec::new(), None))
    }

    /// A new image as large as the disk: it has its name when it is one.
    fn create(
        &mut self,
        path: &Path,
        partial: &Path,
        format: Format,
        shallow: bool,
    ) -> Result<(), Error> {
        let size = self.size()?;
        let new = match format {
            Format::Raw => NewImage::Raw,
            Format::Qcow2 => {
                let mut options = CreateOptions::new(size);
                if shallow {
                    let Backing { name, format } = backing(&self.nodes[1])?;
                    options.backing = Some(Reference { name, format: Some(format) });
                }
                NewImage::Qcow2(options)
            }
            other => return Err(self.refused(&format!("no copy is made in format {other}"))),
        };
        let broker = self.opener.broker;
        let act = SavedAct::Create { path: partial.to_owned(), in_new_dir: false };
        let file = broker.saved_file(act)?;
        let made = FileStorage::new(File::from(file))
            .map_err(|source| image::ImageError::Io { act: "cannot use the image", source })
            .and_then(|storage| new.create(&storage, size))
            .map_err(|error| {
                let text = format!("cannot make image {}: {}", path.display(), error.in_full());
                Error::new(Code::HostFailure, text)
            });
        let named = made.and_then(|()| Ok(broker.name_saved(partial, path)?));
        named.inspect_err(|_| drop(broker.remove_saved(partial)))
    }

    fn open_to_look(&mut self, node: usize) -> Result<(OwnedFd, PathBuf), Error> {
        let path = self.nodes[node].path().cloned();
        let path = path.ok_or_else(|| self.refused("its image is no file"))?;
        let file = self.opener.disk_image(self.disk, &path, true, false, Sharing::Again)?;
        Ok((file, path))
    }

    /// What the header of an image says.
    fn describe(&mut self, node: usize) -> Result<Description, Error> {
        let (file, _) = self.open_to_look(node)?;
        let format = formats::of_xml(self.nodes[node].format).unwrap_or(Format::Raw);
        let answer = self.opener.broker.inspect(format.name(), file.as_fd())?;
        match serde_json::from_slice(&answer) {
            Ok(Inspected::Image(description)) => Ok(*description),
            Ok(Inspected::Refused(reason)) => Err(self.refused(&reason)),
            Err(error) => {
                Err(Error::new(Code::Internal, "a header was read to no sense").with_source(error))
            }
        }
    }

    /// Bytes of the disk.
    fn size(&mut self) -> Result<u64, Error> {
        let format = formats::of_xml(self.nodes[0].format).unwrap_or(Format::Raw);
        if format == Format::Raw {
            let (file, path) = self.open_to_look(0)?;
            let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0));
            return end.map_err(|errno| {
                let text = format!("cannot look at image {}", path.display());
                Error::new(Code::HostFailure, text).with_source(std::io::Error::from(errno))
            });
        }
        Ok(self.describe(0)?.size)
    }
}

/// A chain has 200 images at most.
fn layer_number(node: usize) -> u16 {
    u16::try_from(node).unwrap_or(u16::MAX)
}

fn backing(node: &ChainNode) -> Result<Backing, Error> {
    let name = node.path().and_then(|path| path.to_str());
    let name = name.ok_or_else(|| {
        Error::new(Code::Unsupported, "the name of an image of the disk cannot stand in another")
    })?;
    let format = formats::of_xml(node.format).unwrap_or(Format::Raw);
    Ok(Backing { name: name.to_owned(), format: format.name().to_owned() })
}
