//! `-o NAME=VALUE,…`: the options of a format, by qemu-img's names.

use image::qcow2::{Compression, CreateOptions};

use super::size::Size;
use crate::failure::Failure;

const QCOW2: [&str; 9] = [
    "cluster_size",
    "compat",
    "compression_type",
    "data_file",
    "data_file_raw",
    "extended_l2",
    "lazy_refcounts",
    "preallocation",
    "refcount_bits",
];

/// Pairs, as they were written.
pub(super) fn pairs(texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let words = texts.iter().flat_map(|text| text.split(',')).filter(|word| !word.is_empty());
    words
        .map(|word| match word.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => {
                Err(Failure::usage(format!("option {word:?} has no value; write {word}=VALUE")))
            }
        })
        .collect()
}

/// A format without any.
pub(super) fn none(pairs: &[(String, String)], format: image::Format) -> Result<(), Failure> {
    match pairs.first() {
        Some((name, _)) => Err(Failure::usage(format!("{format} has no option {name:?}"))),
        None => Ok(()),
    }
}

pub(super) fn qcow2(pairs: &[(String, String)], size: u64) -> Result<CreateOptions, Failure> {
    let mut options = CreateOptions::new(size);
    for (name, value) in pairs {
        let wrong = |known: &str| {
            Failure::usage(format!("option {name}={value} is not possible; use {known}"))
        };
        let switch = || match value.as_str() {
            "on" | "true" | "yes" => Ok(true),
            "off" | "false" | "no" => Ok(false),
            _ => Err(wrong("on or off")),
        };
        match name.as_str() {
            "cluster_size" => {
                let size: Size = value.parse().map_err(|_| wrong("a size such as 64K"))?;
                options.cluster_size = size.0;
            }
            "compat" => {
                options.version = match value.as_str() {
                    "0.10" | "v2" => 2,
                    "1.1" | "v3" => 3,
                    _ => return Err(wrong("0.10 or 1.1")),
                }
            }
            "compression_type" => {
                options.compression = match value.as_str() {
                    "zlib" => Compression::Zlib,
                    "zstd" => Compression::Zstd,
                    _ => return Err(wrong("zlib or zstd")),
                }
            }
            "refcount_bits" => {
                options.refcount_bits = value.parse().map_err(|_| wrong("a number of bits"))?;
            }
            "lazy_refcounts" => options.lazy_refcounts = switch()?,
            "extended_l2" => options.extended_l2 = switch()?,
            "data_file_raw" => options.data_file_raw = switch()?,
            "data_file" => options.data_file = Some(value.clone()),
            "preallocation" if value == "off" => {}
            "preallocation" => return Err(wrong("off: nothing else is provided")),
            _ => {
                let failure = Failure::usage(format!("qcow2 has no option {name:?}"));
                return Err(failure.hint_near(name, QCOW2.map(str::to_owned).into_iter()));
            }
        }
    }
    Ok(options)
}

/// Checked, and nothing to choose.
pub(super) fn vmdk(pairs: &[(String, String)]) -> Result<(), Failure> {
    let one = |name: &str, value: &str| name == "subformat" && value == "monolithicSparse";
    match pairs.iter().find(|(name, value)| !one(name, value)) {
        Some((name, value)) => {
            let line = format!("option {name}={value} is not possible for vmdk");
            Err(Failure::usage(line)
                .hint("there is subformat=monolithicSparse, which is the default"))
        }
        None => Ok(()),
    }
}

/// Whether the image is fixed.
pub(super) fn vdi(pairs: &[(String, String)]) -> Result<bool, Failure> {
    fixed(pairs, "vdi", &[("static", "on", true), ("static", "off", false)])
}

/// Whether the image is fixed. The size is always the one that was asked for.
pub(super) fn vpc(pairs: &[(String, String)]) -> Result<bool, Failure> {
    let known = [
        ("subformat", "fixed", true),
        ("subformat", "dynamic", false),
        ("force_size", "on", false),
    ];
    fixed(pairs, "vpc", &known)
}

fn fixed(
    pairs: &[(String, String)],
    format: &str,
    known: &[(&str, &str, bool)],
) -> Result<bool, Failure> {
    let mut fixed = false;
    for (name, value) in pairs {
        let found = known.iter().find(|(known, one, _)| known == name && one == value);
        let Some((.., wanted)) = found else {
            let all: Vec<_> =
                known.iter().map(|(name, value, _)| format!("{name}={value}")).collect();
            let line = format!("option {name}={value} is not possible for {format}");
            return Err(Failure::usage(line).hint(format!("there are {}", all.join(", "))));
        };
        fixed |= wanted;
    }
    Ok(fixed)
}
