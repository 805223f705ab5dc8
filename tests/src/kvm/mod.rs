//! What the local `/dev/kvm` can do. Some hosts offer one that runs hand-written code and fails
//! on instructions every kernel uses; what is missing there is tested in the testbed.

mod sys;

/// How much of KVM there is; each level includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KvmLevel {
    None,
    /// Code that avoids exceptions and interrupt returns.
    BareMetal,
    /// Ordinary kernels.
    Linux,
}

impl KvmLevel {
    /// What this machine has, found out by running a guest of a dozen bytes; with the reason
    /// when it is less than everything.
    pub fn probe() -> (KvmLevel, String) {
        let flat = match sys::run(&PLAIN) {
            Ok(exit) => exit,
            Err(error) => return (KvmLevel::None, format!("/dev/kvm: {error}")),
        };
        if flat != DONE {
            return (KvmLevel::None, format!("a guest of three instructions ends with {flat}"));
        }
        match sys::run(&INTERRUPT_RETURN) {
            Ok(exit) if exit == DONE => (KvmLevel::Linux, String::new()),
            Ok(exit) => (KvmLevel::BareMetal, format!("a guest's iret ends with {exit}")),
            Err(error) => (KvmLevel::BareMetal, error.to_string()),
        }
    }

    /// For a test that needs `self`: a line that skips it, `None` when it can run.
    ///
    /// ```no_run
    /// # use manor_tests::kvm::KvmLevel;
    /// if let Some(skip) = KvmLevel::Linux.lacking() {
    ///     println!("{skip}");
    ///     return;
    /// }
    /// ```
    pub fn lacking(self) -> Option<String> {
        let (found, reason) = KvmLevel::probe();
        (found < self).then(|| format!("SKIP: kvm: {reason}"))
    }
}

/// How [`sys::run`] names the exit that both programs aim for.
const DONE: &str = "out 0xf4 = 0x4d";

/// 32-bit flat mode: `mov al, 0x4d; out 0xf4, al; hlt`.
const PLAIN: [u8; 5] = [0xb0, 0x4d, 0xe6, 0xf4, 0xf4];

/// `pushf; push cs; push 0x1008; iret`, then as above.
const INTERRUPT_RETURN: [u8; 13] =
    [0x9c, 0x0e, 0x68, 0x08, 0x10, 0x00, 0x00, 0xcf, 0xb0, 0x4d, 0xe6, 0xf4, 0xf4];

#[cfg(test)]
mod tests {
    use super::*;

    /// In the testbed, whose KVM is complete, this runs again and then must pass.
    #[test]
    fn a_complete_kvm_is_recognised() {
        if let Some(skip) = KvmLevel::Linux.lacking() {
            println!("{skip}");
            return;
        }
        assert_eq!(KvmLevel::probe(), (KvmLevel::Linux, String::new()));
    }
}
