//! `cargo xtask torture`: what happens when things go wrong, many times over, with a table at the end.
//! Each part is a test that `cargo xtask test` runs in its short form.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use manor_tests::paths;
use manor_tests::torture::{FORM, PREVIOUS, SECONDS, SEED, Tally};

#[derive(Args)]
pub(crate) struct Torture {
    /// Only these parts (default: all)
    parts: Vec<String>,
    /// As much as `cargo xtask test` does
    #[arg(long)]
    short: bool,
    /// What chance begins with; what failed is done again by the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the soak is
    #[arg(long)]
    seconds: Option<u64>,
    /// A commit to upgrade from and to go back to (may be repeated); each is built for that. Without it
    /// the one before this, and the last release
    #[arg(long)]
    previous: Vec<String>,
}

/// A test, and where it is.
struct Part {
    name: &'static str,
    package: &'static str,
    target: &'static [&'static str],
    test: &'static str,
}

const UPGRADE: &str = "upgrade";
const PROGRAM: &[&str] = &["--test", "torture"];

const PARTS: &[Part] = &[
    Part {
        name: "crash-daemon",
        package: "manor",
        target: PROGRAM,
        test: "crash_daemon::a_daemon_may_be_killed_at_any_system_call",
    },
    Part {
        name: "store",
        package: "manor-management",
        target: &["--lib"],
        test: "store::tests::a_power_cut_at_any_moment_leaves_what_was_promised_or_what_was_being_done",
    },
    Part {
        name: "failing-state",
        package: "manor",
        target: PROGRAM,
        test: "failing_state::a_daemon_without_room_serves_reads_and_leaves_guests_alone",
    },
    Part {
        name: "failing-device",
        package: "manor",
        target: PROGRAM,
        test: "failing_device::a_daemon_whose_device_fails_serves_reads_and_is_whole_when_it_is_mended",
    },
    Part {
        name: "storm",
        package: "manor",
        target: PROGRAM,
        test: "storm::a_storm_of_starts_and_stops_is_answered_to_the_last_call",
    },
    Part {
        name: "stuck",
        package: "manor",
        target: PROGRAM,
        test: "stuck::a_stopped_vmm_delays_nobody_else_and_can_be_destroyed",
    },
    Part {
        name: "glutton",
        package: "manor",
        target: PROGRAM,
        test: "glutton::a_vmm_that_eats_memory_is_refused_more_and_hurts_nobody",
    },
    Part {
        name: "soak",
        package: "manor",
        target: PROGRAM,
        test: "soak::what_comes_and_goes_leaves_nothing_behind",
    },
    Part {
        name: "qcow2",
        package: "manor-image",
        target: &["--test", "oracle"],
        test: "power::whatever_a_power_cut_leaves_is_sound_and_has_what_was_flushed",
    },
    Part {
        name: UPGRADE,
        package: "manor",
        target: PROGRAM,
        test: "upgrade::guests_of_another_version_are_taken_over_and_go_on",
    },
];

/// What came of a part.
struct Outcome {
    name: String,
    result: Result<Tally, Silence>,
    took: Duration,
}

/// Why nothing was counted.
enum Silence {
    /// It cannot be done on this machine.
    Skipped(String),
    Failed,
}

