use arch::layout::{
    ACPI_START, CMDLINE_START, GIB, MIB, MemoryMap, PVH_INFO_START, Platform, SMBIOS_START,
    ZERO_PAGE_START,
};
use baremetal::image::{Part, bzimage, elf, load, note, patch, pvh_note};
use memory::Backing;
use proptest::prelude::*;

use super::testing::file;
use super::*;

const PAYLOAD: [u8; 4096] = [0xf4; 4096];

struct Rig {
    map: MemoryMap,
    ram: GuestRam,
    board: acpi::Board,
}

impl Rig {
    fn new(size: u64) -> Self {
        let map = MemoryMap::new(Platform::Q35, size, 40).unwrap();
        let ram = GuestRam::new(&map.ram_regions(), &Backing::Anonymous).unwrap();
        let board = acpi::Board::new(&map, vec![0, 1]);
        Self { map, ram, board }
    }

    fn boot(
        &self,
        kernel: &[u8],
        initrd: Option<&[u8]>,
        cmdline: &str,
    ) -> Result<Entry, BootError> {
        let (kernel, initrd) = (file(kernel), initrd.map(file));
        place(
            &self.ram,
            &BootSpec {
                map: &self.map,
                kernel: &kernel,
                initrd: initrd.as_ref(),
                cmdline,
                board: &self.board,
                smbios: Some(&smbios::Identity::new([7; 16], "q35")),
            },
        )
    }

    fn refusal(&self, kernel: &[u8]) -> KernelError {
        match self.boot(kernel, None, "") {
            Err(BootError::Kernel(error)) => error,
            other => panic!("expected a refused kernel, got {other:?}"),
        }
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read_slice(at, &mut bytes).unwrap();
        bytes
    }

    fn u32(&self, at: u64) -> u32 {
        self.ram.read_obj(at).unwrap()
    }

    fn u64(&self, at: u64) -> u64 {
        self.ram.read_obj(at).unwrap()
    }
}

#[test]
fn a_kernel_that_jumps_to_the_firmware_finds_the_reset() {
    let rig = Rig::new(64 * MIB);
    let kernel = elf(0x100_0000, &[load(0x100_0000, &PAYLOAD)]);
    rig.boot(&kernel, None, "").unwrap();
    // Real mode code: 0xfe to port 0x64.
    assert_eq!(rig.bytes(0xf_fff0, 5), [0xb0, 0xfe, 0xe6, 0x64, 0xf4]);
}

#[test]
fn a_bzimage_lies_where_it_asks_and_is_entered_in_long_mode() {
    let rig = Rig::new(64 * MIB);
    let entry = rig.boot(&bzimage(&PAYLOAD), None, "console=ttyS0").unwrap();
    assert_eq!(entry, Entry::Linux64 { rip: 0x100_0200, boot_params: ZERO_PAGE_START });
    assert_eq!(rig.bytes(0x100_0000, PAYLOAD.len()), PAYLOAD);
    assert_eq!(rig.bytes(CMDLINE_START, 14), b"console=ttyS0\0");
}

#[test]
fn the_zero_page_has_the_kernels_header_and_what_a_loader_fills_in() {
    let rig = Rig::new(64 * MIB);
    let mut image = bzimage(&PAYLOAD);
    patch(&mut image, 0x200, &[0xeb, 0x7e]); // a header of a later protocol, up to 0x280
    patch(&mut image, 0x27c, b"new!");
    patch(&mut image, 0x250, &0xdead_0000_u64.to_le_bytes()); // setup_data of the file
    rig.boot(&image, Some(&[9; 100]), "quiet").unwrap();
    let zero = ZERO_PAGE_START;
    assert_eq!(rig.bytes(zero + 0x1f1, 1), image[0x1f1..0x1f2]);
    assert_eq!(rig.bytes(zero + 0x202, 4), b"HdrS");
    assert_eq!(rig.bytes(zero + 0x27c, 4), b"new!", "unknown fields are copied too");
    assert_eq!(rig.bytes(zero + 0x210, 1), [0xff], "type_of_loader");
    assert_eq!(rig.u64(zero + 0x250), 0, "setup_data is never the file's");
    assert_eq!(u64::from(rig.u32(zero + 0x228)), CMDLINE_START);
    assert_eq!(u64::from(rig.u32(zero + 0x218)), 64 * MIB - 4096, "ramdisk_image");
    assert_eq!(rig.u32(zero + 0x21c), 100, "ramdisk_size");
    assert_eq!(rig.bytes(64 * MIB - 4096, 100), [9; 100]);
    assert_eq!(rig.u64(zero + 0x70), ACPI_START);
    assert_eq!(rig.bytes(ACPI_START, 8), b"RSD PTR ");
    assert_eq!(rig.bytes(SMBIOS_START, 5), b"_SM3_");
    assert_eq!(rig.bytes(zero + 0x1ef, 1), [0], "the sentinel says that we cleared the page");
}

