//! [`Inputs`]: all that takes a user's input, as one.

use std::sync::Arc;

use crate::input::{Accepts, InputEvent, InputSink};

/// Each sort of event goes to the first sink whose driver takes it: a tablet of the guest's own
/// choice before the mouse that every PC has.
pub struct Inputs(pub Vec<Arc<dyn InputSink>>);

impl InputSink for Inputs {
    fn accepts(&self) -> Accepts {
        self.0.iter().map(|sink| sink.accepts()).fold(Accepts::default(), |all, sink| Accepts {
            keys: all.keys || sink.keys,
            position: all.position || sink.position,
            motion: all.motion || sink.motion,
        })
    }

    fn send(&self, events: &[InputEvent]) {
        let accepts: Vec<Accepts> = self.0.iter().map(|sink| sink.accepts()).collect();
        let first = |takes: fn(&Accepts) -> bool| accepts.iter().position(takes);
        let keys = first(|sink| sink.keys);
        let moved = |event: &InputEvent| matches!(event, InputEvent::Motion { .. });
        // Buttons and wheel go where the pointer is moved.
        let pointer = if events.iter().any(moved) {
            first(|sink| sink.motion)
        } else {
            first(|sink| sink.position).or_else(|| first(|sink| sink.motion))
        };
        for (index, sink) in self.0.iter().enumerate() {
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
    use std::sync::Mutex;

    use super::*;
    use crate::input::button;
    use crate::sync::Lock;

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
        let inputs = Inputs(vec![tablet.clone(), ps2.clone()]);
        let key = InputEvent::Key { code: 30, down: true };
        let position = InputEvent::Position { x: 1, y: 2 };
        let click = InputEvent::Button { code: button::LEFT, down: true };
        let motion = InputEvent::Motion { dx: 1, dy: 1 };
        inputs.send(&[key, position, click]);
        inputs.send(&[motion]);
        assert_eq!(*tablet.1.hold(), [position, click]);
        assert_eq!(*ps2.1.hold(), [key, motion]);
        assert_eq!(inputs.accepts(), Accepts { keys: true, position: true, motion: true });
    }
}
