//! Image formats: libvirt's names, the image room's, the VMM's.

use image::Format;
use vmm_protocol::config::ImageFormat;
use xml::device::disk::DiskFormat;

/// Each format that is provided, by its three names.
const ALL: [(DiskFormat, Format, ImageFormat); 2] = [
    (DiskFormat::Raw, Format::Raw, ImageFormat::Raw),
    (DiskFormat::Qcow2, Format::Qcow2, ImageFormat::Qcow2),
];

pub(crate) fn of_xml(format: DiskFormat) -> Option<Format> {
    ALL.iter().find(|(xml, ..)| *xml == format).map(|(_, format, _)| *format)
}

pub(crate) fn to_xml(format: Format) -> DiskFormat {
    let found = ALL.iter().find(|(_, other, _)| *other == format);
    found.map_or(DiskFormat::Raw, |(xml, ..)| *xml)
}

pub(crate) fn to_config(format: Format) -> ImageFormat {
    let found = ALL.iter().find(|(_, other, _)| *other == format);
    found.map_or(ImageFormat::Raw, |(.., config)| *config)
}

/// Their names, for people.
pub(super) fn names() -> String {
    ALL.map(|(xml, ..)| xml.to_string()).join(", ")
}
