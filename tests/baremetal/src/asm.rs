//! Instructions as bytes. Every encoding here means the same in 32-bit and in 64-bit mode, and
//! nothing depends on where the code lies.
//!
//! EAX carries values between calls; EDX, ECX, EDI, ESI and EBP are clobbered freely. EBX and the
//! stack are the guest's.

const COM1: u32 = 0x3f8;
const PM1_CONTROL: u32 = 0x604;
/// SLP_EN with SLP_TYP 5, as the DSDT's `\_S5` says.
const POWER_OFF: u32 = 1 << 13 | 5 << 10;
/// The i8042's command port, and the command that pulses its reset line.
const I8042_COMMAND: u32 = 0x64;
const PULSE_RESET: u32 = 0xfe;
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;

/// Where other CPUs start, and the vector that says so; below what boot structures use.
const TRAMPOLINE: u32 = 0x1000;
/// The page of real-mode code that [`Asm::start_others`] starts other processors with.
pub const TRAMPOLINE_VECTOR: u32 = TRAMPOLINE >> 12;
/// Each of them counts itself here.
const CPUS_STARTED: u32 = 0x2000;
const LAPIC_ICR: u32 = 0xfee0_0300;
/// To all but the sender: INIT, and start-up.
const ICR_INIT: u32 = 0xc_4500;
const ICR_STARTUP: u32 = 0xc_4600;

/// Size of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    Byte,
    Word,
    Dword,
    /// Memory only, and only in long mode.
    Qword,
}

/// A place in the code, to jump to.
#[derive(Debug, Clone, Copy)]
pub struct Label(usize);

#[derive(Debug, Default)]
pub struct Asm {
    code: Vec<u8>,
    /// Offset of each label, once it is placed.
    labels: Vec<Option<usize>>,
    /// Relative 32-bit operands to fill in: (offset, label).
    fixups: Vec<(usize, Label)>,
}

