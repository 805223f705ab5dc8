//! A fault of QEMU's emulation that UEFI firmware as a nested guest trips over, and its repair in the
//! compiled program.
//!
//! A guest's write of CR8 that its hypervisor does not intercept raises the virtual interrupt that
//! waits. `helper_write_crN` does so by `cpu_interrupt` without the big lock, unlike all others, and
//! `tcg_handle_interrupt` asserts that the lock is held. Where the assertion would end QEMU, the
//! mended program takes the lock for the one statement that it guards, the change of a word that
//! devices' threads change too. The processor's thread holds no other lock there, and goes on
//! without this one, as it came.
//!
//! ```text
//!         call bql_locked                           call bql_locked
//!         test %al,%al                              test %al,%al
//!         jne  1f                                   jne  1f
//!         lea  "bql_locked()",%r8                   lea  FILE,%rdi
//!         lea  "tcg_handle_interrupt",%rcx          mov  LINE,%esi
//!         mov  LINE,%edx                            call bql_lock_impl
//!         xor  %edi,%edi                            or   MASK,interrupt_request
//!         lea  FILE,%rsi                            call bql_unlock
//!         call g_assertion_message_expr             jmp  2f
//!     1:  or   MASK,interrupt_request           1:  or   MASK,interrupt_request
//!                                               2:
//! ```

use std::ops::Range;

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSegment as _, ObjectSymbol};

const FUNCTION: &str = "tcg_handle_interrupt";
const CONDITION: &str = "bql_locked()";

/// The left column, from its first call to its end; what differs between builds is left open.
const SHAPE: &str = "\
    e8 ?? ?? ?? ?? \
    84 c0 \
    75 24 \
    4c 8d 05 ?? ?? ?? ?? \
    48 8d 0d ?? ?? ?? ?? \
    ba ?? ?? ?? ?? \
    31 ff \
    48 8d 35 ?? ?? ?? ?? \
    e8 ?? ?? ?? ?? \
    0f 1f 00 \
    09 ab ?? ?? ?? ??";

/// Where in it the operands are that are not the repair's own.
const LOCKED: Range<usize> = 1..5;
const COLD: usize = 9;
const SAID_CONDITION: Range<usize> = 12..16;
const SAID_FUNCTION: Range<usize> = 19..23;
const LINE: Range<usize> = 24..28;
const FILE: Range<usize> = 33..37;
const OR: Range<usize> = 45..51;

/// Another QEMU than this repair knows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmendable {
    #[error("it is no program in the ELF format")]
    NoElf,
    #[error("it has no function {0:?}")]
    Lacks(&'static str),
    #[error("its {FUNCTION} is compiled otherwise")]
    OtherCode,
}

/// The program with the repair.
pub(super) fn mended(mut program: Vec<u8>) -> Result<Vec<u8>, Unmendable> {
    let elf = ElfFile64::parse(&*program).map_err(|_| Unmendable::NoElf)?;
    let (at, repair) = find(&elf, &program)?;
    program[at..at + repair.len()].copy_from_slice(&repair);
    Ok(program)
}

/// Where in the file what is to be written.
fn find(elf: &ElfFile64, program: &[u8]) -> Result<(usize, Vec<u8>), Unmendable> {
    // Exported, for plugins' sake: no debugging symbols are needed.
    let symbol = |name| {
        let mut all = elf.dynamic_symbols().filter(ObjectSymbol::is_definition);
        all.find(|symbol| symbol.name() == Ok(name)).ok_or(Unmendable::Lacks(name))
    };
    let address = |name| symbol(name).map(|symbol| symbol.address());
    let lock = Lock {
        locked: address("bql_locked")?,
        lock: address("bql_lock_impl")?,
        unlock: address("bql_unlock")?,
    };
    let function = symbol(FUNCTION)?;
    let begin = place(elf, function.address()).ok_or(Unmendable::OtherCode)?;
    let code = usize::try_from(function.size()).ok().and_then(|size| {
        let end = begin.checked_add(size)?;
        program.get(begin..end)
    });
    let function = Function { address: function.address(), code: code.unwrap_or_default() };
    let text = |address| {
        let text = program.get(place(elf, address)?..)?;
        text.split(|byte| *byte == 0).next()
    };
    let (offset, repair) = repair(&function, &lock, text).ok_or(Unmendable::OtherCode)?;
    Ok((begin + offset, repair))
}

/// Where in the file the byte is that is loaded there.
fn place(elf: &ElfFile64, address: u64) -> Option<usize> {
    elf.segments().find_map(|segment| {
        let (from, size) = segment.file_range();
        let offset = address.checked_sub(segment.address()).filter(|offset| *offset < size)?;
        usize::try_from(from + offset).ok()
    })
}

struct Function<'a> {
    address: u64,
    code: &'a [u8],
}

/// The addresses of the functions of the big lock.
struct Lock {
    locked: u64,
    lock: u64,
    unlock: u64,
}

