//! What a guest shows: graphics cards that draw onto a [`Surface`], and who looks at it.

pub(crate) mod surface;
pub mod vga;

pub use surface::{Rect, Surface, TILE};

/// A monitor output.
pub trait Scanout: Send + Sync {
    /// Draw what a monitor would show now, every row of it. `blink`: whether what blinks is seen.
    fn draw(&self, surface: &mut Surface, blink: bool);
}