pub(crate) fn run(torture: &Torture) -> anyhow::Result<ExitCode> {
    let known = |name: &&String| PARTS.iter().any(|part| part.name == **name);
    if let Some(unknown) = torture.parts.iter().find(|name| !known(name)) {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        bail!("there is no part {unknown:?}; there are {}", names.join(", "));
    }
    let wanted = |part: &&Part| {
        torture.parts.is_empty() || torture.parts.iter().any(|name| name == part.name)
    };
    let mut outcomes = Vec::new();
    for part in PARTS.iter().filter(wanted) {
        for version in part.versions(torture)? {
            let name = match &version {
                None => part.name.to_owned(),
                Some(commit) => format!("{} {commit}", part.name),
            };
            println!("==> {name}");
            let begun = Instant::now();
            let result = part.run(torture, version.as_deref())?;
            outcomes.push(Outcome { name, result, took: begun.elapsed() });
        }
    }
    println!();
    print!("{}", table(&outcomes));
    let clean = |outcome: &Outcome| match &outcome.result {
        Ok(tally) => tally.is_clean(),
        Err(silence) => matches!(silence, Silence::Skipped(_)),
    };
    Ok(if outcomes.iter().all(clean) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Part {
    /// The commits that it is run against, one after the other; most are run once, against none.
    fn versions(&self, torture: &Torture) -> anyhow::Result<Vec<Option<String>>> {
        if self.name != UPGRADE || torture.short {
            return Ok(vec![None]);
        }
        let mut commits = torture.previous.clone();
        if commits.is_empty() {
            commits.push("HEAD^".to_owned());
            commits.extend(last_release()?);
        }
        Ok(commits.into_iter().map(Some).collect())
    }

    /// What it told, or why it told nothing.
    fn run(
        &self,
        torture: &Torture,
        version: Option<&str>,
    ) -> anyhow::Result<Result<Tally, Silence>> {
        let mut cargo = super::test::cargo(&["test", "--quiet", "-p", self.package]);
        // The long form is of what ships, nearly: a debug build takes several times as long.
        if !torture.short {
            cargo.args(["--profile", "quick"]);
        }
        cargo.args(self.target).args(["--", "--exact", self.test, "--nocapture"]);
        cargo.env(FORM, if torture.short { "short" } else { "long" });
        cargo.env(SEED, torture.seed.to_string());
        if let Some(seconds) = torture.seconds {
            cargo.env(SECONDS, seconds.to_string());
        }
        if let Some(commit) = version {
            cargo.env(PREVIOUS, build_of(commit)?);
        }
        let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
        let (mut told, mut skipped) = (None, None);
        for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
            let line = line.context("cannot read what the test says")?;
            println!("{line}");
            if let Some(reason) = line.strip_prefix("SKIP: ") {
                skipped = Some(reason.to_owned());
            }
            // libtest may have begun the line with the test's name.
            told = line
                .find(manor_tests::torture::MARK)
                .and_then(|at| Tally::heard(&line[at..]))
                .or(told);
        }
        let succeeded = child.wait()?.success();
        Ok(match (told, skipped) {
            (Some(tally), _) if succeeded || !tally.is_clean() => Ok(tally),
            (_, Some(reason)) if succeeded => Err(Silence::Skipped(reason)),
            _ => Err(Silence::Failed),
        })
    }
}

/// The binary of a commit, built in a checkout of its own that is kept for the next time.
fn build_of(commit: &str) -> anyhow::Result<PathBuf> {
    let place = paths::workspace().join("target/torture");
    let (source, target) = (place.join("previous"), place.join("target"));
    let git = |arguments: &[&str]| -> anyhow::Result<()> {
        let done = Command::new("git").current_dir(paths::workspace()).args(arguments).status();
        if !done.context("cannot run git")?.success() {
            bail!("git {} failed: is {commit:?} a commit?", arguments.join(" "));
        }
        Ok(())
    };
    let checkout = source.display().to_string();
    if source.exists() {
        git(&["-C", &checkout, "checkout", "--quiet", "--detach", &resolved(commit)?])?;
    } else {
        git(&["worktree", "add", "--quiet", "--detach", &checkout, commit])?;
    }
    println!("building {commit}");
    let mut cargo = super::test::cargo(&["build", "--quiet", "--profile", "quick", "-p", "manor"]);
    cargo.current_dir(&source).env("CARGO_TARGET_DIR", &target);
    if !cargo.status().context("cannot run cargo")?.success() {
        bail!("{commit} does not build; name another commit with --previous");
    }
    Ok(target.join("x86_64-unknown-linux-gnu/quick/manor"))
}

/// The tag of the newest version (`v1.2.3`) that came before this commit; none before the first.
fn last_release() -> anyhow::Result<Option<String>> {
    let mut git = Command::new("git");
    git.current_dir(paths::workspace());
    git.args(["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^"]);
    let output = git.output().context("cannot run git")?;
    let tag = String::from_utf8(output.stdout)?.trim().to_owned();
    Ok(Some(tag).filter(|_| output.status.success()))
}

/// Its full name, which means the same in another checkout.
fn resolved(commit: &str) -> anyhow::Result<String> {
    let mut git = Command::new("git");
    git.current_dir(paths::workspace()).args(["rev-parse", "--verify", commit]);
    let output = git.output().context("cannot run git")?;
    if !output.status.success() {
        bail!("there is no commit {commit:?}");
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// As docs/reliability.md has it.
fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<14} {:>7} {:>5} {:>10} {:>8} {:>7}  \n",
        "part", "tried", "lost", "contained", "escaped", "time"
    );
    for Outcome { name, result, took } in outcomes {
        let time = format!("{} s", took.as_secs());
        match result {
            Ok(tally) => {
                let Tally { tried, lost, contained, escaped, note, .. } = tally;
                text.push_str(&format!(
                    "{name:<14} {tried:>7} {lost:>5} {contained:>10} {escaped:>8} {time:>7}  {note}\n"
                ));
            }
            Err(Silence::Skipped(why)) => text.push_str(&format!("{name:<14} skipped: {why}\n")),
            Err(Silence::Failed) => text.push_str(&format!("{name:<14} failed, see above\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(previous: &[&str], short: bool) -> Vec<Option<String>> {
        let previous = previous.iter().map(|&commit| commit.to_owned()).collect();
        let torture = Torture { parts: Vec::new(), short, seed: 1, seconds: None, previous };
        let part = PARTS.iter().find(|part| part.name == UPGRADE).unwrap();
        part.versions(&torture).unwrap()
    }

    #[test]
    fn every_version_that_is_named_has_a_line_and_the_commit_before_has_one_without() {
        let [one, other] = ["v0.1.0", "HEAD^^"].map(|commit| Some(commit.to_owned()));
        assert_eq!(upgrade(&["v0.1.0", "HEAD^^"], false), [one, other]);
        assert_eq!(upgrade(&[], false)[0].as_deref(), Some("HEAD^"));
        assert_eq!(upgrade(&["HEAD^^"], true), [None]);
    }

    #[test]
    fn a_table_has_a_line_for_each_part_whatever_came_of_it() {
        let tally = Tally { tried: 100, contained: 99, lost: 1, ..Tally::of("store") };
        let took = Duration::from_secs(3);
        let outcomes = [
            Outcome { name: "store".to_owned(), result: Ok(tally), took },
            Outcome {
                name: "upgrade HEAD^".to_owned(),
                result: Err(Silence::Skipped("no KVM".to_owned())),
                took,
            },
        ];
        let text = table(&outcomes);
        let lines: Vec<_> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[1], ["store", "100", "1", "99", "0", "3", "s"]);
        assert_eq!(lines[2], ["upgrade", "HEAD^", "skipped:", "no", "KVM"]);
    }
}