#[test]
fn the_zero_page_tells_all_ram() {
    let rig = Rig::new(3 * GIB);
    rig.boot(&bzimage(&PAYLOAD), None, "").unwrap();
    let count = usize::from(rig.bytes(ZERO_PAGE_START + 0x1e8, 1)[0]);
    let spans: Vec<_> = (0..count as u64)
        .map(|n| ZERO_PAGE_START + 0x2d0 + 20 * n)
        .map(|at| (rig.u64(at), rig.u64(at + 8), rig.u32(at + 16)))
        .filter(|span| span.2 == 1)
        .collect();
    let expected = [(0, 0x9_fc00, 1), (MIB, 2 * GIB - MIB, 1), (4 * GIB, GIB, 1)];
    assert_eq!(spans, expected);
}

#[test]
fn placing_again_after_a_reset_gives_the_same_memory() {
    let rig = Rig::new(64 * MIB);
    let boot = || rig.boot(&bzimage(&PAYLOAD), Some(&[9; 5000]), "quiet").unwrap();
    let first = boot();
    let before = rig.bytes(0, 64 * MIB as usize);
    rig.ram.write_slice(0x100_0000, &[0; 100]).unwrap();
    rig.ram.write_slice(ZERO_PAGE_START, &[0xff; 4096]).unwrap();
    rig.ram.clear().unwrap();
    assert_eq!(boot(), first);
    assert!(rig.bytes(0, 64 * MIB as usize) == before);
}

#[test]
fn a_relocatable_kernel_moves_down_when_ram_ends_early() {
    let entry = Rig::new(12 * MIB).boot(&bzimage(&PAYLOAD), None, "").unwrap();
    assert_eq!(entry, Entry::Linux64 { rip: 2 * MIB + 0x200, boot_params: ZERO_PAGE_START });
    let mut fixed = bzimage(&PAYLOAD);
    patch(&mut fixed, 0x234, &[0]);
    assert!(matches!(Rig::new(12 * MIB).refusal(&fixed), KernelError::DoesNotFit { .. }));
}

#[test]
fn memory_is_reserved_for_unpacking_and_not_for_the_file_alone() {
    let mut image = bzimage(&PAYLOAD);
    patch(&mut image, 0x260, &(60 * MIB as u32).to_le_bytes());
    let error = Rig::new(64 * MIB).boot(&image, Some(&vec![1; 3 * MIB as usize]), "").unwrap_err();
    assert!(matches!(error, BootError::Initrd(InitrdError::TooLarge { .. })), "{error:?}");
    for init_size in [u32::MAX, 65 * MIB as u32] {
        patch(&mut image, 0x260, &init_size.to_le_bytes());
        let refused = Rig::new(64 * MIB).refusal(&image);
        assert!(matches!(refused, KernelError::DoesNotFit { .. }), "{refused:?}");
    }
}

#[test]
fn an_initrd_stays_below_the_kernels_limit() {
    let rig = Rig::new(64 * MIB);
    let mut image = bzimage(&PAYLOAD);
    patch(&mut image, 0x22c, &(40 * MIB as u32 - 1).to_le_bytes());
    rig.boot(&image, Some(&[1; 4096]), "").unwrap();
    assert_eq!(u64::from(rig.u32(ZERO_PAGE_START + 0x218)), 40 * MIB - 4096);
}

