//! Rectangles as a viewer wants them: raw, ZRLE or tight, the latter two through one zlib stream
//! for as long as the connection lasts.

use flate2::{Compress, Compression, FlushCompress};

use super::pixels::Format;
use super::spec::{RAW, TIGHT, ZRLE};
use super::{tight, zrle};

/// The colours of a rectangle, row after row.
pub(super) struct Block<'a> {
    pub(super) width: usize,
    pub(super) pixels: &'a [u32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Zrle,
    Tight,
}

impl Encoding {
    pub(super) fn of(number: i32) -> Option<Self> {
        match number {
            RAW => Some(Self::Raw),
            ZRLE => Some(Self::Zrle),
            TIGHT => Some(Self::Tight),
            _ => None,
        }
    }

    pub(super) fn number(self) -> i32 {
        match self {
            Self::Raw => RAW,
            Self::Zrle => ZRLE,
            Self::Tight => TIGHT,
        }
    }
}

/// The streams of a connection. They are made when first used: most viewers use one.
#[derive(Default)]
pub(super) struct Encoder {
    zrle: Option<Stream>,
    tight: tight::Streams,
    /// What is about to be compressed; kept, to save allocations.
    plain: Vec<u8>,
}

impl Encoder {
    pub(super) fn encode(
        &mut self,
        encoding: Encoding,
        block: &Block<'_>,
        format: &Format,
        out: &mut Vec<u8>,
    ) {
        match encoding {
            Encoding::Raw => {
                for colour in block.pixels {
                    format.put(*colour, out);
                }
            }
            Encoding::Zrle => {
                self.plain.clear();
                zrle::encode(block, format, &mut self.plain);
                let length_at = out.len();
                out.extend_from_slice(&[0; 4]);
                self.zrle.get_or_insert_with(Stream::new).deflate(&self.plain, out);
                let length = (out.len() - length_at - 4) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            }
            Encoding::Tight => tight::encode(block, format, &mut self.tight, &mut self.plain, out),
        }
    }
}

/// One zlib stream, of which each piece can be read to its end when it arrives.
pub(super) struct Stream(Compress);

impl Stream {
    pub(super) fn new() -> Self {
        Self(Compress::new(Compression::fast(), true))
    }

    pub(super) fn deflate(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let mut done = 0;
        loop {
            out.reserve(data.len() - done + 256);
            let before = self.0.total_in();
            // The one error there is means that nothing was left to do.
            let flush = FlushCompress::Sync;
            let result = self.0.compress_vec(data.get(done..).unwrap_or_default(), out, flush);
            done += (self.0.total_in() - before) as usize;
            // What has room left has said all it had.
            if result.is_err() || (done >= data.len() && out.len() < out.capacity()) {
                return;
            }
        }
    }
}
