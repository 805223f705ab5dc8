//! [`Serial`]: a 16550A UART, on the register model of vm-superio.
//!
//! Output goes to the backend a byte at a time and never waits. Input stays with the backend until
//! the receive FIFO is empty, so nothing is lost while the guest does not read.

use std::io;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial as Uart, Trigger};

use crate::backend::chardev::{ConsoleBackend, InputListener};
use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::irq::IrqLine;
use crate::sync::Lock;

const DATA: u8 = 0;
const MODEM_CONTROL: u8 = 4;
const LOOPBACK: u8 = 1 << 4;

/// A serial port.
pub struct Serial {
    id: String,
    irq: Arc<dyn IrqLine>,
    backend: Arc<dyn ConsoleBackend>,
    uart: Mutex<Port>,
}

type Port = Uart<Pulse, NoEvents, Output>;

impl Serial {
    /// COM1 to COM4: port and ISA interrupt.
    pub const PORTS: [(u64, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
    pub const LEN: u64 = 8;

    /// A port whose input comes from `backend`, and which tells it where input goes.
    pub fn new(
        id: &str,
        irq: Arc<dyn IrqLine>,
        backend: Arc<dyn ConsoleBackend>,
    ) -> Result<Arc<Self>, StateError> {
        let uart = port(&irq, &backend, &SerialState::default())?;
        let serial = Self { id: id.to_owned(), irq, backend, uart: Mutex::new(uart) };
        let serial = Arc::new(serial);
        let listener: Arc<dyn InputListener> = serial.clone();
        serial.backend.listen(Arc::downgrade(&listener));
        Ok(serial)
    }

    /// Move what the backend holds into the FIFO, as much as fits.
    fn refill(&self, uart: &mut Port) {
        if uart.read(MODEM_CONTROL) & LOOPBACK != 0 {
            return;
        }
        let mut input = [0; 64];
        let room = uart.fifo_capacity().min(input.len());
        let count = self.backend.input(&mut input[..room]);
        // It fits, and the trigger cannot fail.
        let _ = uart.enqueue_raw_bytes(&input[..count]);
    }
}

fn port(
    irq: &Arc<dyn IrqLine>,
    backend: &Arc<dyn ConsoleBackend>,
    state: &SerialState,
) -> Result<Port, StateError> {
    Uart::from_state(state, Pulse(irq.clone()), NoEvents, Output(backend.clone())).map_err(|_| {
        StateError::Mismatch {
            kind: KIND,
            reason: "its receive FIFO holds more than there is room for".to_owned(),
        }
    })
}

impl InputListener for Serial {
    fn input_available(&self) {
        self.refill(&mut self.uart.hold());
    }
}

impl BusDevice for Serial {
    fn name(&self) -> &str {
        &self.id
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let (Ok(offset), [value]) = (u8::try_from(offset), &mut *data) else {
            return data.fill(0xff);
        };
        let mut uart = self.uart.hold();
        *value = uart.read(offset);
        if offset == DATA {
            self.refill(&mut uart);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let (Ok(offset), &[value]) = (u8::try_from(offset), data) else { return Effect::None };
        let mut uart = self.uart.hold();
        // Neither output nor trigger can fail.
        let _ = uart.write(offset, value);
        if offset == MODEM_CONTROL {
            self.refill(&mut uart);
        }
        Effect::None
    }
}

const KIND: &str = "serial";

/// The registers, in the order of [`SerialState`].
#[derive(Serialize, Deserialize)]
struct Saved {
    divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    input: Vec<u8>,
}

impl Component for Serial {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        KIND
    }

    fn resume(&self) {
        self.refill(&mut self.uart.hold());
    }

    fn reset(&self) {
        if let Ok(uart) = port(&self.irq, &self.backend, &SerialState::default()) {
            *self.uart.hold() = uart;
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let state = self.uart.hold().state();
        let saved = Saved {
            divisor: [state.baud_divisor_low, state.baud_divisor_high],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            input: state.in_buffer,
        };
        DeviceState::encode(KIND, 1, &saved)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: Saved = state.decode(KIND, 1)?;
        let [baud_divisor_low, baud_divisor_high] = saved.divisor;
        let state = SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable: saved.interrupt_enable,
            interrupt_identification: saved.interrupt_identification,
            line_control: saved.line_control,
            line_status: saved.line_status,
            modem_control: saved.modem_control,
            modem_status: saved.modem_status,
            scratch: saved.scratch,
            in_buffer: saved.input,
        };
        *self.uart.hold() = port(&self.irq, &self.backend, &state)?;
        Ok(())
    }
}

/// ISA interrupts are edges.
struct Pulse(Arc<dyn IrqLine>);

impl Trigger for Pulse {
    type E = std::convert::Infallible;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.set(true);
        self.0.set(false);
        Ok(())
    }
}

struct Output(Arc<dyn ConsoleBackend>);

impl io::Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.output(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeConsole, FakeLine};