#[test]
fn an_initrd_larger_than_ram_is_refused_and_nothing_is_written() {
    let rig = Rig::new(32 * MIB);
    let error = rig.boot(&bzimage(&PAYLOAD), Some(&vec![1; 40 * MIB as usize]), "").unwrap_err();
    assert!(matches!(error, BootError::Initrd(InitrdError::TooLarge { .. })));
    assert_eq!(rig.bytes(ACPI_START, 8), [0; 8]);
    assert_eq!(rig.bytes(0x100_0000, 8), [0; 8]);
}

#[test]
fn the_kernels_own_limit_holds_for_the_command_line() {
    let rig = Rig::new(64 * MIB);
    let mut image = bzimage(&PAYLOAD);
    patch(&mut image, 0x238, &10_u32.to_le_bytes());
    assert!(rig.boot(&image, None, "0123456789").is_ok());
    let error = rig.boot(&image, None, &"x".repeat(64 << 10)).unwrap_err();
    assert!(matches!(error, BootError::Cmdline(CmdlineError::TooLong { max: 10, .. })));
}

#[test]
fn kernels_without_a_64_bit_entry_are_refused_by_name() {
    let rig = Rig::new(64 * MIB);
    let mut image = bzimage(&PAYLOAD);
    patch(&mut image, 0x236, &0x08_u16.to_le_bytes()); // as memtest86+ has it
    assert!(matches!(rig.refusal(&image), KernelError::No64BitEntry { version: 0x020f }));
    let mut old = bzimage(&PAYLOAD);
    patch(&mut old, 0x206, &0x0206_u16.to_le_bytes()); // as iPXE has it
    let text = rig.refusal(&old).to_string();
    assert!(text.contains("2.6"), "{text}");
}

#[test]
fn things_that_are_no_kernel_are_told_apart() {
    let rig = Rig::new(32 * MIB);
    let says = |bytes: &[u8], what: &str| {
        let text = rig.refusal(bytes).to_string();
        assert!(text.contains(what), "{text:?} lacks {what:?}");
    };
    says(b"", "empty");
    says(b"#!/bin/sh\necho hello\n", "text");
    says(&[0x1f, 0x8b, 8, 0], "gzip");
    says(b"070701000000", "initrd");
    says(&[0xff; 600], "neither");
    says(b"\x7fELF", "truncated");
    assert!(matches!(
        place(
            &rig.ram,
            &BootSpec {
                map: &rig.map,
                kernel: &File::open("/").unwrap(),
                initrd: None,
                cmdline: "",
                board: &rig.board,
                smbios: None,
            }
        ),
        Err(BootError::Kernel(KernelError::NotAKernel { .. }))
    ));
}

#[test]
fn truncated_and_damaged_bzimages_are_refused() {
    let rig = Rig::new(64 * MIB);
    let whole = bzimage(&PAYLOAD);
    for len in [0x206, 0x240, 0x400, 4 * 512, 4 * 512 + 0x200, whole.len() - 1] {
        let refused = rig.refusal(&whole[..len]);
        assert!(matches!(refused, KernelError::Truncated { .. }), "{len:#x}: {refused:?}");
    }
    let mut setup_beyond_the_end = whole.clone();
    patch(&mut setup_beyond_the_end, 0x1f1, &[255]);
    assert!(matches!(rig.refusal(&setup_beyond_the_end), KernelError::Truncated { .. }));
    let mut long_header = whole.clone();
    patch(&mut long_header, 0x201, &[0xff]);
    assert!(matches!(rig.refusal(&long_header), KernelError::Damaged { .. }));
    let mut low = whole;
    patch(&mut low, 0x258, &0u64.to_le_bytes());
    patch(&mut low, 0x230, &0u32.to_le_bytes());
    assert!(matches!(rig.refusal(&low), KernelError::DoesNotFit { .. }));
}

