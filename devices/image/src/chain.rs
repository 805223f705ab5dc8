//! Opening an image together with everything below it.

use std::sync::Arc;

use crate::describe::{Description, describe};
use crate::error::ImageError;
use crate::format::Format;
use crate::qcow2::{OpenOptions, Qcow2};
use crate::raw::Raw;
use crate::storage::Storage;
use crate::view::Image;

/// More images on top of each other than anybody needs: a longer chain is an attack.
pub const MOST_DEEP: usize = 200;

/// One image of a chain with its open files.
pub struct Node {
    pub format: Format,
    pub file: Arc<dyn Storage>,
    pub data_file: Option<Arc<dyn Storage>>,
    pub backing: Option<Box<Node>>,
}

impl Node {
    #[must_use]
    pub fn new(format: Format, file: Arc<dyn Storage>) -> Self {
        Self { format, file, data_file: None, backing: None }
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
        let read_only = read_only || !nodes.is_empty();
        below = Some(open_one(node, below, read_only)?);
    }
    below.ok_or_else(|| ImageError::Invalid("no image".into()))
}

fn open_one(
    node: Node,
    backing: Option<Arc<dyn Image>>,
    read_only: bool,
) -> Result<Arc<dyn Image>, ImageError> {
    let description = node.describe()?;
    if description.backing.is_some() != backing.is_some() {
        let text = match description.backing {
            Some(backing) => format!("the image needs its backing image {:?}", backing.name),
            None => format!("a {} image here has nothing below it", node.format),
        };
        return Err(ImageError::Invalid(text));
    }
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
    }
}
