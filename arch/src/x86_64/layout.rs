//! The guest-physical memory map.
//!
//! ```text
//! 0            low RAM (boot structures, ACPI and SMBIOS in its first MiB, then the kernel)
//! low_ram_end  end of low RAM: 2 GiB at most (pc: 3 GiB)
//! 0xb000_0000  ECAM, 256 buses (not on pc)
//! 0xc000_0000  32-bit PCI window
//! 0xfec0_0000  IOAPIC, LAPIC, TPM, KVM's own pages, firmware up to 4 GiB
//! 4 GiB        high RAM
//! 2^(bits-1)   64-bit PCI window, up to the guest's physical address width
//! ```

use std::ops::Range;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const PAGE_SIZE: u64 = 4 * KIB;

// The first MiB. Firmware-less boots place everything here themselves; the addresses are fixed so
// that a reset finds them again, and so that a dump is easy to read.
/// [`super::early::gdt`] of a direct kernel boot.
pub const GDT_START: u64 = 0x500;
/// `hvm_start_info` of the PVH boot protocol, followed by its tables.
pub const PVH_INFO_START: u64 = 0x6000;
/// `boot_params` (the "zero page") of the Linux boot protocol.
pub const ZERO_PAGE_START: u64 = 0x7000;
/// Initial stack, growing down: the protocols ask for none, but nothing is gained by faulting.
pub const BOOT_STACK_TOP: u64 = 0x8ff0;
/// Page tables that map the low 4 GiB onto themselves: PML4, PDPT, four page directories.
pub const PAGE_TABLES_START: u64 = 0x9000;
pub const CMDLINE_START: u64 = 0x2_0000;
/// Room for a command line with its NUL; more than any kernel takes.
pub const CMDLINE_MAX: u64 = 0x1_0000;
/// Conventional memory ends here; the last KiB below 640 KiB is the EBDA of a PC.
pub const EBDA_START: u64 = 0x9_fc00;
/// ACPI tables: the RSDP first, then the tables (room up to [`SMBIOS_START`]).
pub const ACPI_START: u64 = 0xe_0000;
/// SMBIOS entry point and structures, where scanning software looks for them.
pub const SMBIOS_START: u64 = 0xf_0000;
/// FFFF:0000, where a PC's firmware starts in real mode.
pub const REAL_MODE_RESET: u64 = 0xf_fff0;
/// Everything above is free for kernels.
pub const HIMEM_START: u64 = MIB;

/// PCI Express configuration space where Manor and SeaBIOS put it (firmware may move it).
pub const ECAM_START: u64 = 0xb000_0000;
/// 1 MiB for each of 256 buses.
pub const ECAM_SIZE: u64 = 256 * MIB;
/// 32-bit PCI window.
pub const MMIO32_START: u64 = 0xc000_0000;
pub const MMIO32_END: u64 = IOAPIC_START;
pub const IOAPIC_START: u64 = 0xfec0_0000;
pub const TPM_START: u64 = 0xfed4_0000;
pub const LAPIC_START: u64 = 0xfee0_0000;
/// The number of the guest's generation, read-only, in a page of its own.
pub const GENERATION: u64 = 0xfeff_b000;
/// One page that KVM keeps for itself on hosts without unrestricted guests
/// (`KVM_SET_IDENTITY_MAP_ADDR`).
pub const KVM_IDENTITY_MAP: u64 = 0xfeff_c000;
/// Three pages after it, for the same hosts (`KVM_SET_TSS_ADDR`).
pub const KVM_TSS: u64 = 0xfeff_d000;
/// Firmware images end at 4 GiB; this is the lowest address one may start at.
pub const FIRMWARE_MIN: u64 = 0xff00_0000;
pub const HIGH_RAM_START: u64 = 4 * GIB;

/// Less is no machine: the first MiB is boot structures, and a kernel must fit above it.
pub const RAM_MIN: u64 = 2 * MIB;
/// Physical address bits beyond this are not used: Linux with four-level paging stops here.
pub const PHYS_BITS_MAX: u8 = 46;
/// The least 64-bit PCI window worth having.
const MMIO64_MIN: u64 = GIB;

/// The face that the board shows, chosen by the machine type of the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// PCI Express with ECAM; ICH9 identities.
    Q35,
    /// Conventional PCI, port configuration only; 440FX and PIIX identities.
    Pc,
    /// `Q35` without firmware and with the fewest devices.
    Microvm,
}

