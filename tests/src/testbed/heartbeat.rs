//! A connection a second to every instance that this process uses.
//!
//! QEMU's emulation now and then loses an interrupt on its way to a processor whose guest is being
//! entered. When that was the timer's, the emulated host sleeps until another device interrupts:
//! minutes, where everybody waits for a timer. The network card is such a device.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use testbed_agent::wire::Act;

use super::client;
use super::instance::Instance;

const PERIOD: Duration = Duration::from_secs(1);

/// The tokens of the instances that have one.
static KEPT: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Gives the instance its heartbeat, unless it has one.
pub(super) fn keep(instance: &Instance) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.get_or_insert_default().insert(instance.token.clone()) {
        return;
    }
    let instance = instance.clone();
    thread::spawn(move || {
        // Over a reboot it is the same instance still.
        while instance.is_current() {
            // Whether it answers is for those to judge who wait for something.
            let _ = client::ask(&instance, Act::Ping, PERIOD);
            thread::sleep(PERIOD);
        }
    });
}
