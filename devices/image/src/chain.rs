//! Opening an image together with everything below it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::describe::describe;
use crate::description::{Description, Reference};
use crate::error::ImageError;
use crate::format::Format;
use crate::qcow2::{OpenOptions, Qcow2};
use crate::raw::Raw;
use crate::storage::Storage;
use crate::view::Image;

/// More images on top of each other than anybody needs: a longer chain is an attack.
pub const MOST_DEEP: usize = 200;

/// Where a name in an image leads: relative to the image, which lies at `of`.
///
/// # Errors
/// When it is no file's name but a protocol's, or options in JSON, which QEMU would follow.
pub fn locate(name: &str, of: &Path) -> Result<PathBuf, ImageError> {
    let name = name.strip_prefix("file:").unwrap_or(name);
    let before_slash = name.split('/').next().unwrap_or_default();
    if let Some((protocol, _)) = before_slash.split_once(':') {
        let protocol: String = protocol.chars().take(20).collect();
        let text =
            format!("what the image names begins with {protocol:?}:, and only files are followed");
        return Err(ImageError::Invalid(text));
    }
    if name.is_empty() || name.contains('\0') {
        return Err(ImageError::Invalid(format!("the image names {name:?}, which is no file")));
    }
    Ok(of.parent().unwrap_or(Path::new("")).join(name))
}

/// The format that an image declares for the one below it.
///
/// # Errors
/// When it declares none, or one that there is not: it is not guessed from what lies there, since
/// the guest wrote that.
pub fn declared_format(backing: &Reference) -> Result<Format, ImageError> {
    let Some(format) = &backing.format else {
        let text = format!(
            "the image does not say which format its backing image {:?} has; say it with \
             qemu-img rebase -u -F FORMAT",
            backing.name
        );
        return Err(ImageError::Invalid(text));
    };
    format.parse().map_err(|error: crate::UnknownFormat| ImageError::Invalid(error.to_string()))
}

/// One image of a chain with its open files.
pub struct Node {
    pub format: Format,
    pub file: Arc<dyn Storage>,
    pub data_file: Option<Arc<dyn Storage>>,
    /// In the order in which the image names them.
    pub extents: Vec<Arc<dyn Storage>>,
    pub backing: Option<Box<Node>>,
}

impl Node {
    #[must_use]
    pub fn new(format: Format, file: Arc<dyn Storage>) -> Self {
        Self { format, file, data_file: None, extents: Vec::new(), backing: None }
    }

    /// # Errors
    /// As [`describe`].
    pub fn describe(&self) -> Result<Description, ImageError> {
        describe(&*self.file, self.format)
    }
}

/// Open a chain. What lies below the first image is only read.
///
/// # Errors
/// When one of the images cannot be opened, or names a backing image that was not given.
pub fn open(node: Node, read_only: bool) -> Result<Arc<dyn Image>, ImageError> {
    let (top, below) = open_below(node)?;
    open_one(top, below, read_only)
}

/// As [`open`], of a chain that has a qcow2 image on top.
///
/// # Errors
/// As [`open`].
pub fn open_qcow2(node: Node, snapshot: Option<String>) -> Result<Qcow2, ImageError> {
    let (top, backing) = open_below(node)?;
    check_backing(&top, backing.is_some())?;
    let (read_only, data_file) = (snapshot.is_some(), top.data_file);
    Qcow2::open(top.file, OpenOptions { read_only, backing, data_file, snapshot })
}

/// The first image as it is, and everything below it opened.
fn open_below(node: Node) -> Result<(Node, Option<Arc<dyn Image>>), ImageError> {
    // From the bottom up, without recursion: the depth is somebody else's choice.
    let mut nodes = Vec::new();
    let mut next = Some(Box::new(node));
    while let Some(mut node) = next {
        next = node.backing.take();
        nodes.push(*node);
        if nodes.len() > MOST_DEEP {
            let text = format!("more than {MOST_DEEP} images on top of each other");
            return Err(ImageError::Invalid(text));
        }
    }
    let mut below = None;
    while let Some(node) = nodes.pop() {
        if nodes.is_empty() {
            return Ok((node, below));
        }
        below = Some(open_one(node, below, true)?);
    }
    Err(ImageError::Invalid("no image".into()))
}

fn check_backing(node: &Node, given: bool) -> Result<(), ImageError> {
    let description = node.describe()?;
    let text = match description.backing {
        Some(backing) if !given => format!("the image needs its backing image {:?}", backing.name),
        None if given => format!("a {} image here has nothing below it", node.format),
        _ => return Ok(()),
    };
    Err(ImageError::Invalid(text))
}

fn open_one(
    node: Node,
    backing: Option<Arc<dyn Image>>,
    read_only: bool,
) -> Result<Arc<dyn Image>, ImageError> {
    check_backing(&node, backing.is_some())?;
    match node.format {
        Format::Raw => {
            let opened = Raw::open(node.file, read_only);
            Ok(Arc::new(opened.map_err(ImageError::io("cannot find the image's size"))?))
        }
        Format::Qcow2 => {
            let data_file = node.data_file;
            let options = OpenOptions { read_only, backing, data_file, snapshot: None };
            Ok(Arc::new(Qcow2::open(node.file, options)?))
        }
        Format::Vmdk => crate::vmdk::open(node.file, node.extents, read_only),
        Format::Vdi => crate::vdi::open(node.file, read_only),
        Format::Vpc => crate::vhd::open(node.file, read_only),
        Format::Vhdx => crate::vhdx::open(node.file, read_only),
    }
}
