//! [`Work`]: what a process of its own does to images that anybody may have made, for somebody who would
//! rather not read them.
//!
//! ```text
//! who asks ── Work, one line ──▶ process: files that were open when it began, and nothing else
//!          ◀─ Said, a line each ─  At … At … Done | Failed
//! ```
//! Who asks no longer listens: the work stops at its next word.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chain::{self, MOST_DEEP, Node};
use crate::copy::{Target, copy};
use crate::{FileStorage, Format, ImageError};

/// Longer than any [`Work`] or [`Said`].
pub const LONGEST_LINE: u64 = 64 << 10;

/// Bytes at once.
pub const MOST_READ: u32 = 64 << 10;
/// Bytes of a line, each as a number.
const PIECE: usize = 8 << 10;

/// The files of a chain come in its order: the image, then what lies below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Work {
    /// Put what `source` shows into an image that is made already, whose file comes last.
    Copy { source: Vec<Format>, target: Format, before: Target, step: u64 },
    /// Make a qcow2 image larger, or smaller.
    Resize { chain: Vec<Format>, bytes: u64 },
    /// Say what a chain shows there: at most [`MOST_READ`] bytes.
    Read { chain: Vec<Format>, offset: u64, len: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    At {
        done: u64,
        total: u64,
    },
    /// The next piece of what was to be read.
    Bytes(Vec<u8>),
    Done,
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// It was the target's, or that of what was to be resized.
    pub of_target: bool,
    pub cause: Cause,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    NoSpace,
    /// The host could not read or write.
    Host,
    /// What the image says makes no sense, or cannot be had.
    Image,
}

impl Failure {
    fn io(of_target: bool, error: &io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let full = matches!(error.kind(), StorageFull | QuotaExceeded);
        let cause = if full { Cause::NoSpace } else { Cause::Host };
        Self { of_target, cause, text: error.to_string() }
    }

    fn image(of_target: bool, error: &ImageError) -> Self {
        match error {
            ImageError::Io { source, .. } => {
                Self { text: error.in_full(), ..Self::io(of_target, source) }
            }
            _ => Self { of_target, cause: Cause::Image, text: error.in_full() },
        }
    }
}

/// Do what one line of `from` asks for with `files`, and say so to `to`.
///
/// # Errors
/// When nobody says what to do, or nobody listens.
pub fn serve(from: impl BufRead, mut to: impl Write, files: Vec<File>) -> io::Result<()> {
    let mut line = String::new();
    from.take(LONGEST_LINE).read_line(&mut line)?;
    let work: Work = serde_json::from_str(&line)?;
    let mut say = |said: &Said| {
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        to.write_all(&line)
    };
    let end = match work.run(files, &mut say) {
        Ok(()) => Said::Done,
        Err(failure) => Said::Failed(failure),
    };
    say(&end)
}

impl Work {
    fn run(
        self,
        files: Vec<File>,
        say: &mut dyn FnMut(&Said) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut files = files.into_iter();
        match self {
            Self::Copy { source, target, before, step } => {
                let source = opened(&source, &mut files).map_err(|e| Failure::image(false, &e))?;
                let of_source = |error: ImageError| Failure::image(false, &error);
                let source = chain::open(source, true).map_err(of_source)?;
                let of_target = |error: ImageError| Failure::image(true, &error);
                let target = opened(&[target], &mut files).map_err(of_target)?;
                let target = chain::open(target, false).map_err(of_target)?;
                let (size, whole) = (source.size(), target.size());
                let mut at = |done| say(&Said::At { done, total: size });
                let copied = copy(&*source, &*target, before, step.max(1), &mut at);
                let rest = || match whole.saturating_sub(size) {
                    rest if before == Target::Filled && rest > 0 => {
                        target.write_zeroes(size, rest, true)
                    }
                    _ => Ok(()),
                };
                let copied = copied.and_then(|()| rest()).and_then(|()| target.flush());
                copied.map_err(|error| Failure::io(true, &error))
            }
            Self::Resize { chain, bytes } => {
                let of_target = |error: ImageError| Failure::image(true, &error);
                let node = opened(&chain, &mut files).map_err(of_target)?;
                let disk = chain::open_qcow2(node, None).map_err(of_target)?;
                disk.grow(bytes).map_err(of_target)?;
                crate::Image::flush(&disk).map_err(|error| Failure::io(true, &error))
            }
            Self::Read { chain, offset, len } => {
                let of_source = |error: ImageError| Failure::image(false, &error);
                let node = opened(&chain, &mut files).map_err(of_source)?;
                let source = chain::open(node, true).map_err(of_source)?;
                let bytes = read(&*source, offset, len).map_err(of_source)?;
                let said = bytes.chunks(PIECE).map(|piece| Said::Bytes(piece.to_owned()));
                let mut said = said.map(|piece| say(&piece));
                said.try_for_each(|said| said).map_err(|error| Failure::io(false, &error))
            }
        }
    }
}

