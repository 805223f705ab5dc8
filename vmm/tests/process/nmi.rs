//! A non-maskable interrupt, which every vCPU takes by a handler of the guest's own.

use baremetal::Width::Dword;
use baremetal::{Asm, SCRATCH, TRAMPOLINE_VECTOR, pvh};
use vmm_protocol::control::{ControlErrorCode, Request, RunState};

use crate::needs_kvm;
use crate::rig::Rig;

const VECTOR: u32 = 2;
const IDT: u32 = SCRATCH;
const GDT: u32 = SCRATCH + 0x100;
const TABLES: u32 = SCRATCH + 0x200;
const HANDLER: u32 = SCRATCH + 0x300;
const STACK: u32 = SCRATCH + 0x1000;
/// Of the other vCPU, which stays in real mode, behind its first code.
const REAL_HANDLER: u32 = (TRAMPOLINE_VECTOR << 12) + 0x800;

fn poke(asm: &mut Asm, at: u32, bytes: &[u8]) {
    for (at, bytes) in (at..).step_by(4).zip(bytes.chunks(4)) {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        asm.poke(Dword, at, u32::from_le_bytes(word));
    }
}

/// Both vCPUs stand still with interrupts off, and print a letter when one comes all the same.
fn listening() -> Vec<u8> {
    pvh(|asm| {
        // mov edx, COM1; mov al, 'B'; out dx, al; again: hlt; jmp again
        poke(asm, HANDLER, &[0xba, 0xf8, 0x03, 0, 0, 0xb0, b'B', 0xee, 0xf4, 0xeb, 0xfd]);
        // The same in 16 bits, with another letter, and its place in the table of real mode.
        poke(asm, REAL_HANDLER, &[0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xf4, 0xeb, 0xfd]);
        asm.poke(Dword, VECTOR * 4, REAL_HANDLER);
        // Selector 8: flat code. The gate of the interrupt leads there.
        asm.poke(Dword, GDT + 8, 0x0000_ffff).poke(Dword, GDT + 12, 0x00cf_9a00);
        asm.poke(Dword, IDT + VECTOR * 8, 8 << 16 | HANDLER & 0xffff);
        asm.poke(Dword, IDT + VECTOR * 8 + 4, HANDLER & 0xffff_0000 | 0x8e00);
        for (at, table) in [(TABLES, GDT), (TABLES + 8, IDT)] {
            let mut pointer = 0xff_u16.to_le_bytes().to_vec();
            pointer.extend(table.to_le_bytes());
            poke(asm, at, &pointer);
        }
        asm.raw(&[0xbc]).raw(&STACK.to_le_bytes()); // mov esp, STACK
        asm.raw(&[0x0f, 0x01, 0x15]).raw(&TABLES.to_le_bytes()); // lgdt
        asm.raw(&[0x0f, 0x01, 0x1d]).raw(&(TABLES + 8).to_le_bytes()); // lidt
        asm.start_other_cpus(1, "+").print("\n");
        let again = asm.here();
        asm.raw(&[0xf4]).jump(again); // hlt
    })
}

#[test]
fn every_vcpu_takes_it() {
    needs_kvm!();
    let mut guest = Rig::new(&listening()).cpus(2).start();
    let (mut client, _) = guest.greet();
    guest.wait_serial("both vCPUs", |serial| serial == "+\n");
    client.ask(Request::InjectNmi).unwrap();
    guest.wait_serial("their handlers", |serial| {
        serial.len() == 4 && serial.contains('A') && serial.contains('B')
    });
    assert_eq!(guest.state(), RunState::Running);
    client.ask(Request::Pause).unwrap();
    let refused = client.ask(Request::InjectNmi).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::State);
}
