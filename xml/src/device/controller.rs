//! `<controller>`: the buses and bridges that other devices sit on.

use crate::cursor::Cursor;
use crate::device::address::DeviceAddress;
use crate::diagnostic::Kind;
use crate::domain::memory::Kib;
use crate::element::element;
use crate::report::quote;
use crate::value::{Hex, OnOff, names};

names! {
    pub enum ControllerType {
        Pci = "pci", Usb = "usb", Sata = "sata", Scsi = "scsi", Ide = "ide", VirtioSerial = "virtio-serial",
        Fdc = "fdc", Ccid = "ccid", Isa = "isa", XenBus = "xenbus", Nvme = "nvme",
    }
    pub enum ControllerModel {
        // pci
        PciRoot = "pci-root", PcieRoot = "pcie-root", PciBridge = "pci-bridge",
        DmiToPciBridge = "dmi-to-pci-bridge", PcieToPciBridge = "pcie-to-pci-bridge",
        PcieRootPort = "pcie-root-port", PcieSwitchUpstreamPort = "pcie-switch-upstream-port",
        PcieSwitchDownstreamPort = "pcie-switch-downstream-port", PciExpanderBus = "pci-expander-bus",
        PcieExpanderBus = "pcie-expander-bus",
        // usb
        Piix3Uhci = "piix3-uhci", Piix4Uhci = "piix4-uhci", Ehci = "ehci", Ich9Ehci1 = "ich9-ehci1",
        Ich9Uhci1 = "ich9-uhci1", Ich9Uhci2 = "ich9-uhci2", Ich9Uhci3 = "ich9-uhci3",
        Vt82c686bUhci = "vt82c686b-uhci", PciOhci = "pci-ohci", NecXhci = "nec-xhci", QemuXhci = "qemu-xhci",
        Qusb1 = "qusb1", Qusb2 = "qusb2", None = "none",
        // scsi
        Auto = "auto", BusLogic = "buslogic", LsiLogic = "lsilogic", LsiSas1068 = "lsisas1068",
        LsiSas1078 = "lsisas1078", VmPvScsi = "vmpvscsi", IbmvScsi = "ibmvscsi", VirtioScsi = "virtio-scsi",
        Ncr53c90 = "ncr53c90", Dc390 = "dc390", Am53c974 = "am53c974",
        // scsi and virtio-serial
        Virtio = "virtio", Transitional = "virtio-transitional", NonTransitional = "virtio-non-transitional",
        // ide
        Piix3 = "piix3", Piix4 = "piix4", Ich6 = "ich6",
    }
    pub enum PciModelName {
        SpaprHostBridge = "spapr-pci-host-bridge", PciBridge = "pci-bridge", I82801b11 = "i82801b11-bridge",
        PciePciBridge = "pcie-pci-bridge", Ioh3420 = "ioh3420", PcieRootPort = "pcie-root-port",
        X3130Upstream = "x3130-upstream", Xio3130Downstream = "xio3130-downstream", Pxb = "pxb",
        PxbPcie = "pxb-pcie",
    }
}

element! {
    pub struct Controller {
        attr("type") kind: ControllerType,
        attr index: Option<u32>,
        attr model: Option<ControllerModel>,
        attr ports: Option<u32>,
        attr vectors: Option<u32>,
        child driver: Option<ControllerDriver>,
        leaf("model" "name") model_name: Option<PciModelName>,
        child target: Option<ControllerTarget>,
        child pcihole64: Option<Kib>,
        leaf("master" "startport") master: Option<u32>,
        child serial: Option<String>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
    refuse ["@maxGrantFrames", "@maxEventChannels"];
    check Controller::check;
}

impl Controller {
    /// One of its kind with nothing else said.
    pub fn new(kind: ControllerType, index: u32, model: Option<ControllerModel>) -> Self {
        Self {
            kind,
            index: Some(index),
            model,
            ports: None,
            vectors: None,
            driver: None,
            model_name: None,
            target: None,
            pcihole64: None,
            master: None,
            serial: None,
            alias: None,
            acpi_index: None,
            address: None,
        }
    }

    fn check(&self, at: Cursor<'_>) {
        if self.kind == ControllerType::Pci && self.model.is_none() {
            at.missing_attribute("model");
        }
        if self.kind != ControllerType::Nvme
            && let Some(serial) = at.child("serial")
        {
            let message = format!("a controller of type='{}' has no serial number", self.kind);
            serial.error(Kind::Invalid, message);
        }
        let Some(model) = self.model else { return };
        let models = models_of(self.kind);
        if !models.contains(&model) {
            let names: Vec<&str> = models.iter().map(|model| model.name()).collect();
            let mut report = at.at_attribute("model");
            if names.is_empty() {
                report.expected = Some("no model".to_owned());
            } else {
                report.one_of(model.name(), &names);
            }
            let message = format!(
                "a controller of type='{}' has no model {}",
                self.kind,
                quote(model.name())
            );
            report.report(Kind::Invalid, message);
        }
    }
}

fn models_of(kind: ControllerType) -> &'static [ControllerModel] {
    use ControllerModel::*;
    match kind {
        ControllerType::Pci => &[
            PciRoot,
            PcieRoot,
            PciBridge,
            DmiToPciBridge,
            PcieToPciBridge,
            PcieRootPort,
            PcieSwitchUpstreamPort,
            PcieSwitchDownstreamPort,
            PciExpanderBus,
            PcieExpanderBus,
        ],
        ControllerType::Usb => &[
            Piix3Uhci,
            Piix4Uhci,
            Ehci,
            Ich9Ehci1,
            Ich9Uhci1,
            Ich9Uhci2,
            Ich9Uhci3,
            Vt82c686bUhci,
            PciOhci,
            NecXhci,
            QemuXhci,
            Qusb1,
            Qusb2,
            None,
        ],
        ControllerType::Scsi => &[
            Auto,
            BusLogic,
            LsiLogic,
            LsiSas1068,
            LsiSas1078,
            VmPvScsi,
            IbmvScsi,
            VirtioScsi,
            Ncr53c90,
            Dc390,
            Am53c974,
            Transitional,
            NonTransitional,
        ],
        ControllerType::VirtioSerial => &[Virtio, Transitional, NonTransitional],
        ControllerType::Ide => &[Piix3, Piix4, Ich6],
        _ => &[],
    }
}

element! {
    #[derive(Default)]
    pub struct ControllerDriver {
        attr queues: Option<u32>,
        attr("cmd_per_lun") cmd_per_lun: Option<u32>,
        attr("max_sectors") max_sectors: Option<u32>,
        attr ioeventfd: Option<OnOff>,
        attr iothread: Option<u32>,
        attr iommu: Option<OnOff>,
        attr ats: Option<OnOff>,
        attr packed: Option<OnOff>,
        attr("page_per_vq") page_per_vq: Option<OnOff>,
    }
    refuse ["iothreads"];
}

element! {
    #[derive(Default)]
    pub struct ControllerTarget {
        attr("chassisNr") chassis_nr: Option<u32>,
        attr chassis: Option<u32>,
        attr port: Option<Hex>,
        attr("busNr") bus_nr: Option<u32>,
        attr index: Option<u32>,
        attr hotplug: Option<OnOff>,
        child node: Option<u32>,
    }
    refuse ["@memReserve"];
}
