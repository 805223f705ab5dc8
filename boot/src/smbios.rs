//! SMBIOS structures (DMTF DSP0134 3.0): how a guest learns its name and UUID.

/// What the structures tell. An empty string is one that is not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The domain's UUID, bytes in text order.
    pub uuid: [u8; 16],
    pub bios: Bios,
    pub system: System,
    pub base_boards: Vec<BaseBoard>,
    pub chassis: Chassis,
    pub oem_strings: Vec<String>,
}

/// Type 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bios {
    pub vendor: String,
    pub version: String,
    /// `MM/DD/YYYY`.
    pub date: String,
    /// Major and minor.
    pub release: Option<(u8, u8)>,
}

/// Type 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    pub manufacturer: String,
    pub product: String,
    pub version: String,
    pub serial: String,
    pub sku: String,
    pub family: String,
}

/// Type 2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseBoard {
    pub manufacturer: String,
    pub product: String,
    pub version: String,
    pub serial: String,
    pub asset: String,
    pub location: String,
}

/// Type 3.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chassis {
    pub manufacturer: String,
    pub version: String,
    pub serial: String,
    pub asset: String,
    pub sku: String,
}

impl Identity {
    /// Manor's own words around a domain's UUID.
    #[must_use]
    pub fn new(uuid: [u8; 16], machine: &str) -> Self {
        Self {
            uuid,
            bios: Bios {
                vendor: "Manor".into(),
                version: "1".into(),
                date: "01/01/2026".into(),
                release: None,
            },
            system: System {
                manufacturer: "Manor".into(),
                product: "Virtual Machine".into(),
                version: machine.into(),
                ..System::default()
            },
            base_boards: Vec::new(),
            chassis: Chassis {
                manufacturer: "Manor".into(),
                version: machine.into(),
                ..Chassis::default()
            },
            oem_strings: Vec::new(),
        }
    }
}

const ENTRY_LEN: u8 = 24;
/// Structures follow the entry point, aligned.
const TABLE_OFFSET: usize = 32;
/// Of the entry point of version 2, which SeaBIOS and the systems it boots look for.
const ANCHOR_LEN: u8 = 31;

const CHASSIS: u16 = 0x0300;

/// Entry point and structures for `address`, where scanning software finds the former.
#[must_use]
pub fn build(identity: &Identity, address: u64, vcpus: usize, ram: u64) -> Vec<u8> {
    let structures = structures(identity, vcpus, ram).bytes;
    let mut bytes = entry_point(address + TABLE_OFFSET as u64, structures.len() as u32);
    bytes.resize(TABLE_OFFSET, 0);
    bytes.extend(structures);
    bytes
}

/// Entry point and structures for firmware, which places both and says in the former where the
/// latter are: the files `etc/smbios/smbios-anchor` and `etc/smbios/smbios-tables`. None when they
/// are longer than the entry point can tell.
#[must_use]
pub fn for_firmware(identity: &Identity, vcpus: usize, ram: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let structures = structures(identity, vcpus, ram);
    let len = u16::try_from(structures.bytes.len()).ok()?;
    let mut anchor = b"_SM_\0".to_vec();
    anchor.extend([ANCHOR_LEN, 2, 8]); // version 2.8
    anchor.extend(structures.longest.to_le_bytes());
    anchor.extend([0; 6]); // entry point revision, formatted area
    anchor.extend(*b"_DMI_\0");
    anchor.extend(len.to_le_bytes());
    anchor.extend([0; 4]); // address
    anchor.extend(structures.count.to_le_bytes());
    anchor.push(0x28);
    // Firmware sums anew once it knows the address; until then both sums are right for zero.
    anchor[21] = checksum(&anchor[16..]);
    anchor[4] = checksum(&anchor);
    Some((anchor, structures.bytes))
}

fn checksum(bytes: &[u8]) -> u8 {
    0u8.wrapping_sub(bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte)))
}