fn read(source: &dyn crate::Image, offset: u64, len: u32) -> Result<Vec<u8>, ImageError> {
    let size = source.size();
    if len > MOST_READ || offset.checked_add(len.into()).is_none_or(|end| end > size) {
        let text = format!("it has {size} bytes, and {len} from {offset} on do not lie in it");
        return Err(ImageError::Invalid(text));
    }
    let mut bytes = vec![0; len as usize];
    source.read(&mut bytes, offset).map_err(ImageError::io("it cannot be read"))?;
    Ok(bytes)
}

/// A chain of the next files.
fn opened(formats: &[Format], files: &mut dyn Iterator<Item = File>) -> Result<Node, ImageError> {
    let invalid = |text: &str| ImageError::Invalid(text.to_owned());
    if formats.is_empty() || formats.len() > MOST_DEEP {
        return Err(invalid("no chain has so many images"));
    }
    let mut nodes = Vec::with_capacity(formats.len());
    for format in formats {
        let file = files.next().ok_or_else(|| invalid("a file of the chain is missing"))?;
        let file = FileStorage::new(file).map_err(ImageError::io("cannot look at a file"))?;
        nodes.push(Node::new(*format, Arc::new(file)));
    }
    let chain = nodes.into_iter().rev().fold(None, |below: Option<Node>, mut node| {
        node.backing = below.map(Box::new);
        Some(node)
    });
    chain.ok_or_else(|| invalid("no image"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewImage;
    use crate::qcow2::CreateOptions;

    fn file(content: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(content).unwrap();
        file
    }

    fn qcow2(size: u64) -> File {
        let file = file(b"");
        let storage = FileStorage::new(file.try_clone().unwrap()).unwrap();
        NewImage::Qcow2(CreateOptions::new(size)).create(&storage, size).unwrap();
        file
    }

    fn served(work: &Work, files: Vec<File>) -> Vec<Said> {
        let line = format!("{}\n", serde_json::to_string(work).unwrap());
        let mut said = Vec::new();
        serve(line.as_bytes(), &mut said, files).unwrap();
        said.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn shown(image: File, format: Format) -> Vec<u8> {
        let node = Node::new(format, Arc::new(FileStorage::new(image).unwrap()));
        let image = chain::open(node, true).unwrap();
        let mut content = vec![0; image.size() as usize];
        image.read(&mut content, 0).unwrap();
        content
    }

    #[test]
    fn an_image_is_copied_into_another_format_and_onto_what_is_filled() {
        let mut content = vec![0; 1 << 20];
        content[70_000..70_009].copy_from_slice(b"something");
        let copy = |source, target, before| Work::Copy {
            source: vec![source],
            target,
            before,
            step: 4096,
        };
        let there = qcow2(1 << 20);
        let files = vec![file(&content), there.try_clone().unwrap()];
        let said = served(&copy(Format::Raw, Format::Qcow2, Target::Blank), files);
        assert_eq!(said.last(), Some(&Said::Done));
        assert_eq!(said.first(), Some(&Said::At { done: 0, total: 1 << 20 }));
        assert!(shown(there.try_clone().unwrap(), Format::Qcow2) == content);

        let device = file(&vec![0xa5; 2 << 20]);
        let files = vec![there, device.try_clone().unwrap()];
        let said = served(&copy(Format::Qcow2, Format::Raw, Target::Filled), files);
        assert_eq!(said.last(), Some(&Said::Done));
        content.resize(2 << 20, 0);
        assert!(shown(device, Format::Raw) == content, "the rest is zeros");
    }

    #[test]
    fn a_qcow2_image_is_resized() {
        let image = qcow2(1 << 20);
        let work = Work::Resize { chain: vec![Format::Qcow2], bytes: 3 << 20 };
        assert_eq!(served(&work, vec![image.try_clone().unwrap()]), [Said::Done]);
        assert_eq!(shown(image, Format::Qcow2).len(), 3 << 20);
    }

    #[test]
    fn a_part_of_what_a_chain_shows_is_read_and_nothing_behind_its_end() {
        let mut content: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        content[70_000..70_009].copy_from_slice(b"something");
        let image = qcow2(1 << 20);
        let copy = Work::Copy {
            source: vec![Format::Raw],
            target: Format::Qcow2,
            before: Target::Blank,
            step: 4096,
        };
        served(&copy, vec![file(&content), image.try_clone().unwrap()]);
        let said = |offset, len| {
            let work = Work::Read { chain: vec![Format::Qcow2], offset, len };
            served(&work, vec![image.try_clone().unwrap()])
        };
        let read = |offset, len| {
            let mut said = said(offset, len);
            assert_eq!(said.pop(), Some(Said::Done), "{offset} {len}");
            let piece = |said| match said {
                Said::Bytes(piece) => piece,
                other => panic!("{other:?}"),
            };
            said.into_iter().flat_map(piece).collect::<Vec<u8>>()
        };
        assert_eq!(read(70_000, 9), b"something");
        assert!(read(65_000, MOST_READ) == content[65_000..65_000 + MOST_READ as usize]);
        assert_eq!(read(1 << 20, 0), b"");
        for (offset, len) in [((1 << 20) - 1, 2), (u64::MAX, 1), (0, MOST_READ + 1)] {
            let said = said(offset, len).pop();
            assert!(matches!(said, Some(Said::Failed(Failure { cause: Cause::Image, .. }))));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_whose_it_is() {
        let copy = |source: Vec<Format>| Work::Copy {
            source,
            target: Format::Raw,
            before: Target::Blank,
            step: 1,
        };
        let failed = |work: &Work, files| match served(work, files).pop() {
            Some(Said::Failed(failure)) => (failure.of_target, failure.cause),
            other => panic!("{other:?}"),
        };
        let junk = || vec![file(b"junk"), file(b"")];
        assert_eq!(failed(&copy(vec![Format::Qcow2]), junk()), (false, Cause::Image));
        assert_eq!(failed(&copy(vec![]), junk()), (false, Cause::Image));
        assert_eq!(failed(&copy(vec![Format::Raw; 500]), junk()), (false, Cause::Image));
        assert_eq!(failed(&copy(vec![Format::Raw]), vec![file(b"")]), (true, Cause::Image));
        let work = Work::Resize { chain: vec![Format::Qcow2], bytes: 1 << 20 };
        assert_eq!(failed(&work, junk()), (true, Cause::Image));
        assert!(serve(&b"{}\n"[..], Vec::new(), Vec::new()).is_err());
    }

    /// As when a job is aborted.
    #[test]
    fn who_no_longer_listens_has_the_work_stopped() {
        struct Deaf(usize);
        impl Write for Deaf {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 2 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(data.len()) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let work = Work::Copy {
            source: vec![Format::Raw],
            target: Format::Raw,
            before: Target::Blank,
            step: 4096,
        };
        let line = format!("{}\n", serde_json::to_string(&work).unwrap());
        let target = file(&vec![0; 16 << 20]);
        let files = vec![file(&vec![1; 16 << 20]), target.try_clone().unwrap()];
        assert!(serve(line.as_bytes(), Deaf(0), files).is_err());
        assert_eq!(shown(target, Format::Raw).last(), Some(&0), "not all was copied");
    }
}
