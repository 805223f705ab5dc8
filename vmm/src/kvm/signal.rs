//! Getting a vCPU thread out of the guest.
//!
//! The kicker sets `immediate_exit` in the shared run page and then signals the thread. In the guest,
//! the signal ends KVM_RUN; on the way in, `immediate_exit` does. Nothing is lost between the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use vmm_sys_util::signal::register_signal_handler;

use super::KvmError;
use super::vcpu::RunPage;

/// The signal that ends KVM_RUN: a real-time one, so that nothing else means something by it.
pub fn kick_signal() -> i32 {
    vmm_sys_util::signal::SIGRTMIN()
}

/// The kernel's id of the calling thread.
pub fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // Having run at all is what ends KVM_RUN.
}

/// Once per process, before the first vCPU thread.
pub fn install_kick_handler() -> Result<(), KvmError> {
    register_signal_handler(kick_signal(), on_kick)
        .map_err(super::failed("take a signal to stop vCPUs by"))
}

/// Ends a KVM_RUN from any thread.
#[derive(Clone)]
pub struct Kicker {
    page: Arc<RunPage>,
    thread: Arc<AtomicI32>,
}

impl Kicker {
    pub(super) fn new(page: Arc<RunPage>) -> Self {
        Self { page, thread: Arc::new(AtomicI32::new(0)) }
    }

    /// The calling thread is the one to kick.
    pub fn attach(&self) {
        self.thread.store(thread_id(), Ordering::SeqCst);
    }

    /// The thread's id; zero before [`attach`](Self::attach).
    pub fn thread_id(&self) -> i32 {
        self.thread.load(Ordering::SeqCst)
    }

    /// Make the current KVM_RUN return, or the next one if none is under way.
    pub fn kick(&self) {
        self.page.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.thread_id();
        if thread != 0 {
            // SAFETY: plain system call without pointers. If the thread is gone it fails with ESRCH:
            // ids are looked up among this process's threads only.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, kick_signal()) };
        }
    }
}
