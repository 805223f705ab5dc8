//! SMBIOS 3.0 structures (DMTF DSP0134): how a guest learns its name and UUID.

/// What the structures tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The domain's UUID, bytes in text order.
    pub uuid: [u8; 16],
    pub manufacturer: String,
    pub product: String,
    pub version: String,
    pub serial: String,
}

impl Identity {
    /// Manor's own words around a domain's UUID.
    #[must_use]
    pub fn new(uuid: [u8; 16], machine: &str) -> Self {
        Self {
            uuid,
            manufacturer: "Manor".into(),
            product: "Virtual Machine".into(),
            version: machine.into(),
            serial: String::new(),
        }
    }
}

const ENTRY_LEN: u8 = 24;
/// Structures follow the entry point, aligned.
const TABLE_OFFSET: usize = 32;

/// Entry point and structures for `address`, where scanning software finds the former.
#[must_use]
pub fn build(identity: &Identity, address: u64, vcpus: usize, ram: u64) -> Vec<u8> {
    let mut table = Structures(Vec::new());
    let Identity { manufacturer, product, version, serial, .. } = identity;
    // Type 0: BIOS. Characteristics "not supported"; extension 2: virtual machine, UEFI no.
    let mut bios = vec![1, 2, 0, 0, 3, 0];
    bios.extend(0x8u64.to_le_bytes());
    bios.extend([0, 0x10, 0, 0, 0xff, 0xff, 0, 0]);
    table.add(0, 0x0000, &bios, &["Manor", "1", "01/01/2026"]);

    let mut strings = Strings(vec![]);
    let mut system: Vec<u8> =
        [manufacturer, product, version, serial].map(|text| strings.put(text)).to_vec();
    system.extend(uuid_bytes(identity.uuid));
    system.extend([6, 0, 0]); // woken by the power switch
    table.add(1, 0x0100, &system, &strings.0);

    // Type 4, one for each vCPU would repeat CPUID; one socket says that there is a CPU.
    table.add(4, 0x0400, &processor(vcpus), &["CPU 0", "Manor"]);

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

    table.add(32, 0x2000, &[0, 0, 0, 0, 0, 0, 0], &[]); // booted without error
    table.add(127, 0x7f00, &[], &[]);

    let structures = table.0;
    let mut bytes = entry_point(address + TABLE_OFFSET as u64, structures.len() as u32);
    bytes.resize(TABLE_OFFSET, 0);
    bytes.extend(structures);
    bytes
}

fn entry_point(table: u64, max_len: u32) -> Vec<u8> {
    let mut entry = b"_SM3_\0".to_vec();
    entry.extend([ENTRY_LEN, 3, 0, 0, 1, 0]); // version 3.0, entry point revision 1
    entry.extend(max_len.to_le_bytes());
    entry.extend(table.to_le_bytes());
    entry[5] = 0u8.wrapping_sub(entry.iter().fold(0, |sum, byte| sum.wrapping_add(*byte)));
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

struct Structures(Vec<u8>);

impl Structures {
    /// Append a structure: header, formatted part, strings, a NUL each, and one more.
    fn add(&mut self, kind: u8, handle: u16, body: &[u8], strings: &[&str]) {
        self.0.extend([kind, body.len() as u8 + 4]);
        self.0.extend(handle.to_le_bytes());
        self.0.extend(body);
        let before = self.0.len();
        for string in strings {
            // A NUL would end the string early and shift the ones behind it.
            self.0.extend(string.bytes().filter(|byte| *byte != 0));
            self.0.push(0);
        }
        if self.0.len() == before {
            self.0.push(0);
        }
        self.0.push(0);
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
        assert_eq!(kinds, [0, 1, 4, 16, 17, 32, 127]);
    }

    #[test]
    fn formatted_parts_have_the_lengths_of_the_specification() {
        let lens: Vec<_> = parse(&build(&identity(), 0, 4, 1 << 30))
            .iter()
            .map(|(_, formatted, _)| formatted.len())
            .collect();
        assert_eq!(lens, [0x1a, 0x1b, 0x30, 0x17, 0x28, 0x0b, 4]);
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
        let identity = Identity { product: String::new(), serial: "S1".into(), ..identity() };
        let all = parse(&build(&identity, 0, 1, 1 << 30));
        assert_eq!(all[1].1[4..8], [1, 0, 2, 3]);
        assert_eq!(all[1].2[..], ["Manor", "q35", "S1"]);
    }

    #[test]
    fn strings_cannot_break_the_structure() {
        let identity = Identity { product: "a\0\0b".into(), ..identity() };
        let all = parse(&build(&identity, 0, 1, 1 << 30));
        assert_eq!(all.len(), 7);
        assert_eq!(all[1].2[1], "ab");
    }

    #[test]
    fn terabytes_use_the_extended_fields() {
        let all = parse(&build(&identity(), 0, 1, 3 << 40));
        assert_eq!(u64::from_le_bytes(all[3].1[0x0f..0x17].try_into().unwrap()), 3 << 40);
        assert_eq!(u32::from_le_bytes(all[4].1[0x1c..0x20].try_into().unwrap()), 3 << 20);
    }
}
