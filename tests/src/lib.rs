//! Test harness shared by the suites under `tests/`: the emulated host (see docs/testing.md),
//! Debian's kernel as a guest, and the packages both are made from.

pub mod apt;
pub mod binaries;
pub mod browser;
pub mod chance;
pub mod cpio;
pub mod debian;
pub mod disk;
pub mod documents;
pub mod domain;
pub mod doom;
pub mod firmware;
pub mod guest;
pub mod http;
pub mod installed;
pub mod kernel;
pub mod kvm;
pub mod libvirt;
pub mod libvirt_raw;
pub mod libvirt_server;
pub mod libvirtd;
pub mod manor_server;
pub mod modules;
pub mod nbd;
pub mod paths;
pub mod picture;
pub mod prometheus;
pub mod qemu;
pub mod rfb;
pub mod seeds;
pub mod small_fs;
pub mod state;
pub mod testbed;
pub mod tools;
pub mod torture;
pub mod tree;
pub mod tries;
pub mod userland;
pub mod vencrypt;
pub mod viewers;
pub mod warden;

pub use binaries::manor_binary;
pub use domain::Xml;
pub use http::Api;
pub use kvm::KvmLevel;
pub use testbed::{HostCrash, Output, Testbed};
