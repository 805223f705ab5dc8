//! `cargo xtask test`: everything that must hold before a change lands, with one number at the
//! end. Test programs are built by cargo and run from here, so that a machine with nothing but
//! the toolchain counts the same tests as any other, and so that a test that lacks KVM here can
//! be run again in the testbed.

mod deny;
mod libtest;
mod programs;
mod report;
mod testbed;

use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use clap::{Args, ValueEnum};
use manor_tests::{KvmLevel, paths};

use report::Report;

#[derive(Args)]
pub(crate) struct Test {
    /// Only these parts (may be repeated)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Also the tests that take long: every guest on every bus, by every firmware
    #[arg(long)]
    all: bool,
    /// Only tests whose name contains this
    #[arg(default_value = "")]
    filter: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// rustfmt --check
    Fmt,
    /// clippy, warnings are errors
    Clippy,
    /// Licences, banned crates and sources of dependencies, and the lock file of fuzz
    Deny,
    /// Unit and integration tests on this machine
    Unit,
    /// Documentation examples
    Doc,
    /// Tests in the emulated host, and those that lack KVM here
    Testbed,
}

pub(crate) fn run(test: &Test) -> anyhow::Result<ExitCode> {
    let wanted = |part| test.only.is_empty() || test.only.contains(&part);
    let mut chosen = Vec::new();
    if test.all {
        chosen.push("--include-ignored");
    }
    if !test.filter.is_empty() {
        chosen.push(&test.filter);
    }
    let mut report = Report::default();
    if wanted(Part::Fmt) {
        report.check("fmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    }
    if wanted(Part::Clippy) {
        let mut lint =
            cargo(&["clippy", "--workspace", "--all-targets", "--keep-going", "--quiet"]);
        report.check("clippy", lint.args(["--", "-D", "warnings"]))?;
    }
    if wanted(Part::Deny) {
        deny::run(&mut report)?;
        // A workspace of its own, which no build here would bring up to date.
        let mut fuzz = cargo(&["metadata", "--locked", "--format-version=1", "--manifest-path"]);
        fuzz.arg("fuzz/Cargo.toml").stdout(Stdio::null());
        report.check("the lock file of fuzz", &mut fuzz)?;
    }
    if wanted(Part::Unit) || wanted(Part::Testbed) {
        report.announce("building the tests");
        match programs::build()? {
            None => report.failed("build", "the tests do not compile"),
            Some(programs) => {
                let (testbed, local): (Vec<_>, Vec<_>) =
                    programs.into_iter().partition(programs::Program::needs_testbed);
                let mut without_kvm = Vec::new();
                if wanted(Part::Unit) {
                    report.announce(&format!("tests on this machine ({})", local_kvm()));
                    without_kvm = programs::run_local(&local, &chosen, &mut report)?;
                }
                if wanted(Part::Testbed) {
                    testbed::run(&testbed, &local, &without_kvm, &chosen, &mut report)?;
                    if test.filter.is_empty() {
                        demo(&mut report);
                    }
                } else {
                    report.skip_all(&without_kvm);
                }
            }
        }
    }
    if wanted(Part::Doc) {
        report.announce("documentation examples");
        programs::run_doc(&mut report)?;
    }
    Ok(report.finish())
}

/// What the README promises first. In an emulated host, so with further tries as its tests have.
fn demo(report: &mut Report) {
    report.announce("the demo");
    for left in (0..=testbed::RETRIES).rev() {
        match super::demo::run_emulated() {
            Ok(()) => return report.verdict("demo", true, ""),
            Err(error) if left > 0 => report.failed_at_first("demo", &format!("{error:#}")),
            Err(error) => report.verdict("demo", false, &format!("{error:#}")),
        }
    }
}

/// Says where tests that need KVM are going to run.
fn local_kvm() -> String {
    match KvmLevel::probe() {
        (KvmLevel::Linux, _) => "its KVM runs ordinary kernels".to_owned(),
        (KvmLevel::BareMetal, why) => {
            format!("its KVM runs only bare code: {why}; what needs more runs in the testbed")
        }
        (KvmLevel::None, why) => format!("no usable KVM: {why}; what needs it runs in the testbed"),
    }
}

pub(super) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::workspace()).args(arguments);
    command
}

fn status(command: &mut Command) -> anyhow::Result<bool> {
    Ok(command.status().with_context(|| format!("cannot run {command:?}"))?.success())
}
