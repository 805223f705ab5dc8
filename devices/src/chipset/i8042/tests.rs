use super::*;
use crate::input::button;
use crate::testing::FakeLine;

struct Rig {
    controller: Arc<I8042>,
    data: Arc<dyn BusDevice>,
    command: Arc<dyn BusDevice>,
    line: Arc<FakeLine>,
    mouse_line: Arc<FakeLine>,
}

fn rig_of(make: impl FnOnce(Arc<FakeLine>, Arc<FakeLine>) -> I8042) -> Rig {
    let (line, mouse_line) = (Arc::new(FakeLine::default()), Arc::new(FakeLine::default()));
    let controller = Arc::new(make(line.clone(), mouse_line.clone()));
    let [(_, data), (_, command)] = controller.ports();
    Rig { controller, data, command, line, mouse_line }
}

fn rig() -> Rig {
    rig_of(|line, _| I8042::new(line))
}

/// With a keyboard and a mouse that a driver has switched on, as Linux leaves them.
fn plugged() -> Rig {
    let rig = rig_of(|line, mouse| I8042::with_devices(line, mouse));
    let _ = rig.command.write(0, &[0x60]);
    let on = CONTROL_KEYBOARD_IRQ | CONTROL_MOUSE_IRQ | CONTROL_TRANSLATE;
    let _ = rig.data.write(0, &[on]);
    rig
}

fn read(port: &Arc<dyn BusDevice>) -> u8 {
    let mut data = [0];
    port.read(0, &mut data);
    data[0]
}

fn ask(rig: &Rig, command: u8) -> u8 {
    assert_eq!(rig.command.write(0, &[command]), Effect::None);
    assert_eq!(read(&rig.command) & STATUS_OUTPUT_FULL, STATUS_OUTPUT_FULL, "{command:#x}");
    read(&rig.data)
}

impl Rig {
    /// Everything that waits, and whose it is.
    fn bytes(&self) -> Vec<(u8, bool)> {
        let mut found = Vec::new();
        loop {
            let status = read(&self.command);
            if status & STATUS_OUTPUT_FULL == 0 {
                return found;
            }
            found.push((read(&self.data), status & STATUS_MOUSE != 0));
        }
    }

    fn keyboard_bytes(&self) -> Vec<u8> {
        let bytes = self.bytes();
        assert!(bytes.iter().all(|(_, mouse)| !mouse), "{bytes:x?}");
        bytes.into_iter().map(|(byte, _)| byte).collect()
    }

    fn mouse_bytes(&self) -> Vec<u8> {
        let bytes = self.bytes();
        assert!(bytes.iter().all(|(_, mouse)| *mouse), "{bytes:x?}");
        bytes.into_iter().map(|(byte, _)| byte).collect()
    }

    fn keyboard(&self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            let _ = self.data.write(0, &[*byte]);
        }
        self.keyboard_bytes()
    }

    fn mouse(&self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            let _ = self.command.write(0, &[0xd4]);
            let _ = self.data.write(0, &[*byte]);
        }
        self.mouse_bytes()
    }

    fn key(&self, code: u16, down: bool) {
        self.controller.send(&[InputEvent::Key { code, down }]);
    }
}

#[test]
fn the_self_test_passes_and_the_control_byte_reads_back() {
    let rig = rig();
    assert_eq!(read(&rig.command) & STATUS_OUTPUT_FULL, 0);
    assert_eq!(ask(&rig, 0xaa), 0x55);
    assert_eq!(rig.command.write(0, &[0x60]), Effect::None);
    assert_eq!(rig.data.write(0, &[0x45]), Effect::None);
    assert_eq!(ask(&rig, 0x20), 0x45);
}

