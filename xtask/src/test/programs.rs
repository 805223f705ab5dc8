//! Test programs: built by cargo, run from here.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use manor_tests::paths;
use serde::Deserialize;

use super::libtest::{Outcome, Run};
use super::report::Report;

/// libtest itself speaks up after a minute; a program silent for longer than this hangs. A guest's boot may
/// take half an hour where much else runs.
const SILENCE: Duration = Duration::from_secs(2400);

/// Tests here run side by side on what may be a busy machine, beside tools with clocks of their
/// own; one that fails gets another try by itself, and the report names it.
const RETRIES: usize = 1;

/// Of the workspace's own package; runs on this machine and in the testbed as well: what a guest may do
/// to its VMM depends on the KVM and the processor between them.
const REPLAYED: &str = "hostile";

/// A skip for this reason is made good in the testbed.
const LACKS_KVM: &str = "kvm: ";

#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Package and target, as a person would name it.
    pub(super) name: String,
    pub(super) executable: PathBuf,
    package_dir: PathBuf,
    testbed: bool,
    replayed: bool,
}

/// Tests of a program that could not run here.
pub(super) struct WithoutKvm {
    pub(super) program: Program,
    pub(super) tests: Vec<(String, String)>,
}

/// The part of cargo's JSON that matters.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    manifest_path: Option<PathBuf>,
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// `None` when they do not compile; the compiler has said why.
pub(super) fn build() -> anyhow::Result<Option<Vec<Program>>> {
    let arguments =
        ["test", "--workspace", "--no-run", "--quiet", "--message-format=json-render-diagnostics"];
    let output = super::cargo(&arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Ok(None);
    }
    let mut programs = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line)?;
        programs.extend(Program::of(message));
    }
    if programs.is_empty() {
        bail!("cargo built no test program");
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Some(programs))
}

impl Program {
    fn of(message: Message) -> Option<Program> {
        if message.reason != "compiler-artifact" || !message.profile?.test {
            return None;
        }
        let (executable, target) = (message.executable?, message.target?);
        let package_dir = message.manifest_path?.parent()?.to_owned();
        let package = package_dir.file_name()?.to_string_lossy().into_owned();
        let integration = target.kind.iter().any(|kind| kind == "test");
        let name =
            if integration { format!("{package}/{}", target.name) } else { target.name.clone() };
        let testbed = integration && target.name.starts_with("testbed");
        let replayed = integration && package_dir == paths::workspace() && target.name == REPLAYED;
        Some(Program { name, executable, package_dir, testbed, replayed })
    }

    pub(super) fn needs_testbed(&self) -> bool {
        self.testbed
    }

    pub(super) fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// Runs some or all of its tests on this machine.
    pub(super) fn run(&self, arguments: &[&str]) -> anyhow::Result<Run> {
        let mut command = Command::new(&self.executable);
        command
            .args(arguments)
            .arg("--show-output")
            .current_dir(&self.package_dir)
            .env("CARGO_MANIFEST_DIR", &self.package_dir)
            // A golden file that differs is a failure, not something to rewrite here.
            .env("INSTA_UPDATE", "no")
            .stdin(Stdio::null());
        run_to_end(command)
    }
}

/// Tries again what failed in `program`, each test by itself (`once`) and at most `tries` times.
pub(super) fn repeat_failed(
    program: &str,
    run: &mut Run,
    tries: usize,
    report: &mut Report,
    once: impl Fn(&[&str]) -> anyhow::Result<Run>,
) -> anyhow::Result<()> {
    for test in &mut run.tests {
        for _ in 0..tries {
            if test.outcome != Outcome::Failed {
                break;
            }
            let name = format!("{program} {}", test.name);
            if test.output.contains("host crash: ") {
                report.host_crashed(&name);
            } else {
                report.failed_at_first(&name, &test.output);
            }
            let again = once(&["--exact", "--include-ignored", &test.name])?;
            if let Some(second) = again.tests.into_iter().next() {
                *test = second;
            }
        }
    }
    Ok(())
}

pub(super) fn run_local(
    programs: &[Program],
    chosen: &[&str],
    report: &mut Report,
) -> anyhow::Result<Vec<WithoutKvm>> {
    let mut without_kvm = Vec::new();
    for program in programs {
        let mut run = program.run(chosen)?;
        repeat_failed(&program.name, &mut run, RETRIES, report, |words| program.run(words))?;
        let mut tests = Vec::new();
        run.tests.retain(|test| match &test.outcome {
            Outcome::Skipped(reason) if reason.starts_with(LACKS_KVM) => {
                tests.push((test.name.clone(), reason.clone()));
                false
            }
            _ => true,
        });
        if !run.tests.is_empty() || run.broken.is_some() {
            report.add(&program.name, &run);
        }
        if !tests.is_empty() {
            without_kvm.push(WithoutKvm { program: program.clone(), tests });
        }
    }
    Ok(without_kvm)
}

/// One verdict: cargo runs them package by package, most of which have none.
pub(super) fn run_doc(report: &mut Report) -> anyhow::Result<()> {
    let output = super::cargo(&["test", "--workspace", "--doc", "--quiet"]).output()?;
    let text = [output.stdout, output.stderr].concat();
    report.verdict("doc", output.status.success(), &String::from_utf8_lossy(&text));
    Ok(())
}

/// Both streams in one text, as they came; killed when it falls silent.
fn run_to_end(mut command: Command) -> anyhow::Result<Run> {
    let (sender, lines) = mpsc::channel();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let readers = [
        child.stdout.take().map(|pipe| forward(pipe, sender.clone())),
        child.stderr.take().map(|pipe| forward(pipe, sender.clone())),
    ];
    drop(sender);
    let mut text = String::new();
    let silent = loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
        // A process it left behind may hold the pipes; the summary is the last word.
        if text.lines().next_back().is_some_and(|line| line.starts_with("test result: ")) {
            break false;
        }
    };
    if silent {
        return end_silent(child, &text);
    }
    let succeeded = child.wait()?.success();
    drop(readers);
    Ok(Run::parse(&text, succeeded))
}

fn end_silent(mut child: Child, text: &str) -> anyhow::Result<Run> {
    child.kill()?;
    child.wait()?;
    let mut run = Run::parse(text, false);
    run.broken = Some(format!("printed nothing for {SILENCE:?}:\n{text}"));
    Ok(run)
}

fn forward(pipe: impl Read + Send + 'static, to: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    })
}
