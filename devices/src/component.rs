//! [`Component`]: what the machine asks of every device, whatever bus it sits on.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A part of the machine with a life of its own.
///
/// The machine calls `pause` before `save`, and `resume` or `reset` afterwards; vCPUs are stopped
/// during all of them, so no bus access runs at the same time.
pub trait Component: Send + Sync {
    /// Unique in the machine and stable over its life: the alias of the device (`virtio-disk0`).
    fn id(&self) -> &str;

    /// Names the layout of the saved state (`virtio-blk`); with [`DeviceState::version`] it decides
    /// whether a saved state fits.
    fn kind(&self) -> &'static str;

    /// Stop producing work: in-flight I/O is drained, queues are handed back. Idempotent.
    fn pause(&self) {}

    /// Go on after `pause`. Idempotent.
    fn resume(&self) {}

    /// Back to the state after power-on. In-flight work is drained first, its results dropped.
    fn reset(&self);

    /// The guest-visible state, as versioned data.
    fn save(&self) -> Result<DeviceState, StateError>;

    /// Take on a saved state. Called on a freshly built, paused device of the same configuration.
    fn restore(&self, state: &DeviceState) -> Result<(), StateError>;
}

/// The saved state of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct DeviceState {
    pub kind: String,
    /// Raised when the layout of `data` changes; a reader accepts the versions it knows.
    pub version: u16,
    /// postcard encoding of the device's own state type.
    pub data: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("saved state is of a {found}, this device is a {expected}")]
    Kind { expected: &'static str, found: String },
    #[error("saved {kind} state has version {found}, this build reads up to {newest}")]
    Version { kind: &'static str, found: u16, newest: u16 },
    #[error("saved {kind} state is damaged")]
    Damaged { kind: &'static str, source: postcard::Error },
    #[error("saved {kind} state does not fit this device: {reason}")]
    Mismatch { kind: &'static str, reason: String },
    #[error("{kind} could not be stopped to save it: {reason}")]
    Busy { kind: &'static str, reason: String },
}

impl DeviceState {
    /// Encode `state`.
    pub fn encode<T: Serialize>(
        kind: &'static str,
        version: u16,
        state: &T,
    ) -> Result<Self, StateError> {
        let data =
            postcard::to_stdvec(state).map_err(|source| StateError::Damaged { kind, source })?;
        Ok(Self { kind: kind.to_owned(), version, data })
    }

    /// Decode, checking that it is a `kind` of a version up to `newest`.
    pub fn decode<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        newest: u16,
    ) -> Result<T, StateError> {
        if self.kind != kind {
            return Err(StateError::Kind { expected: kind, found: self.kind.clone() });
        }
        if self.version == 0 || self.version > newest {
            return Err(StateError::Version { kind, found: self.version, newest });
        }
        postcard::from_bytes(&self.data).map_err(|source| StateError::Damaged { kind, source })
    }
}
