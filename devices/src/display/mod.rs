//! What a guest shows, and who looks at it: graphics cards draw onto a [`Surface`], and a
//! [`Screen`] serves VNC viewers and takers of pictures from it.

mod colour;
mod inputs;
pub mod keymap;
mod picture;
mod ramfb;
mod screen;
pub(crate) mod surface;
pub mod vga;
pub(crate) mod vnc;

pub use inputs::Inputs;
pub use ramfb::Ramfb;
pub use screen::{Listener, Screen, ScreenWorker, Sharing};
pub use surface::{Rect, Surface, TILE};
pub use vnc::{Password, Terms, Tls, TlsError, TlsParts};

/// A monitor output.
pub trait Scanout: Send + Sync {
    /// Draw what a monitor would show now, every row of it. `blink`: whether what blinks is seen.
    fn draw(&self, surface: &mut Surface, blink: bool);
}
