//! Constants and layouts of virtio 1.2 §5.6.

pub(super) const DEVICE_TYPE: u16 = 8;

pub(super) const CONTROL: usize = 0;
pub(super) const EVENTS: usize = 1;
/// The first request queue.
pub(super) const REQUESTS: usize = 2;

pub(super) const F_HOTPLUG: u64 = 1 << 1;
pub(super) const F_CHANGE: u64 = 1 << 2;

pub(super) const MAX_TARGET: u16 = 255;
/// Of the flat addressing method.
pub(super) const MAX_LUN: u16 = 0x3fff;
pub(super) const MAX_SECTORS: u32 = 0xffff;
pub(super) const COMMANDS_PER_UNIT: u32 = 128;

pub(super) const DEFAULT_SENSE_SIZE: u32 = 96;
pub(super) const DEFAULT_CDB_SIZE: u32 = 32;
/// What a driver may set either to.
pub(super) const MAX_SIZE: u32 = 255;

pub(super) const CONFIG_SENSE_SIZE: u64 = 20;
pub(super) const CONFIG_CDB_SIZE: u64 = 24;

/// `struct virtio_scsi_req_cmd` before the command: lun, id, attribute, priority, crn.
pub(super) const REQUEST_HEADER: usize = 19;
/// `struct virtio_scsi_resp_cmd` before the sense data.
pub(super) const RESPONSE_HEADER: usize = 12;

/// `response` of commands and functions.
pub(super) mod response {
    pub(crate) const OK: u8 = 0;
    pub(crate) const OVERRUN: u8 = 1;
    pub(crate) const ABORTED: u8 = 2;
    pub(crate) const BAD_TARGET: u8 = 3;
    pub(crate) const RESET: u8 = 4;
    pub(crate) const FAILURE: u8 = 9;
    pub(crate) const FUNCTION_SUCCEEDED: u8 = 10;
    pub(crate) const FUNCTION_REJECTED: u8 = 11;
    pub(crate) const INCORRECT_LUN: u8 = 12;
}

/// `status` of commands, as SAM has it.
pub(super) mod status {
    pub(crate) const GOOD: u8 = 0;
    pub(crate) const CHECK_CONDITION: u8 = 2;
}

/// `type` of a control request.
pub(super) const T_TMF: u32 = 0;
pub(super) const T_AN_QUERY: u32 = 1;
pub(super) const T_AN_SUBSCRIBE: u32 = 2;

/// `subtype` of a task management function.
pub(super) mod tmf {
    pub(crate) const ABORT_TASK: u32 = 0;
    pub(crate) const ABORT_TASK_SET: u32 = 1;
    pub(crate) const CLEAR_TASK_SET: u32 = 3;
    pub(crate) const I_T_NEXUS_RESET: u32 = 4;
    pub(crate) const LOGICAL_UNIT_RESET: u32 = 5;
    pub(crate) const QUERY_TASK: u32 = 6;
    pub(crate) const QUERY_TASK_SET: u32 = 7;
}

/// Where a unit is: `lun` is at most 0x3fff.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(super) struct Address {
    pub(super) target: u8,
    pub(super) lun: u16,
}

impl Address {
    /// From the 8 bytes of a request (§5.6.6.1): 1, target, and a single-level LUN structure.
    pub(super) fn parse(field: [u8; 8]) -> Option<Self> {
        let [1, target, high, low, 0, 0, 0, 0] = field else { return None };
        // Flat space addressing, or the peripheral device method of bus 0.
        (matches!(high >> 6, 0 | 1))
            .then(|| Self { target, lun: u16::from_be_bytes([high & 0x3f, low]) })
    }

    pub(super) fn field(self) -> [u8; 8] {
        let [high, low] = self.lun.to_be_bytes();
        [1, self.target, high | 0x40, low, 0, 0, 0, 0]
    }
}