#[test]
fn there_is_no_mouse_and_the_keyboard_times_out_at_once() {
    let rig = rig();
    assert_ne!(ask(&rig, 0xa9), 0);
    let _ = rig.command.write(0, &[0x60]);
    let _ = rig.data.write(0, &[CONTROL_KEYBOARD_IRQ]);
    let _ = rig.data.write(0, &[0xff]);
    assert!(rig.line.is_high());
    assert_eq!(read(&rig.command) & STATUS_TIMEOUT, STATUS_TIMEOUT);
    assert_eq!(read(&rig.data), TIMEOUT_REPLY);
    assert!(!rig.line.is_high());
    rig.key(30, true);
    assert_eq!(rig.bytes(), []);
    assert_eq!(rig.controller.accepts(), Accepts::default());
}

#[test]
fn the_reset_line_can_be_pulsed_and_pulled() {
    for rig in [rig(), plugged()] {
        assert_eq!(rig.command.write(0, &[0xfe]), Effect::Reset);
        assert_eq!(rig.command.write(0, &[0xff]), Effect::None);
        let _ = rig.command.write(0, &[0xd1]);
        assert_eq!(rig.data.write(0, &[0xde]), Effect::Reset);
    }
}

#[test]
fn a_storm_of_all_bytes_leaves_a_working_controller() {
    for rig in [rig(), plugged()] {
        for round in 0..=0xffu8 {
            for value in 0..=0xff {
                let _ = rig.command.write(0, &[value]);
                let _ = rig.data.write(0, &[round]);
                let _ = rig.data.write(0, &[round, value]);
                rig.key(value.into(), round & 1 == 0);
                let motion = InputEvent::Motion { dx: i32::MAX, dy: i32::MIN };
                let wheel = InputEvent::Wheel { vertical: i32::MIN, horizontal: 1 };
                rig.controller.send(&[motion, wheel]);
            }
        }
        let _ = read(&rig.data);
        assert_eq!(ask(&rig, 0xaa), 0x55);
    }
}

#[test]
fn a_saved_controller_comes_back() {
    let saved = rig();
    let _ = saved.command.write(0, &[0x60]);
    let restored = rig();
    restored.controller.restore(&saved.controller.save().unwrap()).unwrap();
    let _ = restored.data.write(0, &[0x21]);
    assert_eq!(ask(&restored, 0x20), 0x21, "the command waited for its byte");
    restored.controller.reset();
    assert_eq!(ask(&restored, 0x20), CONTROL_RESET);
}

#[test]
fn keys_that_wait_and_a_mouse_with_a_wheel_are_saved() {
    let saved = plugged();
    saved.mouse(&[0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf4]);
    saved.key(30, true);
    saved.key(30, false);
    let restored = plugged();
    restored.controller.restore(&saved.controller.save().unwrap()).unwrap();
    assert!(restored.line.is_high());
    assert_eq!(restored.keyboard_bytes(), [0x1e, 0x9e]);
    assert_eq!(restored.mouse(&[0xf2]), [0xfa, 3]);
}

#[test]
fn a_state_from_before_there_were_keyboards_is_read() {
    let registers = Registers { control: 0x21, ..RESET };
    let old = DeviceState::encode("i8042", 1, &registers).unwrap();
    let rig = rig();
    rig.controller.restore(&old).unwrap();
    assert_eq!(ask(&rig, 0x20), 0x21);
    assert!(plugged().controller.restore(&old).is_err());
}

#[test]
fn keys_come_translated_one_interrupt_for_each_byte() {
    let rig = plugged();
    let edges = rig.line.edges();
    rig.key(30, true);
    rig.key(105, false);
    assert_eq!(rig.keyboard_bytes(), [0x1e, 0xe0, 0xcb]);
    assert_eq!(rig.line.edges() - edges, 3);
    assert!(!rig.line.is_high() && !rig.mouse_line.is_high());
}

#[test]
fn without_translation_keys_come_as_the_keyboard_sends_them() {
    let rig = plugged();
    let _ = rig.command.write(0, &[0x60]);
    let _ = rig.data.write(0, &[CONTROL_KEYBOARD_IRQ]);
    rig.key(30, false);
    assert_eq!(rig.keyboard_bytes(), [0xf0, 0x1c]);
    assert_eq!(rig.keyboard(&[0xf0, 1, 0xf0, 0]), [0xfa, 0xfa, 0xfa, 0xfa, 1]);
    rig.key(30, false);
    assert_eq!(rig.keyboard_bytes(), [0x9e]);
}

