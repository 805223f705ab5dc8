//! Step 3: the board around PCI, at its fixed ports.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use arch::{gsi, layout};
use devices::alarm::Alarm;
use devices::backend::chardev::{Chardev, ConsoleBackend};
use devices::bus::BusDevice;
use devices::chipset::{
    AcpiPm, EventDevice, Generation, GenerationEvent, I8042, MemorySizes, Port92, PostPort,
    PowerButton, ProcessorEvent, Processors, PvPanic, Rtc, Serial,
};
use devices::clock::{Clock, HostClock};
use devices::component::Component;
use devices::io_thread::IoThread;
use devices::irq::IrqLine;
use devices::pci::SlotEvent;
use vmm_protocol::config::{self, MachineConfig};

use super::{BuildError, Site, reduced, video};
use crate::console::{Console, Kind};
use crate::kvm::Lines;
use crate::notices::tell_clock;
use crate::vcpu::Buses;

/// What tells a guest of something by ACPI, as who uses it sees it.
pub(super) struct Power {
    pub(super) button: Arc<dyn PowerButton>,
    pub(super) generation: Arc<dyn GenerationEvent>,
    /// None where slots have no ACPI.
    pub(super) slots: Option<Arc<dyn SlotEvent>>,
    /// None where vCPUs do not come and go.
    pub(super) processors: Option<Arc<dyn ProcessorEvent>>,
    /// It comes before all others.
    pub(super) device: Arc<dyn Component>,
}

impl Power {
    fn of<T: PowerButton + GenerationEvent + Component + 'static>(device: Arc<T>) -> Self {
        Self {
            button: device.clone(),
            generation: device.clone(),
            slots: None,
            processors: None,
            device,
        }
    }
}

pub(super) fn power(
    config: &MachineConfig,
    lines: &Lines,
    buses: &Buses,
) -> Result<Power, BuildError> {
    let line = line(lines, gsi::SCI)?;
    if reduced::is_reduced(config) {
        let events = Arc::new(EventDevice::new(line));
        buses.ports.insert(EventDevice::BASE, EventDevice::LEN, events.clone())?;
        return Ok(Power::of(events));
    }
    let pm = Arc::new(AcpiPm::new(line, Arc::new(HostClock::new())));
    buses.ports.insert(AcpiPm::BASE, AcpiPm::LEN, pm.clone())?;
    let processors: Arc<dyn ProcessorEvent> = pm.clone();
    Ok(Power { slots: Some(pm.clone()), processors: Some(processors), ..Power::of(pm) })
}

pub(super) fn build(
    site: &mut Site<'_>,
    generation: Arc<dyn GenerationEvent>,
    processors: Option<Arc<dyn ProcessorEvent>>,
) -> Result<(), BuildError> {
    // Before what counts them.
    self::processors(site, processors)?;
    let port92 = Arc::new(Port92::new());
    add(site, Port92::BASE, Port92::LEN, port92.clone(), Some(port92))?;
    add(site, PostPort::BASE, PostPort::LEN, Arc::new(PostPort), None)?;
    self::generation(site, generation)?;
    i8042(site)?;
    rtc(site)?;
    if site.config.pvpanic {
        let pvpanic = Arc::new(PvPanic::new());
        add(site, PvPanic::BASE, PvPanic::LEN, pvpanic.clone(), Some(pvpanic))?;
    }
    for serial in &site.config.serial {
        self::serial(site, serial)?;
    }
    Ok(())
}

/// The registers by which vCPUs come and go, if those of this machine do.
fn processors(
    site: &mut Site<'_>,
    event: Option<Arc<dyn ProcessorEvent>>,
) -> Result<(), BuildError> {
    let cpus = &site.config.cpus;
    let Some(present) = cpus.present else { return Ok(()) };
    if present == 0 || present > cpus.count {
        let reason = "must be at least one, and no more than there can be";
        return Err(BuildError::config("vCPUs present", present, reason));
    }
    let reason = "come and go only where ACPI has general purpose events";
    let event = event.ok_or_else(|| BuildError::config("vCPUs present", present, reason))?;
    let topology = super::cpus::topology(site.config)?;
    let ids = (0..cpus.count).map(|index| topology.apic_id(index.into())).collect();
    let device = Arc::new(Processors::new(ids, present, event));
    let notices = site.parts.notices.clone();
    device.on_eject(move |index| notices.vcpu_is_ejected(index));
    device.on_refusal(|(index, status)| {
        tracing::warn!(index, status, "the guest keeps a vCPU that it was asked to do without");
    });
    let base = arch::ports::PROCESSORS.into();
    add(site, base, Processors::LEN, device.clone(), Some(device.clone()))?;
    site.parts.processors = Some(device);
    Ok(())
}

fn generation(site: &mut Site<'_>, event: Arc<dyn GenerationEvent>) -> Result<(), BuildError> {
    let Some(id) = site.config.generation else { return Ok(()) };
    let device = Generation::new(id.to_bytes_le(), layout::GENERATION, &*site.vm.windows(), event);
    site.parts.components.push(Arc::new(device.map_err(BuildError::device("generation"))?));
    Ok(())
}

