//! Screens, who sees them, and what their users work with.

use serde::{Deserialize, Serialize};

use super::Fd;

/// A graphics card. Its picture is there also without a [`Vnc`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Video {
    pub model: VideoModel,
    /// Bytes of video memory: a power of two from 1 to 32 MiB.
    pub memory: u64,
    /// The size that its monitor prefers.
    pub resolution: (u16, u16),
    /// The VGA BIOS.
    pub rom: Option<Fd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoModel {
    /// With all that a PC's firmware looks for.
    Vga,
    /// `bochs-display`: a frame buffer alone.
    Bochs,
}

/// A screen without a card: firmware draws in the guest's own memory. It is on no bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramfb {
    pub id: String,
    /// The VGA BIOS for it.
    pub rom: Option<Fd>,
}

/// A VNC server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vnc {
    /// Listening stream sockets, TCP or unix.
    pub listeners: Vec<Fd>,
    /// None lets everyone in, an empty one nobody.
    pub password: Option<VncPassword>,
    /// None: what viewers see can be read on the way.
    #[serde(default)]
    pub tls: Option<VncTls>,
    pub sharing: VncSharing,
}

/// Texts in PEM, in files so that the key is in no configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VncTls {
    pub certificate: Fd,
    pub key: Fd,
    /// Who signs the certificates that viewers must have; none: they need none.
    pub viewers: Option<Fd>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VncPassword {
    /// Eight bytes of it count.
    pub text: String,
    /// Seconds since the Unix epoch.
    pub valid_to: Option<u64>,
}

impl std::fmt::Debug for VncPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VncPassword").field("valid_to", &self.valid_to).finish_non_exhaustive()
    }
}

/// What becomes of the others when a viewer wants to be alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VncSharing {
    /// They have to go.
    AllowExclusive,
    /// They stay, and it has to go.
    ForceShared,
    /// All stay.
    Ignore,
}

/// What a display's user works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub role: InputRole,
    pub io_thread: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputRole {
    Keyboard,
    Mouse,
    Tablet,
}
