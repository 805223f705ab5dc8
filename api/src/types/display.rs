//! A guest's keyboard.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Keys that are pressed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendKeys {
    /// Names (`KEY_LEFTCTRL`) or numbers (`29`, `0x1d`).
    pub keys: Vec<String>,
    /// What numbers are: `linux`, `xt`, `atset1` or `qnum`.
    #[serde(default = "linux")]
    pub codeset: String,
    /// Milliseconds that they are held.
    #[serde(default = "hold")]
    pub hold_ms: u32,
}

fn linux() -> String {
    "linux".to_owned()
}

/// Long enough for any guest to see it, and too short to repeat.
fn hold() -> u32 {
    50
}

impl SendKeys {
    /// These keys by their Linux names, pressed shortly.
    #[must_use]
    pub fn of(keys: Vec<String>) -> Self {
        Self { keys, codeset: linux(), hold_ms: hold() }
    }
}