fn structures(identity: &Identity, vcpus: usize, ram: u64) -> Structures {
    let mut table = Structures::default();
    bios(&identity.bios, &mut table);
    system(identity, &mut table);
    for (index, board) in (0u16..).zip(&identity.base_boards) {
        base_board(0x0200 + index, board, &mut table);
    }
    chassis(&identity.chassis, &mut table);
    // Type 4, one for each vCPU would repeat CPUID; one socket says that there is a CPU.
    table.add(4, 0x0400, &processor(vcpus), &["CPU 0", "Manor"]);
    if !identity.oem_strings.is_empty() {
        let strings: Vec<_> = identity.oem_strings.iter().map(String::as_str).collect();
        let strings = &strings[..strings.len().min(usize::from(u8::MAX))];
        table.add(11, 0x0e00, &[strings.len() as u8], strings);
    }
    memory(ram, &mut table);
    table.add(32, 0x2000, &[0, 0, 0, 0, 0, 0, 0], &[]); // booted without error
    table.add(127, 0x7f00, &[], &[]);
    table
}

fn bios(bios: &Bios, table: &mut Structures) {
    let mut strings = Strings(vec![]);
    let [vendor, version, date] =
        [&bios.vendor, &bios.version, &bios.date].map(|text| strings.put(text));
    // Characteristics "not supported"; extension 2: virtual machine, UEFI no.
    let mut body = vec![vendor, version, 0, 0, date, 0];
    body.extend(0x8u64.to_le_bytes());
    let (major, minor) = bios.release.unwrap_or((0, 0));
    body.extend([0, 0x10, major, minor, 0xff, 0xff, 0, 0]);
    table.add(0, 0x0000, &body, &strings.0);
}

fn system(identity: &Identity, table: &mut Structures) {
    let mut strings = Strings(vec![]);
    let System { manufacturer, product, version, serial, sku, family } = &identity.system;
    let mut body: Vec<u8> =
        [manufacturer, product, version, serial].map(|text| strings.put(text)).to_vec();
    body.extend(uuid_bytes(identity.uuid));
    body.push(6); // woken by the power switch
    body.extend([sku, family].map(|text| strings.put(text)));
    table.add(1, 0x0100, &body, &strings.0);
}

fn base_board(handle: u16, board: &BaseBoard, table: &mut Structures) {
    let mut strings = Strings(vec![]);
    let BaseBoard { manufacturer, product, version, serial, asset, location } = board;
    let mut body: Vec<u8> =
        [manufacturer, product, version, serial, asset].map(|text| strings.put(text)).to_vec();
    body.extend([1, strings.put(location)]); // hosts the processors
    body.extend(CHASSIS.to_le_bytes());
    body.extend([0x0a, 0]); // motherboard, nothing in it
    table.add(2, handle, &body, &strings.0);
}

fn chassis(chassis: &Chassis, table: &mut Structures) {
    let mut strings = Strings(vec![]);
    let Chassis { manufacturer, version, serial, asset, sku } = chassis;
    let manufacturer = strings.put(manufacturer);
    let mut body = vec![manufacturer, 1]; // other
    body.extend([version, serial, asset].map(|text| strings.put(text)));
    body.extend([3, 3, 3, 2]); // boot, power and thermal state: safe; security: unknown
    body.extend([0; 8]); // OEM's own, height, power cords, elements
    body.push(strings.put(sku));
    table.add(3, CHASSIS, &body, &strings.0);
}

/// Types 16 and 17: all RAM as one module.
fn memory(ram: u64, table: &mut Structures) {
    let (kib, extended) = match u32::try_from(ram >> 10) {
        Ok(kib) if kib < 0x8000_0000 => (kib, 0),
        _ => (0x8000_0000, ram),
    };
    let mut array = vec![1, 3, 6]; // other, system memory, multi-bit ECC
    array.extend(kib.to_le_bytes());
    array.extend([0xfe, 0xff, 1, 0]); // no error handle, one device
    array.extend(extended.to_le_bytes());
    table.add(16, 0x1000, &array, &[]);

    let mib = ram >> 20;
    let (size, large) = if mib < 0x7fff { (mib as u16, 0) } else { (0x7fff, mib as u32) };
    let mut dimm = 0x1000u16.to_le_bytes().to_vec();
    dimm.extend([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]);
    dimm.extend(size.to_le_bytes());
    dimm.extend([9, 0, 1, 0, 7, 2, 0, 0, 0, 2, 0, 0, 0, 0]); // DIMM 0, RAM; no speed, no maker
    dimm.extend(large.to_le_bytes());
    dimm.extend([0; 8]);
    table.add(17, 0x1100, &dimm, &["DIMM 0", "Manor"]);
}