#[test]
fn no_setup_sectors_mean_four() {
    let rig = Rig::new(64 * MIB);
    let mut image = bzimage(&PAYLOAD);
    let payload_at = 5 * 512;
    image.splice(4 * 512..4 * 512, [0; 512]);
    patch(&mut image, 0x1f1, &[0]);
    rig.boot(&image, None, "").unwrap();
    assert_eq!(rig.bytes(0x100_0000, 4096), image[payload_at..payload_at + 4096]);
}

#[test]
fn a_vmlinux_with_a_pvh_note_is_entered_by_pvh() {
    let rig = Rig::new(64 * MIB);
    let pvh = pvh_note(&0x100_0010_u64.to_le_bytes());
    // Behind a note of another kind, as Linux has it.
    let other = [[4, 3, 1].map(u32::to_le_bytes).concat(), b"GNU\0abc\0".to_vec()].concat();
    let notes = [other, pvh].concat();
    let image = elf(0x100_0000, &[load(0x100_0000, &PAYLOAD), note(&notes)]);
    let entry = rig.boot(&image, Some(&[3; 10]), "quiet").unwrap();
    assert_eq!(entry, Entry::Pvh { eip: 0x100_0010, start_info: 0x6000 });
    assert_eq!(rig.bytes(0x100_0000, 4096), PAYLOAD);

    let info = PVH_INFO_START;
    assert_eq!((rig.u32(info), rig.u32(info + 4)), (0x336e_c578, 1));
    assert_eq!(rig.u64(info + 24), CMDLINE_START);
    assert_eq!(rig.u64(info + 32), ACPI_START);
    let module = rig.u64(info + 16);
    assert_eq!(
        (rig.u32(info + 12), rig.u64(module), rig.u64(module + 8)),
        (1, 64 * MIB - 4096, 10)
    );
    let (map, entries) = (rig.u64(info + 40), u64::from(rig.u32(info + 48)));
    let ram: u64 = (0..entries)
        .map(|n| map + 24 * n)
        .filter(|&at| rig.u32(at + 16) == 1)
        .map(|at| rig.u64(at + 8))
        .sum();
    assert_eq!(ram, 64 * MIB - (MIB - 0x9_fc00));
}

#[test]
fn a_vmlinux_without_a_note_is_entered_in_long_mode() {
    let rig = Rig::new(64 * MIB);
    let image = elf(0x100_0008, &[load(0x100_0000, &PAYLOAD)]);
    let entry = rig.boot(&image, None, "quiet").unwrap();
    assert_eq!(entry, Entry::Linux64 { rip: 0x100_0008, boot_params: ZERO_PAGE_START });
    assert_eq!(rig.bytes(ZERO_PAGE_START + 0x202, 4), b"HdrS");
    assert_eq!(rig.u32(ZERO_PAGE_START + 0x238), 2047);
}

