//! [`IoEvents`]: doorbells as ioeventfds, matched by address alone.

use std::io;
use std::sync::Arc;

use devices::irq::Doorbells;
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

pub(super) struct IoEvents {
    fd: Arc<VmFd>,
}

impl IoEvents {
    pub(super) fn new(fd: Arc<VmFd>) -> Self {
        Self { fd }
    }
}

impl Doorbells for IoEvents {
    fn bind(&self, gpa: u64, event: &EventFd) -> io::Result<()> {
        Ok(self.fd.register_ioevent(event, &IoEventAddress::Mmio(gpa), NoDatamatch)?)
    }

    fn unbind(&self, gpa: u64, event: &EventFd) -> io::Result<()> {
        Ok(self.fd.unregister_ioevent(event, &IoEventAddress::Mmio(gpa), NoDatamatch)?)
    }
}
