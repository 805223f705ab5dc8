//! What SMBIOS tells of a machine: the words of its configuration over our own.

use boot::smbios::{BaseBoard, Identity};
use vmm_protocol::config::{Machine, MachineConfig, SmbiosStrings};

use super::BuildError;

/// Structures have handles of one range.
const MAX_BASE_BOARDS: usize = 16;

pub(super) fn identity(config: &MachineConfig) -> Result<Identity, BuildError> {
    let machine = match config.platform.machine {
        Machine::Q35 => "q35",
        Machine::Pc => "pc",
        Machine::Microvm => "microvm",
    };
    let version = format!("{machine}-{}", config.platform.version);
    let mut identity = Identity::new(*config.identity.uuid.as_bytes(), &version);

    let given = &config.smbios;
    let SmbiosStrings { vendor, version, date, release, .. } = &given.bios;
    let bios = &mut identity.bios;
    put(&mut bios.vendor, vendor);
    put(&mut bios.version, version);
    put(&mut bios.date, date);
    bios.release = release.as_deref().map(parse_release).transpose()?;

    let SmbiosStrings { manufacturer, product, version, serial, sku, family, .. } = &given.system;
    let system = &mut identity.system;
    put(&mut system.manufacturer, manufacturer);
    put(&mut system.product, product);
    put(&mut system.version, version);
    put(&mut system.serial, serial);
    put(&mut system.sku, sku);
    put(&mut system.family, family);

    let SmbiosStrings { manufacturer, version, serial, asset, sku, .. } = &given.chassis;
    let chassis = &mut identity.chassis;
    put(&mut chassis.manufacturer, manufacturer);
    put(&mut chassis.version, version);
    put(&mut chassis.serial, serial);
    put(&mut chassis.asset, asset);
    put(&mut chassis.sku, sku);

    let count = given.base_boards.len();
    if count > MAX_BASE_BOARDS {
        return Err(BuildError::config("number of base boards", count, "must be at most 16"));
    }
    identity.base_boards = given.base_boards.iter().map(base_board).collect();
    let count = given.oem_strings.len();
    if count > usize::from(u8::MAX) {
        return Err(BuildError::config("number of OEM strings", count, "must be at most 255"));
    }
    identity.oem_strings = given.oem_strings.clone();
    Ok(identity)
}

fn base_board(given: &SmbiosStrings) -> BaseBoard {
    let text = |given: &Option<String>| given.clone().unwrap_or_default();
    BaseBoard {
        manufacturer: text(&given.manufacturer),
        product: text(&given.product),
        version: text(&given.version),
        serial: text(&given.serial),
        asset: text(&given.asset),
        location: text(&given.location),
    }
}

fn put(field: &mut String, given: &Option<String>) {
    if let Some(text) = given {
        field.clone_from(text);
    }
}

fn parse_release(text: &str) -> Result<(u8, u8), BuildError> {
    let parsed = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let reason = "must be MAJOR.MINOR, each 0 to 255";
    parsed.ok_or_else(|| BuildError::config("BIOS release", text, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_two_small_numbers() {
        assert_eq!(parse_release("4.2").unwrap(), (4, 2));
        for bad in ["", "4", "4.", "4.256", "x.1", "4.2.1"] {
            assert!(parse_release(bad).is_err(), "{bad:?}");
        }
    }
}
