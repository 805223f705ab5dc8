//! `<rng>`: randomness from the host.

use std::path::PathBuf;

use crate::device::address::DeviceAddress;
use crate::device::chardev::{CharProtocol, CharSource, CharType};
use crate::device::{VirtioDriver, VirtioModel};
use crate::element::{choice, element};

element! {
    pub struct Rng {
        attr model: VirtioModel,
        child rate: Option<RngRate>,
        child backend: RngBackend,
        child driver: Option<VirtioDriver>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
}

element! {
    /// Bytes per period of milliseconds.
    #[derive(Copy)]
    pub struct RngRate {
        attr bytes: u32,
        attr period: Option<u32>,
    }
}

choice! {
    pub enum RngBackend by "model" {
        /// A file to read, /dev/urandom if none is named.
        Random(RandomFile) = "random",
        /// An entropy gathering daemon.
        Egd(Egd) = "egd",
        /// The monitor's own source.
        Builtin(BuiltinRng) = "builtin",
    }
}

element! {
    #[derive(Default)]
    pub struct RandomFile {
        text path: Option<PathBuf>,
    }
}

element! {
    pub struct Egd {
        attr("type") kind: CharType,
        child("source") sources: Vec<CharSource>,
        leaf("protocol" "type") protocol: Option<CharProtocol>,
    }
}

element! {
    #[derive(Default)]
    pub struct BuiltinRng {}
}