/// What stands where the assertion was, and where in the function that is. The assertion must be
/// there once, of that condition and by its own words.
fn repair<'a>(
    function: &Function,
    lock: &Lock,
    text: impl Fn(u64) -> Option<&'a [u8]>,
) -> Option<(usize, Vec<u8>)> {
    let shape = shape();
    let fits =
        |code: &[u8]| code.iter().zip(&shape).all(|(byte, is)| is.is_none_or(|is| *byte == is));
    let mut all = function.code.windows(shape.len()).enumerate().filter(|(_, code)| fits(code));
    let (offset, code) = all.next()?;
    if all.next().is_some() {
        return None;
    }
    let begin = function.address.checked_add(u64::try_from(offset).ok()?)?;
    let target = |operand: Range<usize>| {
        let distance = i32::from_le_bytes(code[operand.clone()].try_into().ok()?);
        begin.checked_add(u64::try_from(operand.end).ok()?)?.checked_add_signed(distance.into())
    };
    let says = |operand, words: &str| Some(text(target(operand)?)? == words.as_bytes());
    let is_it = target(LOCKED)? == lock.locked
        && says(SAID_CONDITION, CONDITION)?
        && says(SAID_FUNCTION, FUNCTION)?;
    if !is_it {
        return None;
    }
    let mut new = New { address: begin.checked_add(u64::try_from(COLD).ok()?)?, code: Vec::new() };
    new.near(&[0x48, 0x8d, 0x3d], target(FILE)?)?;
    new.code.push(0xbe);
    new.code.extend(&code[LINE]);
    new.near(&[0xe8], lock.lock)?;
    new.code.extend(&code[OR]);
    new.near(&[0xe8], lock.unlock)?;
    let here = COLD + new.code.len() + 2;
    new.code.extend([0xeb, u8::try_from(OR.end.checked_sub(here)?).ok()?]);
    (COLD + new.code.len() <= OR.start).then_some((offset + COLD, new.code))
}

/// Code in the making.
struct New {
    address: u64,
    code: Vec<u8>,
}

impl New {
    /// An instruction that ends in a distance from its own end.
    fn near(&mut self, instruction: &[u8], target: u64) -> Option<()> {
        self.code.extend(instruction);
        let end = self.address.checked_add(u64::try_from(self.code.len() + 4).ok()?)?;
        let distance = i32::try_from(target.checked_signed_diff(end)?).ok()?;
        self.code.extend(distance.to_le_bytes());
        Some(())
    }
}

fn shape() -> Vec<Option<u8>> {
    SHAPE.split(' ').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tcg_handle_interrupt` of QEMU 10.0.2 as Debian compiled it, up to where both ways meet.
    const ADDRESS: u64 = 0x7a_2ee0;
    const CODE: [u8; 62] = [
        0x55, 0x89, 0xf5, 0x53, 0x48, 0x89, 0xfb, 0x48, 0x83, 0xec, 0x08, // its beginning
        0xe8, 0x70, 0x06, 0xf8, 0xff, // call bql_locked
        0x84, 0xc0, 0x75, 0x24, // test, jne
        0x4c, 0x8d, 0x05, 0xdb, 0xcb, 0x46, 0x00, // "bql_locked()"
        0x48, 0x8d, 0x0d, 0xbe, 0x56, 0x4a, 0x00, // "tcg_handle_interrupt"
        0xba, 0x5f, 0x00, 0x00, 0x00, // the line
        0x31, 0xff, 0x48, 0x8d, 0x35, 0x40, 0x56, 0x4a, 0x00, // the file
        0xe8, 0x9b, 0x46, 0xcf, 0xff, 0x0f, 0x1f, 0x00, // call g_assertion_message_expr
        0x09, 0xab, 0xd0, 0x00, 0x00, 0x00, // or %ebp,0xd0(%rbx)
    ];
    const LOCK: Lock = Lock { locked: 0x72_3560, lock: 0x72_35a0, unlock: 0x72_3600 };

    fn text(address: u64) -> Option<&'static [u8]> {
        match address {
            0xc0_fad6 => Some(b"bql_locked()"),
            0xc4_85c0 => Some(b"tcg_handle_interrupt"),
            _ => None,
        }
    }

    fn repair_of(code: &[u8]) -> Option<(usize, Vec<u8>)> {
        repair(&Function { address: ADDRESS, code }, &LOCK, text)
    }

    #[test]
    fn where_it_would_end_the_lock_is_taken_for_the_statement() {
        let expected = [
            0x48, 0x8d, 0x3d, 0x55, 0x56, 0x4a, 0x00, // lea FILE,%rdi
            0xbe, 0x5f, 0x00, 0x00, 0x00, // mov LINE,%esi
            0xe8, 0x9b, 0x06, 0xf8, 0xff, // call bql_lock_impl
            0x09, 0xab, 0xd0, 0x00, 0x00, 0x00, // or %ebp,0xd0(%rbx)
            0xe8, 0xf0, 0x06, 0xf8, 0xff, // call bql_unlock
            0xeb, 0x0c, // jmp behind the other `or`
        ];
        assert_eq!(repair_of(&CODE), Some((20, expected.to_vec())));
    }

    #[test]
    fn what_is_mended_or_otherwise_is_left_alone() {
        let (at, new) = repair_of(&CODE).expect("the shape is there");
        let mut mended = CODE;
        mended[at..at + new.len()].copy_from_slice(&new);
        assert_eq!(repair_of(&mended), None);
        assert_eq!(repair_of(&[CODE, CODE].concat()), None, "which of the two?");
        assert_eq!(repair_of(&CODE[..61]), None, "it ends too early");
        for (byte, why) in
            [(13, "another function is asked"), (19, "another jump"), (24, "other words")]
        {
            let mut other = CODE;
            other[byte] ^= 0x10;
            assert_eq!(repair_of(&other), None, "{why}");
        }
    }

    #[test]
    fn other_files_are_named_for_what_they_lack() {
        assert_eq!(mended(b"#!/bin/sh\n".to_vec()), Err(Unmendable::NoElf));
        let this = std::env::current_exe().and_then(std::fs::read).expect("a test has a program");
        assert_eq!(mended(this), Err(Unmendable::Lacks("bql_locked")));
    }
}
