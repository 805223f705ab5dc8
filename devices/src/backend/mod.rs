//! The host side of devices: where their bytes come from and go to.

pub mod chardev;
