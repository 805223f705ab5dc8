use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::pci::{BarKind, Ids};

/// What the interrupt controller was told last, and how often it was told anything.
pub(crate) struct Vector {
    pub(crate) event: EventFd,
    route: Mutex<(Option<MsiMessage>, u32)>,
}

impl Vector {
    fn tell(&self, message: Option<MsiMessage>) -> io::Result<()> {
        let mut route = self.route.hold();
        *route = (message, route.1 + 1);
        Ok(())
    }
}

impl MsiVector for Vector {
    fn event(&self) -> &EventFd {
        &self.event
    }
    fn route(&self, message: MsiMessage) -> io::Result<()> {
        self.tell(Some(message))
    }
    fn mask(&self) -> io::Result<()> {
        self.tell(None)
    }
    fn pending(&self) -> bool {
        let count = self.event.read().unwrap_or(0);
        if count > 0 {
            self.event.write(count).unwrap();
        }
        count > 0
    }
}

#[derive(Default)]
pub(crate) struct Controller(pub(crate) Mutex<Vec<Arc<Vector>>>);

impl MsiController for Controller {
    fn vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        let vector = Arc::new(Vector { event, route: Mutex::default() });
        self.0.hold().push(vector.clone());
        Ok(vector)
    }
}

const COUNT: u16 = 3;
const MESSAGE: MsiMessage = MsiMessage { address: 0xfee0_1000, data: 0x41 };

fn rig() -> (Controller, Msix) {
    let controller = Controller::default();
    let (place, _) = Msix::exclusive_bar(1, COUNT);
    let msix = Msix::new(&controller, COUNT, place).unwrap();
    (controller, msix)
}

fn routed(controller: &Controller, index: usize) -> Option<MsiMessage> {
    controller.0.hold()[index].route.hold().0
}

fn program(msix: &Msix, index: u64) {
    msix.bar_write(1, index * 16, &MESSAGE.address.to_le_bytes());
    msix.bar_write(1, index * 16 + 8, &MESSAGE.data.to_le_bytes());
    msix.bar_write(1, index * 16 + 12, &0u32.to_le_bytes());
}

#[test]
fn an_entry_is_routed_only_while_nothing_masks_it() {
    let (controller, msix) = rig();
    program(&msix, 1);
    assert_eq!(routed(&controller, 1), None, "MSI-X is off");
    msix.config_written(CONTROL_ENABLE | CONTROL_FUNCTION_MASK);
    assert_eq!(routed(&controller, 1), None, "the function is masked");
    msix.config_written(CONTROL_ENABLE);
    assert_eq!(routed(&controller, 1), Some(MESSAGE));
    assert_eq!(routed(&controller, 0), None, "its entry is masked");
    msix.bar_write(1, 16 + 12, &1u32.to_le_bytes());
    assert_eq!(routed(&controller, 1), None);
}

#[test]
fn unchanged_entries_cost_no_routing() {
    let (controller, msix) = rig();
    msix.config_written(CONTROL_ENABLE);
    program(&msix, 0);
    program(&msix, 0);
    assert_eq!(controller.0.hold()[0].route.hold().1, 1);
}

#[test]
fn what_is_raised_while_masked_shows_as_pending() {
    let (_, msix) = rig();
    let mut bits = [0; 8];
    msix.vector(2).unwrap().event().write(1).unwrap();
    assert!(msix.bar_read(1, 2048, &mut bits));
    assert_eq!(bits, [0b100, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_table_reads_back_and_its_reserved_bits_are_zero() {
    let (_, msix) = rig();
    msix.bar_write(1, 0, &[0xff; 8]);
    msix.bar_write(1, 8, &[0xff; 8]);
    let mut entry = [0; 8];
    assert!(msix.bar_read(1, 0, &mut entry));
    assert_eq!(entry, [0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert!(msix.bar_read(1, 8, &mut entry));
    assert_eq!(entry, [0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
}

#[test]
fn odd_accesses_change_nothing() {
    let (controller, msix) = rig();
    msix.config_written(CONTROL_ENABLE);
    program(&msix, 0);
    let before = msix.save();
    for offset in 0..u64::from(COUNT) * 16 + 8 {
        for len in [1, 2, 3, 4, 5, 8, 16] {
            if len < 4 || len == 5 || len == 16 || offset % len as u64 != 0 {
                msix.bar_write(1, offset, &vec![0xa5; len]);
                msix.bar_read(1, offset, &mut vec![0; len]);
            }
        }
    }
    assert_eq!(msix.save(), before);
    assert!(!msix.bar_write(0, 0, &[0; 4]), "another BAR");
    assert!(!msix.bar_write(1, 1024, &[0; 4]), "between table and pending bits");
    assert_eq!(routed(&controller, 0), Some(MESSAGE));
}

#[test]
fn the_capability_names_table_and_pending_bits() {
    let (_, msix) = rig();
    let ids = Ids { vendor: 1, device: 2, class: 0, revision: 0 };
    let mut builder = ConfigBuilder::new(ids);
    builder.bar(1, BarKind::Memory32, 4096);
    let at = msix.add_capability(&mut builder);
    let config = builder.build();
    config.write(at, &[0xff; 4]);
    assert_eq!(config.u16(Msix::control_offset(at)), 0xc000 | (COUNT - 1));
    assert_eq!(config.u32(at + 4), 1);
    assert_eq!(config.u32(at + 8), 2048 | 1);
}

#[test]
fn a_restored_table_delivers_and_keeps_what_was_pending() {
    let (_, msix) = rig();
    msix.config_written(CONTROL_ENABLE);
    program(&msix, 0);
    msix.vector(1).unwrap().event().write(1).unwrap();
    let saved = msix.save();

    let (controller, restored) = rig();
    restored.restore("test", &saved).unwrap();
    assert_eq!(restored.save(), saved);
    assert_eq!(routed(&controller, 0), Some(MESSAGE));
    assert!(controller.0.hold()[1].pending());
}

#[test]
fn a_table_of_another_length_is_refused() {
    let (_, msix) = rig();
    let mut saved = msix.save();
    saved.entries.pop();
    assert!(msix.restore("test", &saved).is_err());
}

#[test]
fn reset_masks_everything_and_forgets_what_was_pending() {
    let (controller, msix) = rig();
    msix.config_written(CONTROL_ENABLE);
    program(&msix, 0);
    msix.vector(1).unwrap().event().write(1).unwrap();
    msix.reset();
    assert_eq!(routed(&controller, 0), None);
    assert!(!controller.0.hold()[1].pending());
    assert!(!msix.enabled());
}
