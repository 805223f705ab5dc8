//! [`InputSink`]: where keys and pointer movements of a display end: a PS/2 controller, or virtio
//! input devices.
//!
//! Keys and buttons are named as Linux names them (`linux/input-event-codes.h`), which is what
//! virtio-input carries and what every display protocol has a table to.

/// One thing that a user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputEvent {
    /// A key (`KEY_*`) went down or up. Repeats are the guest's own business.
    Key { code: u16, down: bool },
    /// A button of the pointer (`BTN_LEFT` …) went down or up.
    Button { code: u16, down: bool },
    /// The pointer is here: 0 to [`InputEvent::FAR`] from the left and from the top.
    Position { x: u16, y: u16 },
    /// The pointer moved by so much, to the right and down.
    Motion { dx: i32, dy: i32 },
    /// The wheel turned by so many notches: up and to the right are positive.
    Wheel { vertical: i32, horizontal: i32 },
}

impl InputEvent {
    /// The right and the lower end of an absolute axis.
    pub const FAR: u16 = 0x7fff;
}

/// Codes of pointer buttons.
pub mod button {
    pub const LEFT: u16 = 0x110;
    pub const RIGHT: u16 = 0x111;
    pub const MIDDLE: u16 = 0x112;
    pub const SIDE: u16 = 0x113;
    pub const EXTRA: u16 = 0x114;
}

/// What a sink can do with a user's input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepts {
    pub keys: bool,
    /// [`InputEvent::Position`]: a tablet. Whoever has one for the guest needs no grabbed pointer.
    pub position: bool,
    /// [`InputEvent::Motion`]: a mouse.
    pub motion: bool,
}

/// Takes what a user does, from any thread and without waiting for the guest: what a guest does
/// not fetch is dropped.
pub trait InputSink: Send + Sync {
    /// Whether a driver is there to take input, and which; changes while the guest runs.
    fn accepts(&self) -> Accepts;

    /// Events that belong together: the guest sees them as one moment. Those of a sort that the
    /// sink does not accept are ignored.
    fn send(&self, events: &[InputEvent]);
}
