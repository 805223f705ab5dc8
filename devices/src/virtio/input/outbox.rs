//! [`Outbox`]: events on their way from a display to the driver, whole moments at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Role;
use super::spec::{self, EVENT, axis, kind};
use crate::input::{Accepts, InputEvent, InputSink};
use crate::sync::Lock;

/// Moments that wait for a guest that does not look: some seconds of fast work.
const MOST: usize = 512;
/// Events of one moment, far beyond what hands do.
const MOST_TOGETHER: usize = 64;

pub(super) struct Outbox {
    /// Something to do for the worker.
    pub(super) wake: EventFd,
    pub(super) state: Mutex<Waiting>,
}

#[derive(Default)]
pub(super) struct Waiting {
    /// A driver is there.
    pub(super) driver: bool,
    pub(super) moments: VecDeque<Vec<[u8; EVENT]>>,
}

impl Outbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { wake: EventFd::new(EFD_NONBLOCK)?, state: Mutex::default() })
    }

    pub(super) fn forget(&self) {
        *self.state.hold() = Waiting::default();
    }
}

/// The display's end of a device.
pub(super) struct Sink {
    pub(super) role: Role,
    pub(super) outbox: Arc<Outbox>,
}

impl Sink {
    fn encode(&self, event: InputEvent, out: &mut Vec<[u8; EVENT]>) {
        match event {
            InputEvent::Key { code, down } | InputEvent::Button { code, down }
                if spec::has_key(self.role, code) =>
            {
                out.push(spec::encode(kind::KEY, code, down.into()));
            }
            InputEvent::Position { x, y } if self.role == Role::Tablet => {
                for (axis, value) in [(axis::X, x), (axis::Y, y)] {
                    let value = value.min(InputEvent::FAR);
                    out.push(spec::encode(kind::ABSOLUTE, axis, value.into()));
                }
            }
            InputEvent::Motion { dx, dy } if self.role == Role::Mouse => {
                self.relative([(axis::X, dx), (axis::Y, dy)], out);
            }
            InputEvent::Wheel { vertical, horizontal } if self.role != Role::Keyboard => {
                self.relative([(axis::WHEEL, vertical), (axis::HORIZONTAL_WHEEL, horizontal)], out);
            }
            _ => {}
        }
    }

    fn relative(&self, moves: [(u16, i32); 2], out: &mut Vec<[u8; EVENT]>) {
        let moved = moves.into_iter().filter(|(_, by)| *by != 0);
        out.extend(moved.map(|(axis, by)| spec::encode(kind::RELATIVE, axis, by.cast_unsigned())));
    }
}

impl InputSink for Sink {
    fn accepts(&self) -> Accepts {
        let driver = self.outbox.state.hold().driver;
        Accepts {
            keys: driver && self.role == Role::Keyboard,
            position: driver && self.role == Role::Tablet,
            motion: driver && self.role == Role::Mouse,
        }
    }

    fn send(&self, events: &[InputEvent]) {
        let mut moment = Vec::with_capacity(events.len().min(MOST_TOGETHER) + 1);
        for event in events.iter().take(MOST_TOGETHER) {
            self.encode(*event, &mut moment);
        }
        if moment.is_empty() {
            return;
        }
        moment.push(spec::encode(kind::SYNC, 0, 0));
        let mut state = self.outbox.state.hold();
        if !state.driver {
            return;
        }
        if state.moments.len() == MOST {
            // What is oldest is what nobody waits for; a key that went up must not be lost.
            state.moments.pop_front();
        }
        state.moments.push_back(moment);
        drop(state);
        let _ = self.outbox.wake.write(1);
    }
}
