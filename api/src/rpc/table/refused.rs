//! Procedures of libvirt's other drivers: known, never carried out, and why.

/// Number, name, and what a client is told behind "not supported by the connection driver".
pub(super) const REFUSED: &[(i32, &str, &str)] = &[
    (118, "NODE_DEVICE_DETTACH", NO_PASSTHROUGH),
    (119, "NODE_DEVICE_RE_ATTACH", NO_PASSTHROUGH),
    (120, "NODE_DEVICE_RESET", NO_PASSTHROUGH),
    (123, "NODE_DEVICE_CREATE_XML", NO_MEDIATED),
    (124, "NODE_DEVICE_DESTROY", NO_MEDIATED),
    (131, "INTERFACE_DEFINE_XML", INTERFACES),
    (132, "INTERFACE_UNDEFINE", INTERFACES),
    (133, "INTERFACE_CREATE", INTERFACES),
    (134, "INTERFACE_DESTROY", INTERFACES),
    (135, "CONNECT_DOMAIN_XML_FROM_NATIVE", NO_QEMU),
    (136, "CONNECT_DOMAIN_XML_TO_NATIVE", NO_QEMU),
    (220, "INTERFACE_CHANGE_BEGIN", INTERFACES),
    (221, "INTERFACE_CHANGE_COMMIT", INTERFACES),
    (222, "INTERFACE_CHANGE_ROLLBACK", INTERFACES),
    (
        250,
        "NODE_SUSPEND_FOR_DURATION",
        "a host that sleeps takes its guests along; use systemctl suspend",
    ),
    (297, "NODE_DEVICE_LOOKUP_SCSI_HOST_BY_WWN", NO_MEDIATED),
    (301, "NODE_DEVICE_DETACH_FLAGS", NO_PASSTHROUGH),
    (395, "NODE_GET_SEV_INFO", "guests' memory is not encrypted"),
    (399, "NWFILTER_BINDING_CREATE_XML", BINDINGS),
    (400, "NWFILTER_BINDING_DELETE", BINDINGS),
    (419, "CONNECT_SET_IDENTITY", "a client is who its connection says it is"),
    (428, "NODE_DEVICE_DEFINE_XML", NO_MEDIATED),
    (429, "NODE_DEVICE_UNDEFINE", NO_MEDIATED),
    (430, "NODE_DEVICE_CREATE", NO_MEDIATED),
    (434, "NODE_DEVICE_SET_AUTOSTART", NO_MEDIATED),
];

const INTERFACES: &str =
    "the host's interfaces are shown here, and changed by what configures the host's network";
const NO_PASSTHROUGH: &str =
    "guests are given no devices of the host, so none is taken from its driver";
const NO_MEDIATED: &str =
    "the host's devices are shown here; vHBAs and mediated devices are not made";
const BINDINGS: &str =
    "a filter is bound to each interface whose definition names one, for as long as its guest runs";
const NO_QEMU: &str = "there is no QEMU, whose arguments these would be";
