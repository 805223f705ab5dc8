//! Becoming somebody who may do nothing in particular.

use std::io;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// Give up every capability and all groups, and become `user`, if one is given.
///
/// The order matters: each step needs what a later one takes away, and changing users makes the process
/// dumpable or not by a setting of the host.
///
/// `lock`: the one capability to lock memory is kept until it is [given up](give_up), for a guest whose
/// memory is to be locked where the limit does not let anybody.
pub(super) fn drop_all(user: Option<u32>, lock: bool) -> io::Result<String> {
    if capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set()?;
    }
    if let Some(number) = user {
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        set_keep_capabilities(lock)?;
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    clear_ambient_capability_set()?;
    keep(if lock { CapabilitySet::IPC_LOCK } else { CapabilitySet::empty() })?;
    // No core dumps, and no ptrace by another process of the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    Ok(match user {
        Some(number) => format!("{number}, no capability"),
        None => "as the daemon's, no capability".to_owned(),
    })
}

/// The last capability goes, too.
pub(super) fn give_up() -> io::Result<()> {
    keep(CapabilitySet::empty())
}

fn keep(capabilities: CapabilitySet) -> io::Result<()> {
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: capabilities, permitted: capabilities, inheritable };
    Ok(set_capabilities(None, sets)?)
}

/// Whatever program this process might come to run, none of its capabilities would come with it.
fn empty_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // One more than the kernel knows.
            Err(Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
