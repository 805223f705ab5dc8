//! What the machine refuses, as its clients hear it.

use vmm_protocol::control::{ControlError, ControlErrorCode as Code};

use super::server::refuse;
use crate::backups::BackupError;
use crate::build::PlugError;
use crate::machine::{
    BlockJobError, MachineError, MediumError, PeekError, SnapshotError, SwapError, VcpusError,
};

pub(super) fn failed(error: MachineError) -> ControlError {
    refuse(Code::Failed, super::chain(&error))
}

pub(super) fn medium_refused(error: MediumError) -> ControlError {
    let code = match &error {
        MediumError::NoDrive { .. }
        | MediumError::NoDisk { .. }
        | MediumError::NoLimit { .. }
        | MediumError::NoImage { .. }
        | MediumError::NoNetworkDisk { .. } => Code::NotFound,
        MediumError::Locked(_) => Code::Busy,
        MediumError::Image(_) | MediumError::Grow { .. } => Code::Failed,
    };
    refuse(code, super::chain(&error))
}

pub(super) fn peek_refused(error: PeekError) -> ControlError {
    let code = match &error {
        PeekError::NoDisk { .. } => Code::NotFound,
        PeekError::Read { .. } => Code::Failed,
    };
    refuse(code, super::chain(&error))
}

pub(super) fn backup_refused(error: &BackupError) -> ControlError {
    let code = match error {
        BackupError::NoDisk { .. } | BackupError::NoBitmap { .. } => Code::NotFound,
        BackupError::Busy | BackupError::BlockJob { .. } => Code::Busy,
        BackupError::Contradiction | BackupError::Bitmap { .. } => Code::Malformed,
        BackupError::Remote { .. }
        | BackupError::Taken { .. }
        | BackupError::Inconsistent { .. }
        | BackupError::Granularity { .. }
        | BackupError::BadTarget { .. } => Code::State,
        BackupError::File(_) | BackupError::Scratch { .. } | BackupError::Target { .. } => {
            Code::Failed
        }
    };
    refuse(code, super::chain(error))
}

pub(super) fn plug_refused(error: PlugError) -> ControlError {
    let code = match &error {
        PlugError::NoDevice { .. } => Code::NotFound,
        PlugError::Taken { .. } | PlugError::Occupied { .. } => Code::Busy,
        PlugError::NoHotplug { .. } | PlugError::Kind { .. } => Code::State,
        PlugError::Build(_) => Code::Failed,
    };
    refuse(code, super::chain(&error))
}

pub(super) fn swap_refused(error: SwapError) -> ControlError {
    let code = match &error {
        SwapError::NoDisk { .. } => Code::NotFound,
        SwapError::Busy { .. } | SwapError::BackedUp { .. } => Code::Busy,
        SwapError::Twice { .. } | SwapError::NoLayer { .. } => Code::Malformed,
        SwapError::Build(_) | SwapError::Machine(_) => Code::Failed,
    };
    refuse(code, super::chain(&error))
}

pub(super) fn snapshot_refused(error: SnapshotError) -> ControlError {
    let code = match &error {
        SnapshotError::NoDisk { .. } => Code::NotFound,
        SnapshotError::Twice { .. } => Code::Malformed,
        SnapshotError::NoQcow2 { .. } => Code::State,
        SnapshotError::Image { .. } | SnapshotError::Left { .. } | SnapshotError::Machine(_) => {
            Code::Failed
        }
    };
    refuse(code, super::chain(&error))
}

pub(super) fn block_job_refused(error: BlockJobError) -> ControlError {
    let code = match &error {
        BlockJobError::NoDisk { .. } | BlockJobError::NoJob { .. } => Code::NotFound,
        BlockJobError::Busy { .. } | BlockJobError::Swap(SwapError::BackedUp { .. }) => Code::Busy,
        BlockJobError::NotReady { .. } | BlockJobError::NotEnded { .. } => Code::State,
        BlockJobError::Impossible { .. } => Code::Malformed,
        BlockJobError::Image { .. } | BlockJobError::Link { .. } | BlockJobError::Swap(_) => {
            Code::Failed
        }
    };
    refuse(code, super::chain(&error))
}

pub(super) fn vcpus_refused(error: VcpusError) -> ControlError {
    let code = match &error {
        VcpusError::Fixed | VcpusError::Count { .. } => Code::State,
        VcpusError::Machine(_) => Code::Failed,
    };
    refuse(code, super::chain(&error))
}
