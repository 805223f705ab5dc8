//! A moment into an image: all of it, or what a bitmap has marked.

use std::io;
use std::sync::Arc;

use image::Image;

use super::moment::Moment;
use super::nbd::Marked;

/// Bytes that move at a time.
const PIECE: u64 = 1 << 20;

/// What is copied where.
pub struct Target {
    pub moment: Arc<Moment>,
    /// None: everything, into an image that reads as zeros.
    pub marked: Option<Arc<Marked>>,
    pub image: Arc<dyn Image>,
}

impl Target {
    /// Bytes that will be looked at.
    #[must_use]
    pub fn total(&self) -> u64 {
        match &self.marked {
            None => self.moment.size(),
            Some(marked) => marked.count(),
        }
    }
}

/// Copy all of it, durably. `go_on` is told of bytes that are done, and stops the copy with an error.
///
/// # Errors
/// What the host or `go_on` says, or that the moment is lost.
pub fn copy(target: &Target, go_on: &mut dyn FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    let Target { moment, marked, image } = target;
    if image.size() < moment.size() {
        let text = format!(
            "the target has {} bytes, and the disk {}; make it larger",
            image.size(),
            moment.size()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut piece = vec![0; PIECE as usize];
    let mut at = 0;
    while at < moment.size() {
        let left = moment.size() - at;
        let (wanted, run) = match marked {
            None => (true, left),
            Some(marked) => marked.run(at, left),
        };
        if !wanted {
            at += run;
            continue;
        }
        let extent = moment.map(at, run.min(PIECE - at % PIECE))?;
        let len = extent.len;
        if !extent.is_zero() {
            let data = &mut piece[..len as usize];
            moment.read(data, at)?;
            image.write(data, at)?;
        } else if marked.is_some() {
            // Something may show through from below.
            image.write_zeroes(at, len, true)?;
        }
        go_on(len)?;
        at += len;
    }
    image.flush()
}
