//! The tests that need the emulated host: those written for it, and those of other packages
//! that found no usable KVM on this machine and run inside instead.

use std::time::Duration;

use manor_tests::testbed::{HostCrash, Options, Outcome as Ended};
use manor_tests::{Testbed, debian, firmware, installed};

use super::libtest::Run;
use super::programs::{Program, WithoutKvm};
use super::report::Report;

/// The name of the instance that lives as long as this run.
const NAME: &str = "test";
/// QEMU's emulation of nested virtualisation mixes up the states of the emulated host (which then
/// panics) and of a guest (a triple fault, a hang in early boot) now and then; with one processor
/// seldom, but a run has some hundred boots.
pub(super) const RETRIES: usize = 2;
const LIMIT: Duration = Duration::from_secs(900);
/// Where test programs inside find what they would fetch.
const MADE: &str = "/tests/made";

pub(super) fn run(
    programs: &[Program],
    without_kvm: &[WithoutKvm],
    chosen: &[&str],
    report: &mut Report,
) -> anyhow::Result<()> {
    report.announce("tests in the emulated host");
    // Left over from a run that was killed; an old agent must not answer for a new one.
    Testbed::down(NAME)?;
    if let Err(error) = Testbed::up(&Options { name: NAME.into(), ..Options::shared() }) {
        report.failed("testbed", &format!("{error:#}"));
        return Ok(());
    }
    let result = run_all(programs, without_kvm, chosen, report);
    Testbed::down(NAME)?;
    Testbed::down(debian::HOST)?;
    Testbed::down(installed::HOST)?;
    Testbed::down(installed::UEFI_HOST)?;
    Testbed::down(installed::TRIXIE_HOST)?;
    result
}

fn run_all(
    programs: &[Program],
    without_kvm: &[WithoutKvm],
    chosen: &[&str],
    report: &mut Report,
) -> anyhow::Result<()> {
    for program in without_kvm {
        let name = format!("{} (inside)", program.program.name);
        match inside(program) {
            Ok(run) => report.add(&name, &run),
            Err(error) if error.is::<HostCrash>() => {
                report.host_crashed(&name);
                match inside(program) {
                    Ok(run) => report.add(&name, &run),
                    Err(error) => report.failed(&name, &format!("{error:#}")),
                }
            }
            Err(error) => report.failed(&name, &format!("{error:#}")),
        }
    }
    for program in programs {
        let mut run = program.run(chosen)?;
        program.repeat_failed(&mut run, RETRIES, report)?;
        report.add(&program.name, &run);
    }
    Ok(())
}

/// Test programs are static, so they run in the emulated host as they are.
fn inside(program: &WithoutKvm) -> anyhow::Result<Run> {
    let host = Testbed::up(&Options { name: NAME.into(), ..Options::shared() })?;
    let remote = format!("/tests/{}", program.program.name.replace('/', "-"));
    host.put(&program.program.executable, &remote)?;
    let mut argv = vec![remote.as_str(), "--exact", "--show-output"];
    argv.extend(program.tests.iter().map(|(test, _)| test.as_str()));
    firmware::put_inside(&host, MADE)?;
    let command = host.command(&argv).env("MANOR_TESTBED_DIR", MADE);
    let output = command.timeout(LIMIT).output()?;
    let text = format!("{}{}", output.stderr(), output.stdout());
    let mut run = Run::parse(&text, output.outcome == Ended::Code(0));
    if output.outcome == Ended::TimedOut {
        run.broken = Some(format!("still running after {LIMIT:?}:\n{text}"));
    } else if run.tests.len() != program.tests.len() {
        run.broken = Some(format!("did not run all of its tests:\n{text}"));
    }
    Ok(run)
}
