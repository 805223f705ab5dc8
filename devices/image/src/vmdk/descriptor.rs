//! The descriptor: lines of text, some with the extents, some with `name=value`.

use super::{SECTOR, damaged};
use crate::error::ImageError;
use crate::format::Format;

const MOST_EXTENTS: usize = 4096;

#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) create_type: String,
    pub(super) parent: Option<String>,
    pub(super) extents: Vec<Extent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtentKind {
    Flat,
    Sparse,
    Zero,
}

#[derive(Debug)]
pub(super) struct Extent {
    pub(super) access: Access,
    sectors: u64,
    pub(super) kind: ExtentKind,
    name: String,
    /// Sectors of a flat extent's file before its data.
    pub(super) offset: u64,
}

impl Extent {
    pub(super) fn bytes(&self) -> Result<u64, ImageError> {
        let bytes = self.sectors.checked_mul(SECTOR).filter(|bytes| *bytes < 1 << 60);
        bytes.ok_or_else(|| damaged(format!("an extent of {} sectors", self.sectors)))
    }

    /// `RW 4192256 FLAT "disk-flat.vmdk" 0`; none if it is no extent's line.
    fn parse(line: &str) -> Result<Option<Self>, ImageError> {
        let Some((access, rest)) = line.split_once(' ') else { return Ok(None) };
        let access = match access {
            "RW" => Access::ReadWrite,
            "RDONLY" => Access::ReadOnly,
            "NOACCESS" => {
                return Err(ImageError::unsupported(Format::Vmdk, "an extent without access"));
            }
            _ => return Ok(None),
        };
        let wrong = || {
            damaged(format!("an extent written {:?}", line.chars().take(80).collect::<String>()))
        };
        let (sectors, rest) = rest.trim_start().split_once(' ').ok_or_else(wrong)?;
        let sectors = sectors.parse().map_err(|_| wrong())?;
        let rest = rest.trim_start();
        let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let kind = match kind {
            "FLAT" | "VMFS" => ExtentKind::Flat,
            "SPARSE" => ExtentKind::Sparse,
            "ZERO" => ExtentKind::Zero,
            other => {
                let other: String = other.chars().take(20).collect();
                return Err(ImageError::unsupported(
                    Format::Vmdk,
                    format!("an extent of type {other}"),
                ));
            }
        };
        let (mut name, mut offset) = (String::new(), 0);
        if kind != ExtentKind::Zero {
            let quoted = rest.trim_start().strip_prefix('"').ok_or_else(wrong)?;
            let (file, rest) = quoted.split_once('"').ok_or_else(wrong)?;
            file.clone_into(&mut name);
            let rest = rest.trim();
            if kind == ExtentKind::Flat && !rest.is_empty() {
                offset = rest.parse().map_err(|_| wrong())?;
            }
            if name.is_empty() || name.contains('\0') || offset > 1 << 50 {
                return Err(wrong());
            }
        }
        Ok(Some(Self { access, sectors, kind, name, offset }))
    }
}

impl Descriptor {
    pub(super) fn parse(text: &[u8]) -> Result<Self, ImageError> {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let text = std::str::from_utf8(&text[..end]);
        let text = text.map_err(|_| damaged("a descriptor that is no text"))?;
        let mut descriptor = Self { create_type: String::new(), parent: None, extents: Vec::new() };
        let mut hint = None;
        let mut parent = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(extent) = Extent::parse(line)? {
                descriptor.extents.push(extent);
                if descriptor.extents.len() > MOST_EXTENTS {
                    return Err(damaged("more than 4096 extents"));
                }
                continue;
            }
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "createType" => value.clone_into(&mut descriptor.create_type),
                "parentCID" => parent = !value.eq_ignore_ascii_case("ffffffff"),
                "parentFileNameHint" => hint = Some(value.to_owned()),
                _ => {}
            }
        }
        if parent || hint.is_some() {
            descriptor.parent = Some(hint.unwrap_or_else(|| "without a name".into()));
        }
        if descriptor.extents.is_empty() {
            return Err(damaged("no extents"));
        }
        Ok(descriptor)
    }

    pub(super) fn size(&self) -> Result<u64, ImageError> {
        self.extents.iter().try_fold(0_u64, |sum, extent| {
            let sum = sum.checked_add(extent.bytes()?).filter(|sum| *sum < 1 << 60);
            sum.ok_or_else(|| damaged("extents of an impossible size"))
        })
    }

    /// The files to be opened, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let files = self.extents.iter().filter(|extent| extent.kind != ExtentKind::Zero);
        files.map(|extent| extent.name.clone()).collect()
    }
}