#[test]
fn a_keyboard_answers_what_drivers_ask() {
    let rig = plugged();
    assert_eq!(rig.keyboard(&[0xff]), [0xfa, 0xaa]);
    assert_eq!(rig.keyboard(&[0xf2]), [0xfa, 0xab, 0x41], "83, translated");
    assert_eq!(rig.keyboard(&[0xed, 7]), [0xfa, 0xfa]);
    assert_eq!(rig.keyboard(&[0xf3, 0x20, 0xf4]), [0xfa; 3]);
    assert_eq!(rig.keyboard(&[0xee]), [0xee]);
    assert_eq!(rig.keyboard(&[0x17]), [0xfe]);
    rig.keyboard(&[0xf5]);
    assert!(!rig.controller.accepts().keys);
    rig.key(30, true);
    assert_eq!(rig.keyboard_bytes(), [0u8; 0]);
}

#[test]
fn a_guest_that_reads_nothing_has_few_keys_waiting() {
    let rig = plugged();
    for _ in 0..10_000 {
        rig.key(105, true);
    }
    assert!(rig.keyboard_bytes().len() <= 130);
    rig.key(30, true);
    assert_eq!(rig.keyboard_bytes(), [0x1e]);
}

#[test]
fn a_mouse_reports_motion_and_buttons_once_it_is_told_to() {
    let rig = plugged();
    let move_by = |dx, dy| rig.controller.send(&[InputEvent::Motion { dx, dy }]);
    move_by(5, 5);
    assert_eq!(rig.bytes(), []);
    assert_eq!(rig.mouse(&[0xff]), [0xfa, 0xaa, 0]);
    assert_eq!(rig.mouse(&[0xf4]), [0xfa]);
    assert!(rig.controller.accepts().motion);
    move_by(5, 3);
    assert!(rig.mouse_line.is_high());
    assert_eq!(rig.mouse_bytes(), [0x28, 5, 0xfd]);
    // Far is several packets, and a click is told with both its ends.
    move_by(-200, 0);
    for down in [true, false] {
        rig.controller.send(&[InputEvent::Button { code: button::RIGHT, down }]);
    }
    assert_eq!(rig.mouse_bytes(), [0x18, 0x81, 0, 0x1a, 0xb7, 0, 0x08, 0, 0]);
}

#[test]
fn the_wheel_is_there_for_who_knows_the_word() {
    let rig = plugged();
    assert_eq!(rig.mouse(&[0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2])[6..], [0xfa, 3]);
    rig.mouse(&[0xf4]);
    let wheel = |vertical| InputEvent::Wheel { vertical, horizontal: 0 };
    rig.controller.send(&[wheel(1)]);
    assert_eq!(rig.mouse_bytes(), [0x08, 0, 0, 0xff]);
    assert_eq!(rig.mouse(&[0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf2])[6..], [0xfa, 4]);
    let side = InputEvent::Button { code: button::SIDE, down: true };
    rig.controller.send(&[wheel(-2), side]);
    assert_eq!(rig.mouse_bytes(), [0x08, 0, 0, 0x12]);
}

#[test]
fn a_switched_off_port_keeps_its_bytes_until_it_is_on() {
    let rig = plugged();
    rig.mouse(&[0xf4]);
    let _ = rig.command.write(0, &[0xad]);
    let _ = rig.command.write(0, &[0xa7]);
    rig.key(30, true);
    rig.controller.send(&[InputEvent::Motion { dx: 1, dy: 0 }]);
    assert_eq!(rig.bytes(), []);
    let _ = rig.command.write(0, &[0xae]);
    assert_eq!(rig.bytes(), [(0x1e, false)]);
    let _ = rig.command.write(0, &[0xa8]);
    assert_eq!(rig.bytes(), [(0x08, true), (1, true), (0, true)]);
}
