//! [`Picture`]: what a PNG file shows, to be compared.

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