#[test]
fn hostile_elf_images_are_refused() {
    let rig = Rig::new(64 * MIB);
    let refused = |parts: &[Part<'_>]| rig.refusal(&elf(0x100_0000, parts));
    let bytes = [0xf4; 64];
    let huge = |at, len| Part { kind: 1, at, bytes: &bytes, len };

    assert!(matches!(refused(&[load(0x7000, &bytes)]), KernelError::LowSegment { .. }));
    assert!(matches!(refused(&[huge(0x100_0000, 1 << 40)]), KernelError::OutsideMemory { .. }));
    assert!(matches!(refused(&[huge(u64::MAX - 10, 64)]), KernelError::Damaged { .. }));
    assert!(matches!(refused(&[huge(0x100_0000, 8)]), KernelError::Damaged { .. }));
    assert!(matches!(
        refused(&[load(0x100_0000, &bytes), load(0x100_0020, &bytes)]),
        KernelError::Overlap { at: 0x100_0020 }
    ));
    assert!(matches!(refused(&[]), KernelError::WrongElf { .. }));
    assert!(matches!(refused(&[load(0x200_0000, &bytes)]), KernelError::EntryOutside { .. }));

    let mut past_the_end = elf(0x100_0000, &[load(0x100_0000, &bytes)]);
    patch(&mut past_the_end, 64 + 8, &u64::MAX.to_le_bytes());
    assert!(matches!(rig.refusal(&past_the_end), KernelError::Damaged { .. }));
    patch(&mut past_the_end, 64 + 8, &4096u64.to_le_bytes());
    assert!(matches!(rig.refusal(&past_the_end), KernelError::Truncated { .. }));
    patch(&mut past_the_end, 32, &(u64::MAX - 3).to_le_bytes()); // e_phoff
    assert!(matches!(rig.refusal(&past_the_end), KernelError::Damaged { .. }));

    let mut arm = elf(0x100_0000, &[load(0x100_0000, &bytes)]);
    patch(&mut arm, 18, &183u16.to_le_bytes());
    assert!(rig.refusal(&arm).to_string().contains("another CPU"));
}

#[test]
fn garbage_notes_neither_loop_nor_lead_outside() {
    let rig = Rig::new(64 * MIB);
    let boot = |notes: &[u8]| {
        rig.boot(&elf(0x100_0000, &[load(0x100_0000, &PAYLOAD), note(notes)]), None, "")
    };
    let long_mode = Entry::Linux64 { rip: 0x100_0000, boot_params: ZERO_PAGE_START };
    for notes in [&[0xff; 40][..], &[0; 40], &[4, 0, 0], &pvh_note(&[1, 2, 3, 4])[..18]] {
        assert_eq!(boot(notes).unwrap(), long_mode, "{notes:x?}");
    }
    assert!(matches!(
        boot(&pvh_note(&[1, 2, 3])),
        Err(BootError::Kernel(KernelError::Damaged { .. }))
    ));
    assert!(matches!(
        boot(&pvh_note(&0x1_0000_0000_u64.to_le_bytes())),
        Err(BootError::Kernel(KernelError::Damaged { .. }))
    ));
    assert!(matches!(
        boot(&pvh_note(&0x40_u32.to_le_bytes())),
        Err(BootError::Kernel(KernelError::EntryOutside { entry: 0x40 }))
    ));
    assert!(matches!(
        boot(&vec![0; 70 << 10]),
        Err(BootError::Kernel(KernelError::Damaged { .. }))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Whatever a file says, loading ends, does not panic, and leaves the first MiB's structures
    /// and the bytes beyond the kernel to us.
    #[test]
    fn mutated_kernels_never_panic(
        elf_image in any::<bool>(),
        header_edits in prop::collection::vec((0usize..0x290, any::<u8>()), 1..8),
        word_edits in prop::collection::vec((0usize..0x290, prop::sample::select(vec![
            0u64, 1, 0x7f, 0xff, 0xffff, 0x1000, 0x10_0000, 0x7fff_ffff, 0xffff_ffff,
            0x1_0000_0000, u64::MAX / 2, u64::MAX - 0xfff, u64::MAX,
        ])), 0..3),
        cut in prop::option::of(0usize..6000),
    ) {
        let pvh = pvh_note(&0x100_0010_u32.to_le_bytes());
        let mut image = if elf_image {
            elf(0x100_0000, &[load(0x100_0000, &PAYLOAD), note(&pvh), load(0x200_0000, &PAYLOAD)])
        } else {
            bzimage(&PAYLOAD)
        };
        for (at, byte) in header_edits {
            image[at] = byte;
        }
        for (at, word) in word_edits {
            patch(&mut image, at, &word.to_le_bytes());
        }
        if let Some(cut) = cut {
            image.truncate(cut);
        }
        let rig = Rig::new(40 * MIB);
        match rig.boot(&image, Some(&[1; 100]), "quiet") {
            Ok(Entry::Linux64 { rip, .. }) => prop_assert!(rig.ram.contains(rip, 1)),
            Ok(Entry::Pvh { eip, .. }) => prop_assert!(rig.ram.contains(eip.into(), 1)),
            Err(_) => {}
        }
        if !rig.bytes(CMDLINE_START, 1).starts_with(&[0]) {
            prop_assert_eq!(rig.bytes(CMDLINE_START, 6), b"quiet\0");
            prop_assert_eq!(rig.bytes(ACPI_START, 8), b"RSD PTR ");
        }
    }
}
