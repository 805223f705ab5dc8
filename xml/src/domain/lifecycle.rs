//! What happens when the guest powers off, reboots or crashes, and whether it may sleep.

use crate::element::element;
use crate::value::{YesNo, names};

names! {
    /// `<on_poweroff>` and `<on_reboot>`
    pub enum LifecycleAction {
        Destroy = "destroy", Restart = "restart", Preserve = "preserve", RenameRestart = "rename-restart",
    }
    /// `<on_crash>`
    pub enum CrashAction {
        Destroy = "destroy", Restart = "restart", Preserve = "preserve", RenameRestart = "rename-restart",
        CoredumpDestroy = "coredump-destroy", CoredumpRestart = "coredump-restart",
    }
    pub enum LockFailureAction { Poweroff = "poweroff", Restart = "restart", Pause = "pause", Ignore = "ignore" }
}

element! {
    /// `<pm>`: which ACPI sleep states the guest sees.
    #[derive(Default)]
    pub struct PowerManagement {
        leaf("suspend-to-mem" "enabled") suspend_to_mem: Option<YesNo>,
        leaf("suspend-to-disk" "enabled") suspend_to_disk: Option<YesNo>,
    }
}
