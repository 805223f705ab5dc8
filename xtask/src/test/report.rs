//! What came out, in the order it happened and as one line at the end.

use std::process::{Command, ExitCode};

use super::libtest::{Outcome, Run};
use super::programs::WithoutKvm;

#[derive(Default)]
pub(super) struct Report {
    passed: usize,
    failures: Vec<(String, String)>,
    skips: Vec<(String, String)>,
    host_crashes: Vec<String>,
    at_first: Vec<String>,
}

impl Report {
    pub(super) fn announce(&self, text: &str) {
        println!("==> {text}");
    }

    /// A tool whose status is the verdict.
    pub(super) fn check(&mut self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        self.announce(name);
        let good = super::status(command)?;
        self.verdict(name, good, "see above");
        Ok(())
    }

    pub(super) fn verdict(&mut self, name: &str, good: bool, otherwise: &str) {
        if good {
            self.passed += 1;
        } else {
            self.failed(name, otherwise);
        }
    }

    /// All tests of one program.
    pub(super) fn add(&mut self, program: &str, run: &Run) {
        let before = self.passed;
        for test in &run.tests {
            let name = format!("{program} {}", test.name);
            match &test.outcome {
                Outcome::Passed => self.passed += 1,
                Outcome::Failed => self.failed(&name, &test.output),
                Outcome::Skipped(reason) => self.skipped(&name, reason),
            }
        }
        if let Some(reason) = &run.broken {
            self.failed(program, reason);
        }
        println!("    {program}: {} of {} passed", self.passed - before, run.tests.len());
    }

    pub(super) fn failed(&mut self, name: &str, why: &str) {
        println!("    FAILED {name}\n{}", why.trim_end());
        self.failures.push((name.to_owned(), why.to_owned()));
    }

    pub(super) fn skipped(&mut self, name: &str, reason: &str) {
        self.skips.push((name.to_owned(), reason.to_owned()));
    }

    pub(super) fn skip_all(&mut self, without_kvm: &[WithoutKvm]) {
        for program in without_kvm {
            for (test, reason) in &program.tests {
                self.skipped(&format!("{} {test}", program.program.name), reason);
            }
        }
    }

    /// Reported whatever the second attempt says.
    pub(super) fn host_crashed(&mut self, name: &str) {
        println!("    HOST CRASH during {name}; trying once more");
        self.host_crashes.push(name.to_owned());
    }

    /// Reported whatever the next try says.
    pub(super) fn failed_at_first(&mut self, name: &str, why: &str) {
        println!("    FAILED AT FIRST {name}; trying once more\n{}", why.trim_end());
        self.at_first.push(name.to_owned());
    }

    pub(super) fn finish(&self) -> ExitCode {
        println!();
        for (name, reason) in &self.skips {
            println!("skipped: {name}: {reason}");
        }
        for name in &self.host_crashes {
            println!("host crash: the emulated host crashed during {name}");
        }
        for name in &self.at_first {
            println!("failed at first: {name}");
        }
        for (name, _) in &self.failures {
            println!("failed: {name}");
        }
        let (failed, skipped) = (self.failures.len(), self.skips.len());
        println!("{} passed, {failed} failed, {skipped} skipped", self.passed);
        // Nothing ran: that is a mistake in the selection, not a success.
        let good = failed == 0 && self.passed + skipped > 0;
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