impl Asm {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.stop(); // whoever forgets to end its guest has it stop here, not run into the void
        for (at, label) in &self.fixups {
            let target = self.labels[label.0].expect("every label that is jumped to is placed");
            let relative = target as i64 - (*at as i64 + 4);
            let bytes = i32::try_from(relative).expect("guests are small").to_le_bytes();
            self.code[*at..*at + 4].copy_from_slice(&bytes);
        }
        self.code
    }

    /// Instructions as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.code.extend_from_slice(bytes);
        self
    }

    // Values.

    pub fn set_eax(&mut self, value: u32) -> &mut Self {
        self.raw(&[0xb8]).raw(&value.to_le_bytes())
    }

    fn set_edx(&mut self, value: u32) -> &mut Self {
        self.raw(&[0xba]).raw(&value.to_le_bytes())
    }

    fn set_ecx(&mut self, value: u32) -> &mut Self {
        self.raw(&[0xb9]).raw(&value.to_le_bytes())
    }

    fn set_edi(&mut self, value: u32) -> &mut Self {
        self.raw(&[0xbf]).raw(&value.to_le_bytes())
    }

    pub fn and_eax(&mut self, mask: u32) -> &mut Self {
        self.raw(&[0x25]).raw(&mask.to_le_bytes())
    }

    pub fn add_eax(&mut self, value: u32) -> &mut Self {
        self.raw(&[0x05]).raw(&value.to_le_bytes())
    }

    /// EAX = EBX: the start info of a PVH guest.
    pub fn eax_from_ebx(&mut self) -> &mut Self {
        self.raw(&[0x89, 0xd8])
    }

    /// EAX = ESI: the boot parameters of a guest in long mode.
    pub fn eax_from_esi(&mut self) -> &mut Self {
        self.raw(&[0x89, 0xf0])
    }

    // Ports and memory.

    /// EAX (or its low part) to `port`.
    pub fn write_port(&mut self, width: Width, port: u16) -> &mut Self {
        self.set_edx(port.into()).sized(width, 0xee, &[])
    }

    /// `port` to EAX; the rest of EAX is zero.
    pub fn read_port(&mut self, width: Width, port: u16) -> &mut Self {
        self.set_eax(0).set_edx(port.into()).sized(width, 0xec, &[])
    }

    /// `value` to `port`.
    pub fn out(&mut self, width: Width, port: u16, value: u32) -> &mut Self {
        self.set_eax(value).write_port(width, port)
    }

    /// EAX (or its low part) to memory or a device at `address`.
    pub fn store(&mut self, width: Width, address: u32) -> &mut Self {
        self.set_edi(address).sized(width, 0x88, &[0x07])
    }

    /// Memory or a device at `address` to EAX; the rest of EAX is zero.
    pub fn load(&mut self, width: Width, address: u32) -> &mut Self {
        self.set_eax(0).set_edi(address).sized(width, 0x8a, &[0x07])
    }

    /// Memory at EAX + `offset` to EAX.
    pub fn load_at_eax(&mut self, offset: u32) -> &mut Self {
        self.raw(&[0x8b, 0x80]).raw(&offset.to_le_bytes())
    }

    /// `value` to memory or a device at `address`.
    pub fn poke(&mut self, width: Width, address: u32, value: u32) -> &mut Self {
        self.set_eax(value).store(width, address)
    }

    fn sized(&mut self, width: Width, opcode: u8, operands: &[u8]) -> &mut Self {
        match width {
            Width::Byte => self.raw(&[opcode]),
            Width::Word => self.raw(&[0x66, opcode | 1]),
            Width::Dword => self.raw(&[opcode | 1]),
            Width::Qword => self.raw(&[0x48, opcode | 1]),
        };
        self.raw(operands)
    }

    /// EAX = a register of a function on PCI bus 0, through the configuration ports.
    pub fn pci_read(&mut self, slot: u8, function: u8, register: u8) -> &mut Self {
        self.out(Width::Dword, PCI_ADDRESS, pci_address(slot, function, register));
        self.read_port(Width::Dword, PCI_DATA)
    }

    pub fn pci_write(&mut self, slot: u8, function: u8, register: u8, value: u32) -> &mut Self {
        self.out(Width::Dword, PCI_ADDRESS, pci_address(slot, function, register));
        self.out(Width::Dword, PCI_DATA, value)
    }

    /// `each` for ESI = `start`, `start + step` … below `end`, with which it accesses what it
    /// wants ([`load_there`](Self::load_there), [`store_there`](Self::store_there)); it keeps ESI.
    pub fn sweep(
        &mut self,
        start: u32,
        end: u32,
        step: u32,
        each: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.raw(&[0xbe]).raw(&start.to_le_bytes()); // mov esi, start
        let again = self.here();
        each(self);
        self.raw(&[0x81, 0xc6]).raw(&step.to_le_bytes()); // add esi, step
        self.raw(&[0x81, 0xfe]).raw(&end.to_le_bytes()); // cmp esi, end
        self.raw(&[0x0f, 0x82]).relative(again) // jb
    }

    /// Memory or a device at ESI to EAX.
    pub fn load_there(&mut self, width: Width) -> &mut Self {
        self.sized(width, 0x8a, &[0x06])
    }

    /// EAX (or its low part) to memory or a device at ESI.
    pub fn store_there(&mut self, width: Width) -> &mut Self {
        self.sized(width, 0x88, &[0x06])
    }

    /// The port that SI names to EAX.
    pub fn read_port_there(&mut self, width: Width) -> &mut Self {
        self.raw(&[0x89, 0xf2]).sized(width, 0xec, &[]) // mov edx, esi
    }

    /// EAX (or its low part) to the port that SI names.
    pub fn write_port_there(&mut self, width: Width) -> &mut Self {
        self.raw(&[0x89, 0xf2]).sized(width, 0xee, &[])
    }

    // Other CPUs.

    /// Start the `count` other CPUs, have each print `text` to COM1 (letters of several may
    /// mix), and wait until all have.
    pub fn start_other_cpus(&mut self, count: u8, text: &str) -> &mut Self {
        let mut code = vec![0xba, 0xf8, 0x03]; // mov dx, COM1
        for byte in text.bytes() {
            code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
        }
        self.start_others(count, &code, &[0xfa, 0xf4, 0xeb, 0xfc]) // cli; hlt; jmp back to it
    }

    /// Start the `count` other CPUs, wait until all have executed `before`, and leave them to
    /// `after`. Both are code for real mode, with DS = 0.
    pub fn start_others(&mut self, count: u8, before: &[u8], after: &[u8]) -> &mut Self {
        let mut code = before.to_vec();
        code.extend([0xf0, 0xfe, 0x06, 0x00, 0x20]); // lock inc byte [CPUS_STARTED]
        code.extend(after);
        for (address, bytes) in (TRAMPOLINE..).step_by(4).zip(code.chunks(4)) {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            self.poke(Width::Dword, address, u32::from_le_bytes(word));
        }
        self.poke(Width::Byte, CPUS_STARTED, 0);
        self.poke(Width::Dword, LAPIC_ICR, ICR_INIT);
        self.poke(Width::Dword, LAPIC_ICR, ICR_STARTUP | TRAMPOLINE_VECTOR);
        let again = self.here();
        self.raw(&[0xf3, 0x90]); // pause
        self.load(Width::Byte, CPUS_STARTED).jump_unless_eax_is(count.into(), again)
    }

    // System instructions.

    /// EAX = one register of a CPUID leaf: 0 EAX, 1 EBX, 2 ECX, 3 EDX. EBX is kept.
    pub fn cpuid(&mut self, leaf: u32, subleaf: u32, register: usize) -> &mut Self {
        const MOVE: [&[u8]; 4] = [&[], &[0x89, 0xd8], &[0x89, 0xc8], &[0x89, 0xd0]];
        self.raw(&[0x89, 0xdf]); // mov edi, ebx
        self.set_eax(leaf).set_ecx(subleaf).raw(&[0x0f, 0xa2]);
        self.raw(MOVE[register]).raw(&[0x89, 0xfb])
    }

    /// EAX = the low half of an MSR.
    pub fn rdmsr(&mut self, msr: u32) -> &mut Self {
        self.set_ecx(msr).raw(&[0x0f, 0x32])
    }

    pub fn wrmsr(&mut self, msr: u32, value: u64) -> &mut Self {
        self.set_edx((value >> 32) as u32).set_eax(value as u32);
        self.set_ecx(msr).raw(&[0x0f, 0x30])
    }

    // Flow.

    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Put `label` here.
    pub fn place(&mut self, label: Label) -> &mut Self {
        self.labels[label.0] = Some(self.code.len());
        self
    }

    /// A label that is here.
    pub fn here(&mut self) -> Label {
        let label = self.label();
        self.place(label);
        label
    }

    pub fn jump(&mut self, to: Label) -> &mut Self {
        self.raw(&[0xe9]).relative(to)
    }

    pub fn jump_if_eax_is(&mut self, value: u32, to: Label) -> &mut Self {
        self.raw(&[0x3d]).raw(&value.to_le_bytes()).raw(&[0x0f, 0x84]).relative(to)
    }

    pub fn jump_unless_eax_is(&mut self, value: u32, to: Label) -> &mut Self {
        self.raw(&[0x3d]).raw(&value.to_le_bytes()).raw(&[0x0f, 0x85]).relative(to)
    }

    /// Jump unless memory or a device at `address` has what EAX (or its low part) has.
    pub fn jump_unless_eax_is_at(&mut self, width: Width, address: u32, to: Label) -> &mut Self {
        self.set_edi(address).sized(width, 0x3a, &[0x07]).raw(&[0x0f, 0x85]).relative(to)
    }

    fn relative(&mut self, to: Label) -> &mut Self {
        self.fixups.push((self.code.len(), to));
        self.raw(&[0; 4])
    }

    /// Repeat `body` `times` times; the count lives on the stack.
    pub fn repeat(&mut self, times: u32, body: impl FnOnce(&mut Self)) -> &mut Self {
        self.set_ecx(times);
        let again = self.here();
        self.raw(&[0x51]); // push ecx (rcx)
        body(self);
        self.raw(&[0x59, 0xff, 0xc9]); // pop, dec ecx
        self.raw(&[0x0f, 0x85]).relative(again)
    }

    // Reporting.

    /// Text to COM1.
    pub fn print(&mut self, text: &str) -> &mut Self {
        self.set_edx(COM1);
        for byte in text.bytes() {
            self.raw(&[0xb0, byte, 0xee]); // mov al, byte; out dx, al
        }
        self
    }

    /// EAX as eight hexadecimal digits to COM1.
    pub fn print_eax(&mut self) -> &mut Self {
        self.raw(&[0x89, 0xc5]); // mov ebp, eax
        self.set_edx(COM1).set_ecx(8);
        let digit = self.here();
        self.raw(&[0xc1, 0xc5, 4]); // rol ebp, 4
        self.raw(&[0x89, 0xe8, 0x83, 0xe0, 0xf]); // mov eax, ebp; and eax, 15
        self.raw(&[0x3c, 10, 0x72, 2, 0x04, b'a' - b'0' - 10]); // cmp al, 10; jb +2; add al, 39
        self.raw(&[0x04, b'0', 0xee, 0xff, 0xc9]); // add al, '0'; out dx, al; dec ecx
        self.raw(&[0x0f, 0x85]).relative(digit)
    }

    // Ends.

    /// ACPI soft-off.
    pub fn power_off(&mut self) -> &mut Self {
        self.set_eax(POWER_OFF).set_edx(PM1_CONTROL).sized(Width::Word, 0xee, &[]).stop()
    }

    /// Reset by the register that the FADT names.
    pub fn reset(&mut self) -> &mut Self {
        self.set_eax(PULSE_RESET).set_edx(I8042_COMMAND).sized(Width::Byte, 0xee, &[]).stop()
    }

    /// Triple fault: an undefined instruction without an IDT.
    pub fn triple_fault(&mut self) -> &mut Self {
        self.raw(&[0x0f, 0x0b])
    }

    /// Halt for good.
    pub fn stop(&mut self) -> &mut Self {
        self.raw(&[0xfa, 0xf4, 0xeb, 0xfc]) // cli; hlt; jmp back to it
    }
}

fn pci_address(slot: u8, function: u8, register: u8) -> u32 {
    1 << 31 | u32::from(slot) << 11 | u32::from(function) << 8 | u32::from(register & 0xfc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_reach_their_labels_forwards_and_backwards() {
        let mut asm = Asm::new();
        let start = asm.here();
        let end = asm.label();
        asm.jump(end).jump(start).place(end);
        let code = asm.finish();
        assert_eq!(code[..10], [0xe9, 5, 0, 0, 0, 0xe9, 0xf6, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn widths_differ_by_prefix_and_opcode() {
        let bytes = |width| {
            let mut asm = Asm::new();
            asm.sized(width, 0xee, &[]);
            asm.code
        };
        assert_eq!(bytes(Width::Byte), [0xee]);
        assert_eq!(bytes(Width::Word), [0x66, 0xef]);
        assert_eq!(bytes(Width::Dword), [0xef]);
    }

    #[test]
    fn a_guest_that_forgets_to_end_stops() {
        assert_eq!(Asm::new().finish(), [0xfa, 0xf4, 0xeb, 0xfc]);
    }
}