fn i8042(site: &mut Site<'_>) -> Result<(), BuildError> {
    let keyboard = line(&site.lines, gsi::KEYBOARD)?;
    let controller = if video::has_screen(site.config) {
        let controller = I8042::with_devices(keyboard, line(&site.lines, gsi::MOUSE)?);
        let controller = Arc::new(controller);
        site.parts.inputs.append("i8042", controller.clone());
        controller
    } else {
        Arc::new(I8042::new(keyboard))
    };
    for (base, port) in controller.ports() {
        site.parts.buses.ports.insert(base, 1, port)?;
    }
    site.parts.components.push(controller);
    Ok(())
}

fn rtc(site: &mut Site<'_>) -> Result<(), BuildError> {
    let high = site.map.high_ram_end - layout::HIGH_RAM_START;
    let sizes = MemorySizes { low: site.map.low_ram_end, high };
    let cpus = &site.config.cpus;
    let cpus = u8::try_from(cpus.present.unwrap_or(cpus.count)).unwrap_or(u8::MAX);
    let clock: Arc<dyn Clock> = Arc::new(HostClock::new());
    let irq = line(&site.lines, gsi::RTC)?;
    let rtc = Rtc::new(site.config.clock.offset, sizes, cpus, irq, clock);
    let rtc = rtc.map_err(BuildError::device("rtc"))?.telling(tell_clock(&site.parts.notices));
    let catches_up = site.config.clock.timers.rtc_catches_up;
    let rtc = if catches_up { rtc.catching_up() } else { rtc };
    let processors = site.parts.processors.clone();
    let rtc = Arc::new(match processors {
        Some(processors) => rtc.counting(processors),
        None => rtc,
    });
    let timer = Alarm::new(rtc.clone()).map_err(BuildError::device("rtc"))?;
    let running = site.parts.board_thread.add(timer).map_err(BuildError::device("rtc"))?;
    // It works for as long as its thread does.
    drop(running);
    add(site, Rtc::BASE, Rtc::LEN, rtc.clone(), Some(rtc))
}

fn serial(site: &mut Site<'_>, serial: &config::Serial) -> Result<(), BuildError> {
    let id = &serial.id;
    let Some(&(base, irq)) = Serial::PORTS.get(usize::from(serial.port)) else {
        return Err(BuildError::config("serial port", serial.port, "must be 0 to 3"));
    };
    let irq = line(&site.lines, irq.into())?;
    let thread = site.parts.board_thread.clone();
    let device = Chardev::new(id).map_err(BuildError::device(id))?;
    let chardev = chardev(site, device, &serial.chardev, &thread)?;
    let backend: Arc<dyn ConsoleBackend> = chardev.clone();
    let uart = Serial::new(id, irq, backend)?;
    site.parts.consoles.insert(id.clone(), Console::new(chardev, Kind::Terminal));
    add(site, base, Serial::LEN, uart.clone(), Some(uart))
}

/// Give a character device all ends that the definition gives it, served by `thread`.
pub(super) fn chardev(
    site: &mut Site<'_>,
    chardev: Arc<Chardev>,
    ends: &config::Chardev,
    thread: &Arc<IoThread>,
) -> Result<Arc<Chardev>, BuildError> {
    let failed = || BuildError::device(chardev.name());
    if let Some(pty) = ends.pty {
        let (master, slave) = (site.files.take(pty.master)?, site.files.take(pty.slave)?);
        chardev.attach_pty(master, slave).map_err(failed())?;
    }
    if let Some(listener) = ends.listener {
        chardev.attach_listener(site.files.take(listener)?).map_err(failed())?;
    }
    for log in &ends.logs {
        let older: Result<_, _> = log.older.iter().map(|file| site.files.take(*file)).collect();
        chardev.attach_log(site.files.take(log.file)?, older?).map_err(failed())?;
    }
    if ends.stdio {
        let [input, output] = standard_streams().map_err(failed())?;
        chardev.attach_input(input).map_err(failed())?;
        chardev.attach_output(output).map_err(failed())?;
    }
    let worker = thread.add(chardev.worker()).map_err(failed())?;
    site.parts.console_workers.push(worker);
    Ok(chardev)
}

fn standard_streams() -> std::io::Result<[OwnedFd; 2]> {
    Ok([
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?,
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?,
    ])
}

pub(super) fn line(lines: &Lines, gsi: u32) -> Result<Arc<dyn IrqLine>, BuildError> {
    lines.driver(gsi).ok_or_else(|| {
        BuildError::config("interrupt", gsi, "the interrupt controller has no such input")
    })
}

pub(super) fn add(
    site: &mut Site<'_>,
    base: u64,
    len: u64,
    device: Arc<dyn BusDevice>,
    component: Option<Arc<dyn Component>>,
) -> Result<(), BuildError> {
    site.parts.buses.ports.insert(base, len, device)?;
    site.parts.components.extend(component);
    Ok(())
}
