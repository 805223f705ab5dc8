//! The thread of one vCPU: enter the guest, serve the exit, enter again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::{Builder, JoinHandle};

use devices::bus::Effect;
use vmm_protocol::exit::CrashReport;

use super::{Command, Exits, Stop, Surroundings, dump};
use crate::kvm::{Exit, InternalError, Vcpu};

/// Device models are shallow; the largest thing on this stack is a PCI access.
const STACK: usize = 256 << 10;

pub(super) fn spawn(
    index: u16,
    main: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(format!("vcpu{index}")).stack_size(STACK).spawn(main)
}

pub(super) struct Thread {
    pub(super) index: u16,
    pub(super) vcpu: Vcpu,
    pub(super) around: Surroundings,
    pub(super) exits: Arc<Exits>,
    pub(super) commands: Receiver<Command>,
}

/// Status of a hypercall by a code that is none (TLFS, appendix B): messages and events between
/// partitions, of which there are no others.
const HYPERV_NO_SUCH_CALL: u64 = 2;

/// Why [`Thread::run`] came back.
enum Left {
    /// Somebody wants something.
    Kicked,
    Stopped(Stop),
}

impl Thread {
    pub(super) fn main(mut self) {
        let mut running = false;
        loop {
            let command = if running {
                match self.run() {
                    Left::Kicked => match self.commands.try_recv() {
                        Ok(command) => command,
                        // The command was served before its kick arrived.
                        Err(TryRecvError::Empty) => continue,
                        Err(TryRecvError::Disconnected) => return,
                    },
                    Left::Stopped(stop) => {
                        running = false;
                        self.around.inbox.post(stop);
                        continue;
                    }
                }
            } else {
                let Ok(command) = self.commands.recv() else { return };
                command
            };
            match command {
                Command::Run => running = true,
                Command::Park => running = false,
                Command::Work(work) => work(&mut self.vcpu),
                Command::Quit => return,
            }
        }
    }

    /// In the guest until it stops or somebody kicks.
    fn run(&mut self) -> Left {
        loop {
            let left = self.vcpu.run();
            // What the guest wrote before it left comes before what it left for; and who leaves for
            // a command leaves nothing behind that a pause or a save would miss.
            let served = match (self.around.catch_up(), left) {
                (Effect::None, Ok(Some(exit))) => serve(exit, &self.around, &self.exits).map(Some),
                (Effect::None, Ok(None)) => Ok(None),
                (Effect::None, Err(error)) => Err(format!("KVM_RUN failed: {error}")),
                (effect, _) => Ok(Some(effect)),
            };
            match served {
                Ok(None) if self.vcpu.take_kick() => return Left::Kicked,
                Ok(None | Some(Effect::None)) => {}
                Ok(Some(effect)) => {
                    // The registers must be past the access before anyone resets or saves them.
                    self.vcpu.settle();
                    // A repeated instruction writes on until it is settled. One stop is enough.
                    let _ = self.around.catch_up();
                    if let Some(stop) = Stop::of(effect, self.index) {
                        return Left::Stopped(stop);
                    }
                }
                Err(cause) => {
                    let registers = dump::registers(&self.vcpu, &self.around.ram);
                    let vcpu = Some(self.index);
                    let report = CrashReport { cause, vcpu, registers: Some(registers) };
                    return Left::Stopped(Stop::Crashed(report));
                }
            }
        }
    }
}

/// Serve one exit. An error is the cause of a crash.
fn serve(exit: Exit<'_>, around: &Surroundings, exits: &Exits) -> Result<Effect, String> {
    exits.all.fetch_add(1, Ordering::Relaxed);
    match exit {
        Exit::PortRead { port, width, data } => {
            exits.ports.fetch_add(1, Ordering::Relaxed);
            for item in data.chunks_mut(width) {
                around.buses.ports.read(port.into(), item);
            }
        }
        Exit::PortWrite { port, width, data } => {
            exits.ports.fetch_add(1, Ordering::Relaxed);
            for item in data.chunks(width) {
                match around.buses.ports.write(port.into(), item) {
                    Effect::None => {}
                    effect => return Ok(effect),
                }
            }
        }
        Exit::MmioRead { gpa, data } => {
            exits.mmio.fetch_add(1, Ordering::Relaxed);
            around.buses.mmio.read(gpa, data);
        }
        Exit::MmioWrite { gpa, data } => {
            exits.mmio.fetch_add(1, Ordering::Relaxed);
            return Ok(around.buses.mmio.write(gpa, data));
        }
        Exit::Reset => return Ok(Effect::Reset),
        Exit::GuestCrashed => return Ok(Effect::Panicked),
        Exit::HypervCall { result } => *result = HYPERV_NO_SUCH_CALL,
        Exit::HypervSetup => {}
        Exit::Shutdown => return Err("triple fault".to_owned()),
        Exit::EntryFailed { reason } => {
            return Err(format!("the processor refused to enter the guest (reason {reason:#x})"));
        }
        Exit::InternalError(error) => return Err(describe(&error)),
        Exit::Unexpected { reason } => return Err(format!("unexpected KVM exit {reason:#x}")),
    }
    Ok(Effect::None)
}

/// KVM's numbers for errors of its own (`KVM_INTERNAL_ERROR_*`).
fn describe(error: &InternalError) -> String {
    let name = match error.suberror {
        1 => "emulation failure",
        2 => "simultaneous exceptions",
        3 => "exception while delivering an event",
        4 => "unexpected exit reason",
        _ => "unknown",
    };
    let mut text = format!("KVM internal error {} ({name})", error.suberror);
    for value in &error.data[..error.len] {
        text.push_str(&format!(" {value:#x}"));
    }
    text
}
