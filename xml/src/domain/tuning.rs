//! Where the guest's threads run and what share of the host they get.

use crate::cpuset::CpuSet;
use crate::element::element;
use crate::value::names;

names! {
    pub enum Scheduler { Batch = "batch", Idle = "idle", Fifo = "fifo", Rr = "rr" }
}

element! {
    #[derive(Default)]
    pub struct CpuTune {
        child shares: Option<u64>,
        child period: Option<u64>,
        child quota: Option<i64>,
        child("global_period") global_period: Option<u64>,
        child("global_quota") global_quota: Option<i64>,
        child("emulator_period") emulator_period: Option<u64>,
        child("emulator_quota") emulator_quota: Option<i64>,
        child("iothread_period") iothread_period: Option<u64>,
        child("iothread_quota") iothread_quota: Option<i64>,
        child("vcpupin") vcpu_pins: Vec<VcpuPin>,
        leaf("emulatorpin" "cpuset") emulator_pin: Option<CpuSet>,
        child("iothreadpin") iothread_pins: Vec<IoThreadPin>,
        child("vcpusched") vcpu_schedulers: Vec<VcpuScheduler>,
        child("iothreadsched") iothread_schedulers: Vec<IoThreadScheduler>,
        child("emulatorsched") emulator_scheduler: Option<EmulatorScheduler>,
    }
    refuse ["cachetune", "memorytune"];
}

element! {
    pub struct VcpuPin {
        attr vcpu: u16,
        attr cpuset: CpuSet,
    }
}

element! {
    pub struct IoThreadPin {
        attr iothread: u32,
        attr cpuset: CpuSet,
    }
}

element! {
    pub struct VcpuScheduler {
        attr vcpus: CpuSet,
        attr scheduler: Scheduler,
        attr priority: Option<u32>,
    }
}

element! {
    pub struct IoThreadScheduler {
        attr iothreads: CpuSet,
        attr scheduler: Scheduler,
        attr priority: Option<u32>,
    }
}

element! {
    pub struct EmulatorScheduler {
        attr scheduler: Scheduler,
        attr priority: Option<u32>,
    }
}

element! {
    #[derive(Default)]
    pub struct IoThreadIds {
        child("iothread") threads: Vec<IoThread>,
    }
}

element! {
    pub struct IoThread {
        attr id: u32,
        attr("thread_pool_min") thread_pool_min: Option<u32>,
        attr("thread_pool_max") thread_pool_max: Option<u32>,
    }
}

element! {
    #[derive(Default)]
    pub struct BlockIoTune {
        child weight: Option<u32>,
        child("device") devices: Vec<BlockIoDevice>,
    }
}

element! {
    pub struct BlockIoDevice {
        child path: String,
        child weight: Option<u32>,
        child("read_iops_sec") read_iops: Option<u32>,
        child("write_iops_sec") write_iops: Option<u32>,
        child("read_bytes_sec") read_bytes: Option<u64>,
        child("write_bytes_sec") write_bytes: Option<u64>,
    }
}
