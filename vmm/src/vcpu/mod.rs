//! vCPU threads and the hands that steer them.
//!
//! ```text
//!            Run                      the guest asked to stop, or crashed
//!  parked ─────────▶ in the guest ───────────────────────────────────────┐
//!    ▲                    │ Park                                         │
//!    └────────────────────┴──────────────────────────────────────────────┘
//! ```
//! A vCPU's descriptor belongs to its thread; everyone else sends it commands. What a guest's access
//! asks of the machine (reset, power off) goes to the [`Inbox`], and the vCPU parks itself until the
//! machine has decided.

mod dump;
mod inbox;
mod thread;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use devices::bus::{Bus, Effect};
use memory::GuestRam;

pub use inbox::{Inbox, Stop};

use crate::kvm::{Coalesced, Kicker, Vcpu};

/// Where a vCPU's accesses go.
#[derive(Clone)]
pub struct Buses {
    pub ports: Arc<Bus>,
    pub mmio: Arc<Bus>,
}

/// What a vCPU thread needs beside the vCPU itself.
#[derive(Clone)]
pub struct Surroundings {
    pub buses: Buses,
    /// Port writes that did not leave the guest; none where every write does.
    pub coalesced: Option<Arc<Coalesced>>,
    pub ram: GuestRam,
    pub inbox: Arc<Inbox>,
}

impl Surroundings {
    /// Apply the writes that the guest has made without leaving. All of them, whatever the first
    /// effect is: what stayed behind would be applied to the machine after its reset.
    fn catch_up(&self) -> Effect {
        let mut first = Effect::None;
        if let Some(coalesced) = &self.coalesced {
            coalesced.apply(|port, data| {
                let effect = self.buses.ports.write(port.into(), data);
                if first == Effect::None {
                    first = effect;
                }
            });
        }
        first
    }
}

/// Runs on the new thread before anything else: affinity, seccomp.
pub type Prepare = Box<dyn FnOnce() -> io::Result<()> + Send>;

type Work = Box<dyn FnOnce(&mut Vcpu) + Send>;

enum Command {
    Run,
    Park,
    /// Do this with the vCPU; parked or not, it is out of the guest meanwhile.
    Work(Work),
    Quit,
}

/// Exits that reached user space; written by the vCPU's thread, read by anybody.
#[derive(Debug, Default)]
pub struct Exits {
    all: AtomicU64,
    ports: AtomicU64,
    mmio: AtomicU64,
}

impl Exits {
    pub fn all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    pub fn ports(&self) -> u64 {
        self.ports.load(Ordering::Relaxed)
    }

    pub fn mmio(&self) -> u64 {
        self.mmio.load(Ordering::Relaxed)
    }
}

/// The machine's side of one vCPU thread.
pub struct Handle {
    commands: Sender<Command>,
    kicker: Kicker,
    exits: Arc<Exits>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    #[error("cannot start the thread of vCPU {index}")]
    Spawn { index: u16, source: io::Error },
    #[error("the thread of vCPU {index} is gone")]
    Gone { index: u16 },
}

impl Handle {
    /// Start `vcpu{index}`, parked.
    pub fn spawn(
        index: u16,
        vcpu: Vcpu,
        around: Surroundings,
        prepare: Prepare,
    ) -> Result<Self, VcpuError> {
        let (commands, received) = mpsc::channel();
        let kicker = vcpu.kicker();
        let exits = Arc::<Exits>::default();
        let (ready, outcome) = mpsc::channel();
        let thread = {
            let (kicker, exits) = (kicker.clone(), exits.clone());
            thread::spawn(index, move || {
                kicker.attach();
                let prepared = prepare();
                let ok = prepared.is_ok();
                let _ = ready.send(prepared);
                if ok {
                    thread::Thread { index, vcpu, around, exits, commands: received }.main();
                }
            })
        };
        let thread = thread.map_err(|source| VcpuError::Spawn { index, source })?;
        match outcome.recv() {
            Ok(Ok(())) => Ok(Self { commands, kicker, exits, thread: Some(thread) }),
            Ok(Err(source)) => Err(VcpuError::Spawn { index, source }),
            Err(_) => Err(VcpuError::Gone { index }),
        }
    }

    pub fn run(&self) {
        // Sending fails only when the thread is gone, which `work` reports.
        let _ = self.commands.send(Command::Run);
    }

    /// Ask for the vCPU to leave the guest; [`work`](Self::work) waits until it has.
    pub fn park(&self) {
        let _ = self.commands.send(Command::Park);
        self.kicker.kick();
    }

    /// Have the vCPU's thread do `work`; the result arrives when it is done.
    pub fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vcpu) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (done, result) = mpsc::channel();
        let work: Work = Box::new(move |vcpu| drop(done.send(work(vcpu))));
        let _ = self.commands.send(Command::Work(work));
        self.kicker.kick();
        result
    }

    pub fn exits(&self) -> &Exits {
        &self.exits
    }

    /// Thread id, for the time it has spent on a processor.
    pub fn thread_id(&self) -> i32 {
        self.kicker.thread_id()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Quit);
        self.kicker.kick();
        if let Some(thread) = self.thread.take() {
            // A panicked thread has said so on its way out.
            let _ = thread.join();
        }
    }
}