impl Platform {
    /// Where low RAM ends at the latest. SeaBIOS starts its PCI window at the first of 2, 3 and
    /// 3.5 GiB above low RAM, so these ends are its preferred ones too.
    #[must_use]
    pub const fn low_ram_max(self) -> u64 {
        match self {
            Self::Q35 | Self::Microvm => 2 * GIB,
            Self::Pc => 3 * GIB,
        }
    }

    #[must_use]
    pub const fn has_ecam(self) -> bool {
        matches!(self, Self::Q35 | Self::Microvm)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error(
        "guest memory of {size} bytes must be a multiple of 4 KiB and at least {} MiB",
        RAM_MIN / MIB
    )]
    Size { size: u64 },
    #[error(
        "guest memory of {size} bytes does not fit the {phys_bits}-bit physical addresses of this \
         host's guests"
    )]
    TooLarge { size: u64, phys_bits: u8 },
}

/// The map of one machine. Plain data: built once, consulted by everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryMap {
    pub platform: Platform,
    /// RAM from 0 to here.
    pub low_ram_end: u64,
    /// RAM from 4 GiB to here; 4 GiB when there is none.
    pub high_ram_end: u64,
    /// PCI Express configuration space, where the platform has it.
    pub ecam: Option<Range<u64>>,
    /// 32-bit PCI window.
    pub mmio32: Range<u64>,
    /// 64-bit PCI window.
    pub mmio64: Range<u64>,
}

impl MemoryMap {
    /// Split `ram_size` bytes of RAM around the PCI hole, for a guest that sees `phys_bits`
    /// physical address bits.
    pub fn new(platform: Platform, ram_size: u64, phys_bits: u8) -> Result<Self, LayoutError> {
        if ram_size < RAM_MIN || !ram_size.is_multiple_of(PAGE_SIZE) {
            return Err(LayoutError::Size { size: ram_size });
        }
        let too_large = || LayoutError::TooLarge { size: ram_size, phys_bits };
        let low_ram_end = ram_size.min(platform.low_ram_max());
        let high_ram_end =
            HIGH_RAM_START.checked_add(ram_size - low_ram_end).ok_or_else(too_large)?;

        // The upper half of the address space: BARs then keep their addresses when RAM grows, and
        // a 40-bit guest (the least that server parts have) still has 508 GiB of RAM below it.
        let bits = phys_bits.min(PHYS_BITS_MAX);
        let top = 1u64.checked_shl(u32::from(bits)).ok_or_else(too_large)?;
        let start =
            (top / 2).max(high_ram_end.checked_next_multiple_of(GIB).ok_or_else(too_large)?);
        if start.checked_add(MMIO64_MIN).is_none_or(|end| end > top) {
            return Err(too_large());
        }
        Ok(Self {
            platform,
            low_ram_end,
            high_ram_end,
            ecam: platform.has_ecam().then_some(ECAM_START..ECAM_START + ECAM_SIZE),
            mmio32: MMIO32_START..MMIO32_END,
            mmio64: start..top,
        })
    }

    /// RAM as `(guest address, length)`, ascending: what guest memory and memslots are made of.
    #[must_use]
    pub fn ram_regions(&self) -> Vec<(u64, u64)> {
        let mut regions = vec![(0, self.low_ram_end)];
        if self.high_ram_end > HIGH_RAM_START {
            regions.push((HIGH_RAM_START, self.high_ram_end - HIGH_RAM_START));
        }
        regions
    }

    /// Where the bytes `part` of RAM lie, counted as if there was no hole in it.
    #[must_use]
    pub fn ram_part(&self, part: Range<u64>) -> Vec<Range<u64>> {
        let mut before = 0;
        let mut found = Vec::new();
        for (start, len) in self.ram_regions() {
            let (from, to) = (part.start.max(before), part.end.min(before + len));
            if from < to {
                found.push(start + (from - before)..start + (to - before));
            }
            before += len;
        }
        found
    }
}

