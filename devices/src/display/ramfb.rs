//! [`Ramfb`]: a screen without a card (QEMU's `ramfb`). Firmware draws into the guest's own memory, and tells where
//! through the fw_cfg file `etc/ramfb`.
//!
//! ```text
//! 0 u64 address   8 u32 format (DRM's fourcc)   12 u32 flags   16 u32 width   20 u32 height   24 u32 stride
//! ```
//! All big-endian. The numbers are the guest's: every frame is drawn from a copy of them that was checked against its
//! memory, and what cannot be shown is a dark screen.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use memory::GuestRam;
use serde::{Deserialize, Serialize};

use super::colour::{from_555, from_565};
use super::surface::{MAX_PIXELS, MAX_SIDE};
use super::{Scanout, Surface};
use crate::chipset::Writable;
use crate::component::{Component, DeviceState, StateError};
use crate::limit::warn_limited;
use crate::sync::Lock;

const LEN: usize = 28;
/// What a dark screen is as large as, like that of a card nobody has set a mode of.
const DARK: (u32, u32) = (720, 400);

pub struct Ramfb {
    id: String,
    ram: GuestRam,
    told: Mutex<[u8; LEN]>,
}

/// A picture that lies in guest memory.
#[derive(Debug, PartialEq, Eq)]
struct Mode {
    address: u64,
    format: Format,
    width: u32,
    height: u32,
    /// Bytes from row to row.
    stride: u64,
}

/// In what order a pixel's bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Bgrx,
    Rgbx,
    Bgr,
    Rgb,
    Short565,
    Short555,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    told: Vec<u8>,
}

impl Ramfb {
    /// The file that firmware writes.
    pub const FILE: &'static str = "etc/ramfb";

    #[must_use]
    pub fn new(id: &str, ram: GuestRam) -> Arc<Self> {
        Arc::new(Self { id: id.to_owned(), ram, told: Mutex::new([0; LEN]) })
    }
}

impl Format {
    /// Those that QEMU knows.
    fn of(fourcc: [u8; 4]) -> Option<Self> {
        Some(match &fourcc {
            b"XR24" | b"AR24" => Self::Bgrx,
            b"XB24" | b"AB24" => Self::Rgbx,
            b"RG24" => Self::Bgr,
            b"BG24" => Self::Rgb,
            b"RG16" => Self::Short565,
            b"XR15" | b"AR15" => Self::Short555,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::Bgrx | Self::Rgbx => 4,
            Self::Bgr | Self::Rgb => 3,
            Self::Short565 | Self::Short555 => 2,
        }
    }

    fn colour(self, pixel: &[u8]) -> u32 {
        match (self, pixel) {
            (Self::Bgrx | Self::Bgr, &[blue, green, red, ..])
            | (Self::Rgbx | Self::Rgb, &[red, green, blue, ..]) => {
                u32::from_be_bytes([0, red, green, blue])
            }
            (Self::Short565, &[low, high]) => from_565(u16::from_le_bytes([low, high])),
            (Self::Short555, &[low, high]) => from_555(u16::from_le_bytes([low, high])),
            _ => 0,
        }
    }
}

impl Mode {
    /// What was told, if a picture like that lies in `ram` with every byte of it.
    fn of(told: &[u8; LEN], ram: &GuestRam) -> Option<Self> {
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| told[at + i]));
        let address = u64::from(word(0)) << 32 | u64::from(word(4));
        // The characters are in the order of a little-endian number.
        let format = Format::of(word(8).to_le_bytes())?;
        let (width, height) = (word(16), word(20));
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width)
            || !sides.contains(&height)
            || u64::from(width) * u64::from(height) > MAX_PIXELS
        {
            return None;
        }
        let row = u64::from(width) * format.bytes() as u64;
        let stride = match word(24) {
            0 => row,
            stride => u64::from(stride),
        };
        // Neither overflows: 32 bits of stride, 13 of height.
        let len = stride * u64::from(height - 1) + row;
        ram.contains(address, len).then_some(Self { address, format, width, height, stride })
    }

    fn draw(&self, ram: &GuestRam, surface: &mut Surface) {
        if !surface.begin(self.width, self.height) {
            return;
        }
        let mut bytes = vec![0; self.width as usize * self.format.bytes()];
        let mut row = vec![0; self.width as usize];
        for y in 0..self.height {
            if ram.read_slice(self.address + u64::from(y) * self.stride, &mut bytes).is_err() {
                bytes.fill(0);
            }
            for (pixel, bytes) in row.iter_mut().zip(bytes.chunks_exact(self.format.bytes())) {
                *pixel = self.format.colour(bytes);
            }
            surface.put_row(y, &row);
        }
    }
}

impl Scanout for Ramfb {
    fn draw(&self, surface: &mut Surface, _blink: bool) {
        let told = *self.told.hold();
        match Mode::of(&told, &self.ram) {
            Some(mode) => mode.draw(&self.ram, surface),
            None if surface.begin(DARK.0, DARK.1) => surface.fill(0),
            None => {}
        }
    }
}

impl Writable for Ramfb {
    fn content(&self) -> Vec<u8> {
        self.told.hold().to_vec()
    }

    fn write(&self, offset: usize, data: &[u8]) {
        let mut told = self.told.hold();
        let end = offset.saturating_add(data.len());
        if let Some(part) = told.get_mut(offset..end) {
            part.copy_from_slice(data);
        }
        // Firmware writes all of it at once.
        if end == LEN && *told != [0; LEN] && Mode::of(&told, &self.ram).is_none() {
            warn_limited!(device = self.id, "the frame buffer is none that could be shown");
        }
    }
}

impl Component for Ramfb {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        "ramfb"
    }

    fn reset(&self) {
        *self.told.hold() = [0; LEN];
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &Saved { told: self.content() })
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: Saved = state.decode(self.kind(), 1)?;
        let told = saved.told.try_into().map_err(|_| StateError::Mismatch {
            kind: self.kind(),
            reason: "what the guest told has another length".to_owned(),
        })?;
        *self.told.hold() = told;
        Ok(())
    }
}
