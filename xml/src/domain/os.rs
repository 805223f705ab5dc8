//! What the guest boots: firmware or kernel, boot order, and what SMBIOS says.

use std::path::PathBuf;

use crate::element::element;
use crate::value::{YesNo, names};

names! {
    pub enum OsKind { Hvm = "hvm", Linux = "linux", Xen = "xen", XenPvh = "xenpvh", Exe = "exe" }
    pub enum Firmware { Bios = "bios", Efi = "efi" }
    pub enum FirmwareFeatureName { EnrolledKeys = "enrolled-keys", SecureBoot = "secure-boot" }
    pub enum LoaderKind { Rom = "rom", Pflash = "pflash" }
    pub enum LoaderFormat { Raw = "raw", Qcow2 = "qcow2" }
    pub enum BootDevice { Hd = "hd", Fd = "fd", Cdrom = "cdrom", Network = "network" }
    pub enum SmbiosMode { Emulate = "emulate", Host = "host", Sysinfo = "sysinfo" }
    pub enum SysinfoKind { Smbios = "smbios", FwCfg = "fwcfg" }
}

element! {
    pub struct Os {
        attr firmware: Option<Firmware>,
        child("type") kind: OsType,
        child("firmware") firmware_features: Option<FirmwareFeatures>,
        child loader: Option<Loader>,
        child nvram: Option<Nvram>,
        child kernel: Option<PathBuf>,
        child initrd: Option<PathBuf>,
        child cmdline: Option<String>,
        leaf("boot" "dev") boot: Vec<BootDevice>,
        child("bootmenu") boot_menu: Option<BootMenu>,
        leaf("smbios" "mode") smbios: Option<SmbiosMode>,
        child bios: Option<Bios>,
    }
    refuse ["root", "dtb", "shim", "varstore", "acpi", "init", "initarg", "initenv", "initdir", "inituser", "initgroup", "idmap"];
}

element! {
    /// `<type arch='x86_64' machine='q35'>hvm</type>`
    pub struct OsType {
        attr arch: Option<String>,
        attr machine: Option<String>,
        text kind: OsKind,
    }
}

element! {
    #[derive(Default)]
    pub struct FirmwareFeatures {
        child("feature") features: Vec<FirmwareFeature>,
    }
}

element! {
    pub struct FirmwareFeature {
        attr enabled: YesNo,
        attr name: FirmwareFeatureName,
    }
}

element! {
    /// The path is absent where libvirt is to choose firmware by its features.
    #[derive(Default)]
    pub struct Loader {
        attr("readonly") read_only: Option<YesNo>,
        attr secure: Option<YesNo>,
        attr("type") kind: Option<LoaderKind>,
        attr stateless: Option<YesNo>,
        attr format: Option<LoaderFormat>,
        text path: Option<PathBuf>,
    }
}

element! {
    /// The guest's own firmware variables, made from `template` at first start.
    #[derive(Default)]
    pub struct Nvram {
        attr template: Option<PathBuf>,
        attr("templateFormat") template_format: Option<LoaderFormat>,
        attr format: Option<LoaderFormat>,
        text path: Option<PathBuf>,
    }
    refuse ["@type", "source"];
}

element! {
    pub struct BootMenu {
        attr enable: YesNo,
        attr timeout: Option<u16>,
    }
}

element! {
    #[derive(Default)]
    pub struct Bios {
        attr("useserial") use_serial: Option<YesNo>,
        attr("rebootTimeout") reboot_timeout: Option<i32>,
    }
}

element! {
    pub struct Sysinfo {
        attr("type") kind: SysinfoKind,
        child bios: Option<SysinfoBlock>,
        child system: Option<SysinfoBlock>,
        child("baseBoard") base_boards: Vec<SysinfoBlock>,
        child chassis: Option<SysinfoBlock>,
        child("oemStrings") oem_strings: Option<OemStrings>,
        child("entry") entries: Vec<FwCfgEntry>,
    }
}

element! {
    #[derive(Default)]
    pub struct SysinfoBlock {
        child("entry") entries: Vec<SysinfoEntry>,
    }
}

names! {
    pub enum SysinfoField {
        Vendor = "vendor", Version = "version", Date = "date", Release = "release",
        Manufacturer = "manufacturer", Product = "product", Serial = "serial", Uuid = "uuid", Sku = "sku",
        Family = "family", Asset = "asset", Location = "location",
    }
}

element! {
    pub struct SysinfoEntry {
        attr name: SysinfoField,
        text value: Option<String>,
    }
}

element! {
    #[derive(Default)]
    pub struct OemStrings {
        child("entry") entries: Vec<String>,
    }
}

element! {
    pub struct FwCfgEntry {
        attr name: String,
        attr file: Option<PathBuf>,
        text value: Option<String>,
    }
}