fn entry_point(table: u64, max_len: u32) -> Vec<u8> {
    let mut entry = b"_SM3_\0".to_vec();
    entry.extend([ENTRY_LEN, 3, 0, 0, 1, 0]); // version 3.0, entry point revision 1
    entry.extend(max_len.to_le_bytes());
    entry.extend(table.to_le_bytes());
    entry[5] = checksum(&entry);
    entry
}

fn processor(vcpus: usize) -> Vec<u8> {
    let few = u8::try_from(vcpus).unwrap_or(0xff);
    let many = u16::try_from(vcpus).unwrap_or(u16::MAX);
    let mut body = vec![1, 3, 1, 2]; // socket, central processor, family other
    body.extend([0; 8]); // CPUID tells
    body.extend([0, 0, 0, 0, 0, 0, 0, 0]); // version, voltage, clock, speeds
    body.extend([0x41, 1]); // enabled, populated; socket other
    body.extend([0xff; 6]); // no cache handles
    body.extend([0, 0, 0, few, few, few]);
    body.extend([0x04, 0, 2, 0]); // 64-bit capable; family 2: unknown
    body.extend([many, many, many].map(u16::to_le_bytes).concat());
    body
}

/// The first three fields of a UUID are little-endian in SMBIOS.
fn uuid_bytes(mut uuid: [u8; 16]) -> [u8; 16] {
    uuid[0..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    uuid
}

/// Strings of one structure, by the number that its fields use.
struct Strings<'a>(Vec<&'a str>);

impl<'a> Strings<'a> {
    /// The number of `text`; 0, "none", when there is nothing to say.
    fn put(&mut self, text: &'a str) -> u8 {
        if text.is_empty() {
            return 0;
        }
        self.0.push(text);
        self.0.len() as u8
    }
}

#[derive(Default)]
struct Structures {
    bytes: Vec<u8>,
    count: u16,
    /// Bytes of the longest, strings included.
    longest: u16,
}

impl Structures {
    /// Append a structure: header, formatted part, strings, a NUL each, and one more.
    fn add(&mut self, kind: u8, handle: u16, body: &[u8], strings: &[&str]) {
        let start = self.bytes.len();
        self.bytes.extend([kind, body.len() as u8 + 4]);
        self.bytes.extend(handle.to_le_bytes());
        self.bytes.extend(body);
        let before = self.bytes.len();
        for string in strings {
            // A NUL would end the string early and shift the ones behind it.
            self.bytes.extend(string.bytes().filter(|byte| *byte != 0));
            self.bytes.push(0);
        }
        if self.bytes.len() == before {
            self.bytes.push(0);
        }
        self.bytes.push(0);
        self.count = self.count.saturating_add(1);
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.longest = self.longest.max(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", "q35")
    }

    /// Structures as (type, formatted part, strings).
    fn parse(bytes: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let (mut rest, mut found) = (&bytes[TABLE_OFFSET..], vec![]);
        while let [kind, len, ..] = *rest {
            let (formatted, tail) = rest.split_at(usize::from(len));
            let end = tail.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let strings = tail[..end]
                .split(|byte| *byte == 0)
                .filter(|string| !string.is_empty())
                .map(|string| String::from_utf8(string.to_vec()).unwrap());
            found.push((kind, formatted.to_vec(), strings.collect()));
            rest = &tail[end + 2..];
        }
        found
    }

    #[test]
    fn the_entry_point_leads_to_a_list_that_ends() {
        let bytes = build(&identity(), 0xf_0000, 4, 1 << 30);
        assert_eq!(&bytes[..5], b"_SM3_");
        assert_eq!(bytes[..24].iter().fold(0u8, |sum, b| sum.wrapping_add(*b)), 0);
        assert_eq!(u64::from_le_bytes(bytes[16..24].try_into().unwrap()), 0xf_0020);
        let kinds: Vec<_> = parse(&bytes).iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [0, 1, 3, 4, 16, 17, 32, 127]);
    }

