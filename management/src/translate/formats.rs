//! Image formats: libvirt's names, the image room's, the VMM's.

use image::Format;
use vmm_protocol::config::ImageFormat;
use xml::device::disk::DiskFormat;

/// Each format that is provided, by its three names. libvirt has none for VHDX.
const ALL: [(DiskFormat, Format, ImageFormat); 5] = [
    (DiskFormat::Raw, Format::Raw, ImageFormat::Raw),
    (DiskFormat::Qcow2, Format::Qcow2, ImageFormat::Qcow2),
    (DiskFormat::Vmdk, Format::Vmdk, ImageFormat::Vmdk),
    (DiskFormat::Vdi, Format::Vdi, ImageFormat::Vdi),
    (DiskFormat::Vpc, Format::Vpc, ImageFormat::Vpc),
];

pub(crate) fn of_xml(format: DiskFormat) -> Option<Format> {
    // Two names for one format.
    let format = if format == DiskFormat::Vhd { DiskFormat::Vpc } else { format };
    ALL.iter().find(|(xml, ..)| *xml == format).map(|(_, format, _)| *format)
}

/// None: a guest's disk cannot be in it.
pub(crate) fn to_xml(format: Format) -> Option<DiskFormat> {
    ALL.iter().find(|(_, other, _)| *other == format).map(|(xml, ..)| *xml)
}

/// None: as for `to_xml`.
pub(crate) fn to_config(format: Format) -> Option<ImageFormat> {
    ALL.iter().find(|(_, other, _)| *other == format).map(|(.., config)| *config)
}

/// Their names, for people.
pub(super) fn names() -> String {
    ALL.map(|(xml, ..)| xml.to_string()).join(", ")
}
