//! [`Picture`]: what a PNG file or an X server's screen shows, to be compared.

use std::io::Cursor;

use anyhow::{Context, ensure};

#[derive(PartialEq, Eq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// `0x00RRGGBB`, row by row.
    pub pixels: Vec<u32>,
}

impl Picture {
    /// Of eight bits a channel, as programs write what was on a screen.
    pub fn of_png(file: &[u8]) -> anyhow::Result<Self> {
        let mut reader = png::Decoder::new(Cursor::new(file)).read_info()?;
        let mut bytes = vec![0; reader.output_buffer_size().context("a picture too large")?];
        let info = reader.next_frame(&mut bytes)?;
        ensure!(info.bit_depth == png::BitDepth::Eight, "{:?}", info.bit_depth);
        let channels = info.color_type.samples();
        ensure!(channels >= 3, "{:?}", info.color_type);
        let colour = |pixel: &[u8]| u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]]);
        let pixels = bytes[..info.buffer_size()].chunks_exact(channels).map(colour).collect();
        Ok(Self { width: info.width as usize, height: info.height as usize, pixels })
    }

    /// What Xvfb keeps in the file of `-fbdir`: an XWD file (X11/XWDFile.h) whose pixels are the screen.
    pub fn of_xwd(file: &[u8]) -> anyhow::Result<Self> {
        /// Places of the header's words, and the length of one colour of the map that follows it.
        const HEADER_SIZE: usize = 0;
        const WIDTH: usize = 4;
        const HEIGHT: usize = 5;
        const BYTE_ORDER: usize = 7;
        const BITS_PER_PIXEL: usize = 11;
        const BYTES_PER_LINE: usize = 12;
        const COLOURS: usize = 19;
        const COLOUR_SIZE: usize = 12;
        let field = |index: usize| -> anyhow::Result<usize> {
            let bytes = file.get(index * 4..).and_then(|rest| rest.first_chunk());
            Ok(u32::from_be_bytes(*bytes.context("an XWD file that is cut short")?) as usize)
        };
        ensure!(field(BITS_PER_PIXEL)? == 32 && field(BYTE_ORDER)? == 0, "another depth");
        let (width, height, line) = (field(WIDTH)?, field(HEIGHT)?, field(BYTES_PER_LINE)?);
        let begin = field(HEADER_SIZE)? + field(COLOURS)? * COLOUR_SIZE;
        let lines = file.get(begin..begin + line * height).context("an XWD file without pixels")?;
        let colour = |pixel: &[u8]| u32::from_le_bytes([pixel[0], pixel[1], pixel[2], 0]);
        let row =
            |line: &'_ [u8]| line[..width * 4].chunks_exact(4).map(colour).collect::<Vec<_>>();
        Ok(Self { width, height, pixels: lines.chunks_exact(line).flat_map(row).collect() })
    }

    pub fn at(&self, x: usize, y: usize) -> Option<u32> {
        (x < self.width).then(|| self.pixels.get(y * self.width + x).copied()).flatten()
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut colours = self.pixels.clone();
        colours.dedup();
        write!(
            f,
            "{} × {}, beginning with {:06x?}",
            self.width,
            self.height,
            colours.get(..8).unwrap_or(&colours)
        )
    }
}