    #[test]
    fn formatted_parts_have_the_lengths_of_the_specification() {
        let lens: Vec<_> = parse(&build(&identity(), 0, 4, 1 << 30))
            .iter()
            .map(|(_, formatted, _)| formatted.len())
            .collect();
        assert_eq!(lens, [0x1a, 0x1b, 0x16, 0x30, 0x17, 0x28, 0x0b, 4]);
    }

    #[test]
    fn the_uuid_has_its_first_fields_swapped() {
        let all = parse(&build(&identity(), 0, 1, 1 << 30));
        let (_, system, strings) = &all[1];
        assert_eq!(system[8..16], [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66]);
        assert_eq!(system[16], 0x88);
        assert_eq!(strings[..], ["Manor", "Virtual Machine", "q35"]);
    }

    #[test]
    fn a_missing_string_is_number_zero_and_the_others_keep_theirs() {
        let mut identity = identity();
        identity.system.product = String::new();
        identity.system.serial = "S1".into();
        let all = parse(&build(&identity, 0, 1, 1 << 30));
        assert_eq!(all[1].1[4..8], [1, 0, 2, 3]);
        assert_eq!(all[1].2[..], ["Manor", "q35", "S1"]);
    }

    #[test]
    fn strings_cannot_break_the_structure() {
        let mut identity = identity();
        identity.system.product = "a\0\0b".into();
        let all = parse(&build(&identity, 0, 1, 1 << 30));
        assert_eq!(all.len(), 8);
        assert_eq!(all[1].2[1], "ab");
    }

    #[test]
    fn terabytes_use_the_extended_fields() {
        let all = parse(&build(&identity(), 0, 1, 3 << 40));
        assert_eq!(u64::from_le_bytes(all[4].1[0x0f..0x17].try_into().unwrap()), 3 << 40);
        assert_eq!(u32::from_le_bytes(all[5].1[0x1c..0x20].try_into().unwrap()), 3 << 20);
    }

    #[test]
    fn boards_and_strings_of_a_definition_have_structures_of_their_own() {
        let mut identity = identity();
        let board = |product: &str, location: &str| BaseBoard {
            product: product.into(),
            location: location.into(),
            ..BaseBoard::default()
        };
        identity.base_boards = vec![board("one", ""), board("two", "top")];
        identity.oem_strings = vec!["a".into(), "b".into()];
        identity.bios.release = Some((4, 2));
        identity.chassis.sku = "sku".into();
        let all = parse(&build(&identity, 0, 1, 1 << 30));
        let kinds: Vec<_> = all.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [0, 1, 2, 2, 3, 4, 11, 16, 17, 32, 127]);
        assert_eq!(all[0].1[0x14..0x16], [4, 2]);
        assert_eq!((all[2].1.len(), &all[2].2[..]), (0x0f, &["one".to_owned()][..]));
        assert_eq!((all[3].1[0x0a], &all[3].2[..]), (2, &["two".to_owned(), "top".to_owned()][..]));
        assert_eq!(all[3].1[0x0b..0x0d], all[4].1[2..4], "the chassis' handle");
        assert_eq!(all[4].2.last().unwrap(), "sku");
        assert_eq!((all[6].1[4], all[6].2.len()), (2, 2));
    }

    #[test]
    fn firmware_gets_an_entry_point_of_version_2_without_an_address() {
        let (anchor, tables) = for_firmware(&identity(), 4, 1 << 30).unwrap();
        assert_eq!(
            (anchor.len(), &anchor[..4], &anchor[16..21]),
            (31, &b"_SM_"[..], &b"_DMI_"[..])
        );
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((sum(&anchor), sum(&anchor[16..])), (0, 0));
        assert_eq!(usize::from(u16::from_le_bytes([anchor[22], anchor[23]])), tables.len());
        assert_eq!(u16::from_le_bytes([anchor[28], anchor[29]]), 8);
        let longest = u16::from_le_bytes([anchor[8], anchor[9]]);
        assert!((0x30..0x60).contains(&longest), "{longest:#x}");
        let mut huge = identity();
        huge.oem_strings = vec!["x".repeat(70_000)];
        assert_eq!(for_firmware(&huge, 4, 1 << 30), None);
    }
}