    const IER: u64 = 1;
    const IIR: u64 = 2;
    const LSR: u64 = 5;

    struct Rig {
        serial: Arc<Serial>,
        console: Arc<FakeConsole>,
        line: Arc<FakeLine>,
    }

    fn rig() -> Rig {
        let (console, line) = (Arc::new(FakeConsole::default()), Arc::new(FakeLine::default()));
        let serial = Serial::new("serial0", line.clone(), console.clone()).unwrap();
        Rig { serial, console, line }
    }

    fn read(serial: &Serial, offset: u64) -> u8 {
        let mut value = [0];
        serial.read(offset, &mut value);
        value[0]
    }

    #[test]
    fn what_the_guest_writes_reaches_the_backend() {
        let Rig { serial, console, .. } = rig();
        for byte in b"hello" {
            let _ = serial.write(0, &[*byte]);
        }
        assert_eq!(console.output(), b"hello");
        assert_eq!(read(&serial, LSR) & 0x60, 0x60, "ready for more");
    }

    #[test]
    fn a_flood_of_input_waits_in_the_backend_until_the_guest_reads() {
        let Rig { serial, console, line } = rig();
        let _ = serial.write(IER, &[1]);
        let flood: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        console.type_in(&flood);
        assert_eq!(line.edges(), 1);
        let mut got = Vec::new();
        while read(&serial, LSR) & 1 != 0 {
            got.push(read(&serial, 0));
        }
        assert_eq!(got, flood);
    }

    #[test]
    fn an_interrupt_is_raised_and_identified() {
        let Rig { serial, console, line } = rig();
        let _ = serial.write(IER, &[1]);
        console.type_in(b"x");
        assert_eq!(line.edges(), 1);
        assert_eq!(read(&serial, IIR) & 0x0f, 0x04);
    }

    #[test]
    fn input_waits_while_the_port_is_looped_back() {
        let Rig { serial, console, .. } = rig();
        let _ = serial.write(u64::from(MODEM_CONTROL), &[LOOPBACK]);
        console.type_in(b"x");
        assert_eq!(read(&serial, LSR) & 1, 0);
        let _ = serial.write(u64::from(MODEM_CONTROL), &[0]);
        assert_eq!(read(&serial, 0), b'x');
    }

    #[test]
    fn odd_accesses_do_no_harm() {
        let Rig { serial, console, .. } = rig();
        for offset in [0, 3, 7, 8, 255, 256, u64::MAX] {
            for len in [0, 2, 4, 8] {
                let _ = serial.write(offset, &vec![0x41; len]);
                let mut data = vec![0; len];
                serial.read(offset, &mut data);
                assert!(data.iter().all(|byte| *byte == 0xff));
            }
        }
        assert!(console.output().is_empty());
    }

    #[test]
    fn a_saved_port_comes_back_with_its_input() {
        let saved = rig();
        let _ = saved.serial.write(7, &[0x5a]);
        saved.console.type_in(b"ab");
        assert_eq!(read(&saved.serial, 0), b'a');
        let restored = rig();
        restored.serial.restore(&saved.serial.save().unwrap()).unwrap();
        assert_eq!((read(&restored.serial, 7), read(&restored.serial, 0)), (0x5a, b'b'));
        restored.serial.reset();
        assert_eq!(read(&restored.serial, 7), 0);
    }

    #[test]
    fn a_state_with_too_much_input_is_refused() {
        let rig = rig();
        let saved = Saved {
            divisor: [1, 0],
            interrupt_enable: 0,
            interrupt_identification: 1,
            line_control: 3,
            line_status: 0x60,
            modem_control: 8,
            modem_status: 0,
            scratch: 0,
            input: vec![0; 65],
        };
        assert!(rig.serial.restore(&DeviceState::encode(KIND, 1, &saved).unwrap()).is_err());
    }
}
