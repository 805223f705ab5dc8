//! [`Inputs`]: all that takes a user's input, as one.

use std::sync::{Arc, Mutex};

use crate::input::{Accepts, InputEvent, InputSink};
use crate::sync::Lock;

/// Each sort of event goes to the first sink whose driver takes it: a tablet of the guest's own
/// choice before the mouse that every PC has. Devices come and go.
#[derive(Default)]
pub struct Inputs(Mutex<Vec<(String, Arc<dyn InputSink>)>>);

impl Inputs {
    /// The sink of device `id`, before all that are there.
    pub fn prefer(&self, id: &str, sink: Arc<dyn InputSink>) {
        self.0.hold().insert(0, (id.to_owned(), sink));
    }

    /// The sink of device `id`, for what no other takes.
    pub fn append(&self, id: &str, sink: Arc<dyn InputSink>) {
        self.0.hold().push((id.to_owned(), sink));
    }

    pub fn remove(&self, id: &str) {
        self.0.hold().retain(|(other, _)| other != id);
    }

    /// As they are now: none of them is asked with the lock held.
    fn sinks(&self) -> Vec<Arc<dyn InputSink>> {
        self.0.hold().iter().map(|(_, sink)| sink.clone()).collect()
    }
}

impl InputSink for Inputs {
    fn accepts(&self) -> Accepts {
        self.sinks().iter().map(|sink| sink.accepts()).fold(Accepts::default(), |all, sink| {
            Accepts {
                keys: all.keys || sink.keys,
                position: all.position || sink.position,
                motion: all.motion || sink.motion,
            }
        })
    }

    fn send(&self, events: &[InputEvent]) {
        let sinks = self.sinks();
        let accepts: Vec<Accepts> = sinks.iter().map(|sink| sink.accepts()).collect();
        let first = |takes: fn(&Accepts) -> bool| accepts.iter().position(takes);
        let keys = first(|sink| sink.keys);
        let moved = |event: &InputEvent| matches!(event, InputEvent::Motion { .. });
        // Buttons and wheel go where the pointer is moved.
        let pointer = if events.iter().any(moved) {
            first(|sink| sink.motion)
        } else {
            first(|sink| sink.position).or_else(|| first(|sink| sink.motion))
        };
        for (index, sink) in sinks.iter().enumerate() {
            let its = |event: &InputEvent| match event {
                InputEvent::Key { .. } => keys == Some(index),
                _ => pointer == Some(index),
            };
            let part: Vec<InputEvent> = events.iter().copied().filter(its).collect();
            if !part.is_empty() {
                sink.send(&part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::button;

    struct Sink(Accepts, Mutex<Vec<InputEvent>>);

    impl InputSink for Sink {
        fn accepts(&self) -> Accepts {
            self.0
        }
        fn send(&self, events: &[InputEvent]) {
            self.1.hold().extend_from_slice(events);
        }
    }

    #[test]
    fn events_go_to_the_first_that_takes_them() {
        let sink = |keys, position, motion| {
            Arc::new(Sink(Accepts { keys, position, motion }, Mutex::default()))
        };
        let (tablet, ps2) = (sink(false, true, false), sink(true, false, true));
        let inputs = Inputs::default();
        inputs.append("i8042", ps2.clone());
        inputs.prefer("input0", tablet.clone());
        let key = InputEvent::Key { code: 30, down: true };
        let position = InputEvent::Position { x: 1, y: 2 };
        let click = InputEvent::Button { code: button::LEFT, down: true };
        let motion = InputEvent::Motion { dx: 1, dy: 1 };
        inputs.send(&[key, position, click]);
        inputs.send(&[motion]);
        assert_eq!(*tablet.1.hold(), [position, click]);
        assert_eq!(*ps2.1.hold(), [key, motion]);
        assert_eq!(inputs.accepts(), Accepts { keys: true, position: true, motion: true });
        inputs.remove("input0");
        inputs.send(&[click]);
        assert_eq!(*ps2.1.hold(), [key, motion, click]);
        assert_eq!(inputs.accepts(), Accepts { keys: true, position: false, motion: true });
    }
}
