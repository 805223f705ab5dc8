//! How often KVM handed a guest's exit to user space, by thread: the tracepoint
//! `kvm:kvm_userspace_exit`, counted in the kernel. The counters in debugfs cannot tell that from
//! accesses that KVM serves itself or keeps in its ring.

use std::fs;

use anyhow::Context;

const EVENT: &str = "/sys/kernel/debug/tracing/events/kvm/kvm_userspace_exit";
/// `KVM_EXIT_IO` and `KVM_EXIT_MMIO`.
const ACCESSES: [u32; 2] = [2, 6];

/// Counts from now on, for whoever asks.
pub(crate) fn count() -> anyhow::Result<()> {
    let trigger = format!("{EVENT}/trigger");
    // Where a signal ended the call, the reason is that of an earlier exit.
    let wanted = "hist:keys=common_pid,reason if errno == 0";
    let present = fs::read_to_string(&trigger).with_context(|| trigger.clone())?;
    if present.lines().any(|line| line.starts_with("hist:")) {
        return Ok(());
    }
    fs::write(&trigger, wanted).with_context(|| format!("{wanted} in {trigger}"))
}

/// Port and MMIO accesses that the threads for which `ours` holds have been handed.
pub(crate) fn accesses(ours: impl Fn(u32) -> bool) -> anyhow::Result<u64> {
    let hist = format!("{EVENT}/hist");
    Ok(sum(&fs::read_to_string(&hist).with_context(|| hist.clone())?, ours))
}

fn sum(hist: &str, ours: impl Fn(u32) -> bool) -> u64 {
    let counted = hist.lines().filter_map(entry);
    let counted = counted.filter(|(thread, reason, _)| ACCESSES.contains(reason) && ours(*thread));
    counted.map(|(_, _, hits)| hits).sum()
}

/// `{ common_pid:        120, reason:          2 } hitcount:        595`
fn entry(line: &str) -> Option<(u32, u32, u64)> {
    let value = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let (thread, reason) = (value("common_pid:")?, value("reason:")?);
    Some((thread.try_into().ok()?, reason.try_into().ok()?, value("hitcount:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_of_the_wanted_threads_are_summed() {
        let hist = "# event histogram\n#\n\n\
            { common_pid:        119, reason:          5 } hitcount:          7\n\
            { common_pid:        120, reason:          6 } hitcount:          1\n\
            { common_pid:        121, reason:          2 } hitcount:        100\n\
            { common_pid:        120, reason:          2 } hitcount:        595\n\n\
            Totals:\n    Hits: 703\n";
        assert_eq!(sum(hist, |thread| thread == 120), 596);
        assert_eq!(sum(hist, |thread| thread == 119), 0);
    }
}