/// [`MemoryMap::ram_regions`] for callers that need nothing else of the map.
pub fn ram_regions(ram_size: u64, platform: Platform) -> Result<Vec<(u64, u64)>, LayoutError> {
    MemoryMap::new(platform, ram_size, PHYS_BITS_MAX).map(|map| map.ram_regions())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(size: u64) -> MemoryMap {
        MemoryMap::new(Platform::Q35, size, 40).unwrap()
    }

    #[test]
    fn small_ram_is_one_region() {
        for size in [RAM_MIN, 32 * MIB, 512 * MIB, 2 * GIB] {
            assert_eq!(map(size).ram_regions(), [(0, size)]);
        }
    }

    #[test]
    fn ram_beyond_the_hole_continues_at_four_gib_and_none_is_lost() {
        for size in [2 * GIB + PAGE_SIZE, 3 * GIB, 5 * GIB, 300 * GIB] {
            for platform in [Platform::Q35, Platform::Pc, Platform::Microvm] {
                let map = MemoryMap::new(platform, size, 40).unwrap();
                let regions = map.ram_regions();
                assert_eq!(regions.iter().map(|(_, len)| len).sum::<u64>(), size);
                assert!(map.low_ram_end <= platform.low_ram_max());
                if let Some(&(start, _)) = regions.get(1) {
                    assert_eq!(start, HIGH_RAM_START);
                }
            }
        }
    }

    #[test]
    fn a_part_of_ram_may_lie_on_both_sides_of_the_hole() {
        let map = map(5 * GIB);
        let parts = |part: Range<u64>| {
            map.ram_part(part).into_iter().map(|p| (p.start, p.end)).collect::<Vec<_>>()
        };
        assert_eq!(parts(0..GIB), [(0, GIB)]);
        assert_eq!(parts(GIB..3 * GIB), [(GIB, 2 * GIB), (4 * GIB, 5 * GIB)]);
        assert_eq!(parts(3 * GIB..9 * GIB), [(5 * GIB, 7 * GIB)]);
        assert_eq!(parts(GIB..GIB), []);
    }

    #[test]
    fn nothing_overlaps() {
        for size in [32 * MIB, 2 * GIB, 64 * GIB, 900 * GIB] {
            let map = map(size);
            let ecam = map.ecam.clone().unwrap();
            let spans = [
                0..map.low_ram_end,
                ecam,
                map.mmio32.clone(),
                IOAPIC_START..HIGH_RAM_START,
                HIGH_RAM_START..map.high_ram_end,
                map.mmio64.clone(),
            ];
            for pair in spans.windows(2) {
                assert!(pair[0].end <= pair[1].start, "{size:#x}: {pair:x?}");
            }
        }
    }

    #[test]
    fn bars_keep_their_window_when_ram_grows() {
        assert_eq!(map(GIB).mmio64, map(200 * GIB).mmio64);
        assert_eq!(map(GIB).mmio64, 1 << 39..1 << 40);
    }

    #[test]
    fn terabytes_need_the_address_bits_and_say_so() {
        assert_eq!(
            MemoryMap::new(Platform::Q35, 2 * 1024 * GIB, 40),
            Err(LayoutError::TooLarge { size: 2 * 1024 * GIB, phys_bits: 40 })
        );
        let big = MemoryMap::new(Platform::Q35, 2 * 1024 * GIB, 46).unwrap();
        assert_eq!(big.high_ram_end, 2 * 1024 * GIB + 2 * GIB);
    }

    #[test]
    fn absurd_sizes_and_widths_are_refused() {
        for size in [0, MIB, 32 * MIB + 1, u64::MAX, !0xfff] {
            for bits in [0, 32, 40, 46, 52, 255] {
                let result = MemoryMap::new(Platform::Q35, size, bits);
                assert!(result.is_err(), "{size:#x} in {bits} bits");
            }
        }
        assert!(MemoryMap::new(Platform::Q35, GIB, 32).is_err(), "no room for a 64-bit window");
    }

    #[test]
    fn boot_structures_do_not_overlap_in_the_first_mib() {
        let tables_end = PAGE_TABLES_START + super::super::early::PAGE_TABLES_SIZE;
        let order = [
            GDT_START,
            GDT_START + 8 * super::super::early::GDT_ENTRIES as u64,
            PVH_INFO_START,
            ZERO_PAGE_START,
            ZERO_PAGE_START + PAGE_SIZE,
            BOOT_STACK_TOP,
            PAGE_TABLES_START,
            tables_end,
            CMDLINE_START,
            CMDLINE_START + CMDLINE_MAX,
            EBDA_START,
            ACPI_START,
            SMBIOS_START,
            REAL_MODE_RESET,
            HIMEM_START,
        ];
        assert!(order.is_sorted());
    }
}
