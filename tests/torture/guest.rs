//! A guest of a few bytes, and its processes as the host's kernel knows them.

use std::fmt;

use baremetal::Width;

const PM1_STATUS: u16 = 0x600;
const POWER_BUTTON: u32 = 1 << 8;

/// Goes when its power button is pressed.
pub(crate) fn polling() -> Vec<u8> {
    baremetal::pvh(|asm| {
        asm.print("ready\n");
        let off = asm.label();
        let poll = asm.here();
        // A port that KVM leaves to the VMM: each look is an exit, and a chance for others.
        asm.read_port(Width::Word, PM1_STATUS).and_eax(POWER_BUTTON).jump_unless_eax_is(0, off);
        asm.jump(poll);
        asm.place(off).power_off();
    })
}

/// Costs nothing.
pub(crate) fn resting() -> Vec<u8> {
    baremetal::pvh(|asm| {
        asm.print("ready\n").stop();
    })
}

/// A process that cannot be taken for a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start)
    }
}

impl Process {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // What has ended and was not waited for is none.
        let there = fields.first().is_some_and(|state| *state != "Z" && *state != "X");
        Some(Self { pid, start: fields.get(19)?.parse().ok()? }).filter(|_| there)
    }
}

/// Every process with its command line.
pub(crate) fn processes() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        Some((pid, words.collect::<Vec<_>>().join(" ")))
    })
    .collect()
}
