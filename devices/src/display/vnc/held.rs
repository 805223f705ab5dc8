//! [`Held`]: what a viewer types and points at, and what it has pressed and not let go.

use std::collections::BTreeSet;

use super::spec::MOTION_CENTRE;
use crate::input::{InputEvent, InputSink, button};

/// Keys that may be down at once; a user has ten fingers.
const MOST_KEYS: usize = 64;
const BUTTONS: [u16; 3] = [button::LEFT, button::MIDDLE, button::RIGHT];

/// Keys and buttons that are down, to be let go when the viewer leaves.
#[derive(Default)]
pub(super) struct Held {
    keys: BTreeSet<u16>,
    buttons: u8,
    /// Where the pointer was last.
    pointer: Option<(u16, u16)>,
}

impl Held {
    pub(super) fn key(&mut self, code: u16, down: bool, sink: &dyn InputSink) {
        if down {
            if self.keys.len() >= MOST_KEYS && !self.keys.contains(&code) {
                return;
            }
            self.keys.insert(code);
        } else {
            self.keys.remove(&code);
        }
        sink.send(&[InputEvent::Key { code, down }]);
    }

    pub(super) fn pointer(
        &mut self,
        buttons: u8,
        at: (u16, u16),
        size: (u32, u32),
        counts_motion: bool,
        sink: &dyn InputSink,
    ) {
        let mut events = Vec::with_capacity(6);
        if counts_motion {
            let [dx, dy] = [at.0, at.1].map(|to| i32::from(to) - MOTION_CENTRE);
            events.push(InputEvent::Motion { dx, dy });
        } else if sink.accepts().position {
            let scale = |value: u16, size: u32| {
                let last = size.saturating_sub(1).max(1);
                let far = u32::from(InputEvent::FAR);
                (u32::from(value).min(last) * far / last) as u16
            };
            events.push(InputEvent::Position { x: scale(at.0, size.0), y: scale(at.1, size.1) });
        } else if let Some(before) = self.pointer {
            let by = |to: u16, from: u16| i32::from(to) - i32::from(from);
            events.push(InputEvent::Motion { dx: by(at.0, before.0), dy: by(at.1, before.1) });
        }
        self.pointer = Some(at);
        let changed = self.buttons ^ buttons;
        for (bit, code) in
            BUTTONS.into_iter().enumerate().filter(|(bit, _)| changed >> bit & 1 != 0)
        {
            events.push(InputEvent::Button { code, down: buttons >> bit & 1 != 0 });
        }
        // Wheels are buttons that are pressed for each notch.
        let notch = |bit: u8| i32::from((changed & buttons) >> bit & 1);
        let (vertical, horizontal) = (notch(3) - notch(4), notch(6) - notch(5));
        if (vertical, horizontal) != (0, 0) {
            events.push(InputEvent::Wheel { vertical, horizontal });
        }
        self.buttons = buttons;
        if !events.is_empty() {
            sink.send(&events);
        }
    }

    pub(super) fn release(&mut self, sink: &dyn InputSink) {
        let keys = std::mem::take(&mut self.keys).into_iter();
        let mut events: Vec<InputEvent> =
            keys.map(|code| InputEvent::Key { code, down: false }).collect();
        let held = std::mem::take(&mut self.buttons);
        let buttons = BUTTONS.into_iter().enumerate().filter(|(bit, _)| held >> bit & 1 != 0);
        events.extend(buttons.map(|(_, code)| InputEvent::Button { code, down: false }));
        if !events.is_empty() {
            sink.send(&events);
        }
    }
}
