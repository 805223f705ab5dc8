//! Which thread serves which queue: one thread for each disk and each NIC, one for all the rest, and
//! those that `<iothreads>` defines for the disks that name them. A confined VMM starts no threads, so
//! one is there from the start for all devices that come later.

use vmm_protocol::config::{IoThread, Machine};
use xml::{CpuSet, DomainDef};

/// Longest name of a Linux thread.
const LONGEST_NAME: usize = 15;

#[derive(Default)]
pub(super) struct IoThreads {
    threads: Vec<IoThread>,
    /// libvirt's numbers of the defined ones, by index.
    defined: Vec<u32>,
    shared: Option<usize>,
    /// The machine runs: there is no thread but those it has.
    running: bool,
}

impl IoThreads {
    pub(super) fn new(def: &DomainDef) -> Self {
        let mut ids: Vec<u32> = def
            .iothread_ids
            .iter()
            .flat_map(|ids| ids.threads.iter().map(|thread| thread.id))
            .collect();
        let count = def.iothreads.unwrap_or(0) as usize;
        // Ids that were not written are the lowest free ones.
        let mut free = 1..;
        while ids.len() < count {
            match free.find(|id| !ids.contains(id)) {
                Some(id) => ids.push(id),
                None => break,
            }
        }
        let pins = def.cpu_tune.iter().flat_map(|tune| &tune.iothread_pins);
        let pins: Vec<_> = pins.collect();
        let thread = |id: &u32| IoThread {
            name: name("iothread", &id.to_string()),
            affinity: pins
                .iter()
                .find(|pin| pin.iothread == *id)
                .map(|pin| cpus(&pin.cpuset))
                .unwrap_or_default(),
        };
        let mut threads: Vec<_> = ids.iter().map(thread).collect();
        if super::board_of(def) != Machine::Microvm {
            threads.push(IoThread { name: "io:plugged".to_owned(), affinity: Vec::new() });
        }
        Self { threads, defined: ids, shared: None, running: false }
    }

    /// For a device that comes while the machine of `def` runs.
    pub(super) fn of_running(def: &DomainDef) -> Self {
        Self { running: true, ..Self::new(def) }
    }

    /// The thread `<iothreads>` gave this number.
    pub(super) fn defined(&self, id: u32) -> Option<usize> {
        self.defined.iter().position(|defined| *defined == id)
    }

    /// The numbers of those that `<iothreads>` defines.
    pub(super) fn ids(&self) -> &[u32] {
        &self.defined
    }

    /// One more, for one device.
    pub(super) fn own(&mut self, kind: &str, device: &str) -> usize {
        if self.running {
            // Behind the defined ones.
            return self.defined.len();
        }
        let affinity = Vec::new();
        self.threads.push(IoThread { name: name(&format!("{kind}:"), device), affinity });
        self.threads.len() - 1
    }

    pub(super) fn shared(&mut self) -> usize {
        if let Some(shared) = self.shared {
            return shared;
        }
        let shared = self.own("io", "rest");
        self.shared = Some(shared);
        shared
    }

    pub(super) fn into_threads(self) -> Vec<IoThread> {
        self.threads
    }
}

pub(super) fn cpus(set: &CpuSet) -> Vec<u16> {
    set.iter().filter_map(|cpu| u16::try_from(cpu).ok()).collect()
}

fn name(kind: &str, rest: &str) -> String {
    let mut name = format!("{kind}{rest}");
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}
