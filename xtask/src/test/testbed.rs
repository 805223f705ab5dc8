//! The tests that need the emulated host: those written for it, those of other packages that found
//! no usable KVM on this machine and run inside instead, and those that run on both.

use std::iter;
use std::time::Duration;

use manor_tests::testbed::{HostCrash, Options, Outcome as Ended};
use manor_tests::{Testbed, debian, firmware, installed};

use super::libtest::Run;
use super::programs::{Program, WithoutKvm, repeat_failed};
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
    local: &[Program],
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
    let result = run_all(programs, local, without_kvm, chosen, report);
    Testbed::down(NAME)?;
    Testbed::down(debian::HOST)?;
    Testbed::down(installed::HOST)?;
    Testbed::down(installed::UEFI_HOST)?;
    Testbed::down(installed::TRIXIE_HOST)?;
    result
}

fn run_all(
    programs: &[Program],
    local: &[Program],
    without_kvm: &[WithoutKvm],
    chosen: &[&str],
    report: &mut Report,
) -> anyhow::Result<()> {
    for WithoutKvm { program, tests } in without_kvm {
        let names = tests.iter().map(|(test, _)| test.as_str());
        let words: Vec<_> = iter::once("--exact").chain(names).collect();
        run_inside(program, &words, Some(tests.len()), report)?;
    }
    let ran = |program: &Program| without_kvm.iter().any(|one| one.program.name == program.name);
    for program in local.iter().filter(|program| program.is_replayed() && !ran(program)) {
        // One at a time: the emulated host has one processor.
        run_inside(program, &[chosen, &["--test-threads=1"]].concat(), None, report)?;
    }
    for program in programs {
        let mut run = program.run(chosen)?;
        repeat_failed(&program.name, &mut run, RETRIES, report, |words| program.run(words))?;
        report.add(&program.name, &run);
    }
    Ok(())
}

/// A program of another package, of which `tests` are to run if that is known.
fn run_inside(
    program: &Program,
    words: &[&str],
    tests: Option<usize>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let name = format!("{} (inside)", program.name);
    let mut result = inside(program, words, tests);
    if result.as_ref().is_err_and(anyhow::Error::is::<HostCrash>) {
        report.host_crashed(&name);
        result = inside(program, words, tests);
    }
    match result {
        Ok(mut run) => {
            let once = |words: &[&str]| inside(program, words, Some(1));
            repeat_failed(&name, &mut run, RETRIES, report, once)?;
            report.add(&name, &run);
        }
        Err(error) => report.failed(&name, &format!("{error:#}")),
    }
    Ok(())
}

/// Test programs are static, so they run in the emulated host as they are.
fn inside(program: &Program, words: &[&str], tests: Option<usize>) -> anyhow::Result<Run> {
    let host = Testbed::get()?;
    let remote = format!("/tests/{}", program.name.replace('/', "-"));
    host.put(&program.executable, &remote)?;
    firmware::put_inside(&host, MADE)?;
    let argv = [&[remote.as_str(), "--show-output"], words].concat();
    let command = host.command(&argv).env("MANOR_TESTBED_DIR", MADE);
    let output = command.timeout(LIMIT).output()?;
    let text = format!("{}{}", output.stderr(), output.stdout());
    let mut run = Run::parse(&text, output.outcome == Ended::Code(0));
    if output.outcome == Ended::TimedOut {
        run.broken = Some(format!("still running after {LIMIT:?}:\n{text}"));
    } else if tests.is_some_and(|tests| run.tests.len() != tests) {
        run.broken = Some(format!("did not run all of its tests:\n{text}"));
    }
    Ok(run)
}
