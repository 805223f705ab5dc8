//! ELF cores, as readers of ELF see them.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use baremetal::{SCRATCH, Width, pvh};
use vmm_protocol::control::{ControlErrorCode, Reply, Request, RunState};

use crate::needs_kvm;
use crate::rig::Rig;

const MARK: u32 = 0xfeed_5eed;

/// Leaves a mark in memory, and counts in a register for ever.
fn marking() -> Vec<u8> {
    pvh(|asm| {
        asm.poke(Width::Dword, SCRATCH, MARK).print("marked\n");
        let again = asm.here();
        asm.read_port(Width::Byte, 0x80).jump(again);
    })
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Type, offset, physical address and length of each segment.
fn segments(core: &File) -> Vec<(u32, u64, u64, u64)> {
    let mut head = vec![0; 4096];
    core.read_exact_at(&mut head, 0).unwrap();
    assert_eq!(&head[..7], b"\x7fELF\x02\x01\x01");
    assert_eq!((head[16], head[18]), (4, 62), "a core of x86-64");
    let count = usize::from(head[56]);
    let at = |number| 64 + number * 56;
    (0..count)
        .map(|number| &head[at(number)..at(number + 1)])
        .map(|one| (half(one, 0), word(one, 8), word(one, 24), word(one, 32)))
        .collect()
}

#[test]
fn a_core_holds_memory_by_its_addresses_and_the_registers_of_every_vcpu() {
    needs_kvm!();
    let mut guest = Rig::new(&marking()).cpus(2).memory(64).start();
    guest.wait_serial("the mark", |serial| serial.contains("marked"));
    let (mut client, _) = guest.greet();
    let core = tempfile::tempfile().unwrap();
    // Running, and it runs on.
    assert_eq!(client.ask_with(Request::Dump, &core), Ok(Reply::Done));
    assert_eq!(guest.state(), RunState::Running);

    let segments = segments(&core);
    let loads: Vec<_> = segments.iter().filter(|(kind, ..)| *kind == 1).collect();
    assert_eq!(loads.iter().map(|(.., len)| len).sum::<u64>(), 64 << 20);
    let mark = u64::from(SCRATCH);
    let inside = |(_, _, gpa, len): &&&(u32, u64, u64, u64)| (*gpa..gpa + len).contains(&mark);
    let (_, offset, gpa, _) = loads.iter().find(inside).unwrap();
    let mut found = [0; 4];
    core.read_exact_at(&mut found, offset + mark - gpa).unwrap();
    assert_eq!(u32::from_le_bytes(found), MARK);
    assert!(core.metadata().unwrap().blocks() * 512 < 4 << 20, "zeros take no space");

    let (kind, offset, _, len) = segments[0];
    assert_eq!(kind, 4);
    let mut notes = vec![0; usize::try_from(len).unwrap()];
    core.read_exact_at(&mut notes, offset).unwrap();
    let mut seen = Vec::new();
    let mut at = 0;
    while at < notes.len() {
        let (name, content) = (half(&notes, at) as usize, half(&notes, at + 4) as usize);
        let begin = at + 12 + name.next_multiple_of(4);
        seen.push((notes[at + 12..at + 16].to_vec(), notes[begin..begin + content].to_vec()));
        at = begin + content.next_multiple_of(4);
    }
    let names: Vec<_> = seen.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(names, [b"CORE", b"CORE", b"QEMU", b"QEMU"]);
    assert_eq!((seen[0].1.len(), half(&seen[0].1, 32)), (336, 1));
    assert_eq!((seen[2].1.len(), half(&seen[2].1, 4)), (440, 440));
    // The first runs where the kernel was loaded; both notes say so.
    let rip = word(&seen[0].1, 112 + 16 * 8);
    assert_eq!(rip, word(&seen[2].1, 8 + 16 * 8));
    assert!((1 << 20..64 << 20).contains(&rip), "{rip:#x}");
}

#[test]
fn a_dump_is_refused_without_a_file_and_while_another_is_written() {
    needs_kvm!();
    let mut guest = Rig::new(&marking()).memory(2048).start();
    guest.wait_serial("the mark", |serial| serial.contains("marked"));
    let (mut client, _) = guest.greet();
    assert_eq!(client.ask(Request::Dump).unwrap_err().code, ControlErrorCode::Malformed);
    let core = tempfile::tempfile().unwrap();
    let first = client.send_with(Request::Dump, &[std::os::fd::AsFd::as_fd(&core)]);
    let (mut other, _) = guest.greet();
    let second = other.ask_with(Request::Dump, &tempfile::tempfile().unwrap());
    assert_eq!(second.unwrap_err().code, ControlErrorCode::Busy);
    // A guest that is dumped can be paused, and the dump goes on.
    other.ask(Request::Pause).unwrap();
    assert_eq!(client.reply_to(first), Ok(Reply::Done));
}

/// The reader that everybody has: each vCPU is a thread of its, and memory is found by the addresses of
/// a guest without paging.
#[test]
fn gdb_shows_the_threads_registers_and_memory_of_a_core() {
    needs_kvm!();
    let gdb = match manor_tests::tools::gdb() {
        Ok(gdb) => gdb,
        Err(error) => {
            println!("SKIP: there is no gdb here: {error:#}");
            return;
        }
    };
    let mut guest = Rig::new(&marking()).cpus(2).memory(64).start();
    guest.wait_serial("the mark", |serial| serial.contains("marked"));
    let (mut client, _) = guest.greet();
    let core = tempfile::NamedTempFile::new().unwrap();
    client.ask(Request::Pause).unwrap();
    client.ask_with(Request::Dump, core.as_file()).unwrap();
    let words = ["-nx", "-batch", "-ex", "info threads", "-ex", "info registers rip cs"];
    let memory = format!("x/1xw {SCRATCH:#x}");
    let output = gdb
        .command()
        .args(words)
        .args(["-ex", &memory, "-ex", "thread 2", "-ex", "info registers rsp", "-core"])
        .arg(core.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let threads = text.lines().filter(|line| line.contains("LWP") && line.contains("0x")).count();
    assert!(threads >= 2, "{text}{complaints}");
    for wanted in ["rip ", "cs ", "rsp ", &format!("{MARK:#x}")] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}{complaints}");
    }
}
