//! Whether this host's KVM runs ordinary guests, found out by trying.
//!
//! Having `/dev/kvm` says little: a KVM that emulates guest kernels runs small programs and then
//! fails on the first `iretq` of a stock Linux. So each group of instructions that such a kernel
//! executes before its first line of output is run in a tiny guest of its own.

mod code;
mod probe;

use std::os::fd::{AsFd, OwnedFd};

pub use probe::Outcome;

/// What one probe tried, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The instructions, as one would name them: `int3, iretq`.
    pub what: &'static str,
    /// What a guest kernel needs them for.
    pub purpose: &'static str,
    pub outcome: Outcome,
}

/// What the host can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing runs.
    Nothing,
    /// Guests of our own that keep to simple instructions.
    BareMetal,
    /// Everything a stock kernel needs works.
    Linux,
}

/// Run all probes on the open `/dev/kvm`. Each takes milliseconds, and two seconds when it hangs.
///
/// # Errors
/// When the descriptor cannot be duplicated for each of them.
pub fn run(kvm: &OwnedFd) -> std::io::Result<Vec<Finding>> {
    code::PROBES
        .iter()
        .map(|probe| {
            let outcome = probe::run(kvm.as_fd().try_clone_to_owned()?, probe);
            Ok(Finding { what: probe.what, purpose: probe.purpose, outcome })
        })
        .collect()
}

/// The verdict over all findings. The first probe is the machine itself, without which the others
/// say nothing.
#[must_use]
pub fn level(findings: &[Finding]) -> Level {
    let works = |finding: &Finding| matches!(finding.outcome, Outcome::Works | Outcome::NotOffered);
    match findings.first() {
        Some(first) if works(first) && findings.iter().all(works) => Level::Linux,
        Some(first) if works(first) => Level::BareMetal,
        _ => Level::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(outcome: Outcome) -> Finding {
        Finding { what: "", purpose: "", outcome }
    }

    #[test]
    fn the_level_is_that_of_the_weakest_probe() {
        let failed = || Outcome::Failed { how: "emulation failure".into() };
        let of =
            |outcomes: Vec<Outcome>| level(&outcomes.into_iter().map(finding).collect::<Vec<_>>());
        assert_eq!(of(vec![]), Level::Nothing);
        assert_eq!(of(vec![failed(), Outcome::Works]), Level::Nothing);
        assert_eq!(of(vec![Outcome::Works, failed()]), Level::BareMetal);
        assert_eq!(of(vec![Outcome::Works, Outcome::NotOffered]), Level::Linux);
    }

    #[test]
    fn a_host_with_kvm_runs_the_simplest_guest() {
        let Ok(kvm) = std::fs::File::options().read(true).write(true).open("/dev/kvm") else {
            eprintln!("SKIP: no usable /dev/kvm on this host");
            return;
        };
        let findings = run(&kvm.into()).unwrap();
        assert_eq!(findings[0].outcome, Outcome::Works);
        assert_eq!(findings.len(), code::PROBES.len());
    }
}
