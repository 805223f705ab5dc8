//! Reads what a Rust test program prints with `--show-output`.
//!
//! libtest knows no skip at run time, so a test that cannot run prints a line
//! `SKIP: reason` and returns; `manor_tests::skip!` does.

use std::collections::HashMap;

/// How a test says that it did not run.
const SKIP: &str = "SKIP: ";

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) tests: Vec<Test>,
    /// The program ended without its summary: it crashed, was killed, or disagrees with itself.
    pub(super) broken: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) output: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

impl Run {
    pub(super) fn parse(text: &str, succeeded: bool) -> Run {
        let mut run = Run::default();
        let mut outputs = outputs(text);
        for line in text.lines() {
            let Some((name, word)) =
                line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
            else {
                continue;
            };
            let name = name.trim_end_matches(" - should panic");
            let outcome = match word.split(',').next().unwrap_or(word) {
                "ok" => Outcome::Passed,
                "FAILED" => Outcome::Failed,
                "ignored" => Outcome::Skipped(
                    word.split_once(", ").map_or("ignored", |(_, reason)| reason).to_owned(),
                ),
                _ => continue,
            };
            run.tests.push(Test { name: name.to_owned(), outcome, output: String::new() });
        }
        for test in &mut run.tests {
            test.output = outputs.remove(&test.name).unwrap_or_default();
            let skip = test.output.lines().find_map(|line| line.strip_prefix(SKIP));
            if let (Outcome::Passed, Some(reason)) = (&test.outcome, skip) {
                test.outcome = Outcome::Skipped(reason.to_owned());
            }
        }
        run.broken = run.inconsistency(text, succeeded);
        run
    }

    /// The summary must be there and agree: a test that was not understood must not vanish.
    fn inconsistency(&self, text: &str, succeeded: bool) -> Option<String> {
        let tail = || {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        let Some(summary) = text.lines().rev().find_map(|l| l.strip_prefix("test result: ")) else {
            return Some(format!("ended without a summary:\n{}", tail()));
        };
        let number = |word: &str| -> Option<usize> {
            let before = summary.split(word).next()?.trim_end();
            before.rsplit(' ').next()?.parse().ok()
        };
        let count = |wanted: fn(&Outcome) -> bool| {
            self.tests.iter().filter(|test| wanted(&test.outcome)).count()
        };
        let failed = count(|outcome| matches!(outcome, Outcome::Failed));
        let total = number("passed;")? + number("failed;")? + number("ignored;")?;
        let agrees = number("failed;") == Some(failed) && total == self.tests.len();
        (!agrees || succeeded != (failed == 0))
            .then(|| format!("its lines and its summary ({summary}) disagree:\n{}", tail()))
    }
}

/// What each test printed. libtest shows the output of failures among that of successes too.
fn outputs(text: &str) -> HashMap<String, String> {
    let mut outputs: HashMap<String, String> = HashMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let header = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(name) = header {
            current = Some(name.to_owned());
        } else if ["successes:", "failures:"].contains(&line) || line.starts_with("test result: ") {
            current = None;
        } else if let Some(name) = &current {
            let output = outputs.entry(name.clone()).or_default();
            output.push_str(line);
            output.push('\n');
        }
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
running 4 tests
test a::fails ... FAILED
test a::passes ... ok
test b::panics - should panic ... ok
test b::lacks ... ok
test b::never ... ignored, too slow

successes:

---- b::lacks stdout ----
SKIP: kvm: no /dev/kvm


successes:
    b::lacks

failures:

---- a::fails stdout ----
assertion failed

failures:
    a::fails

test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.0s
";

    #[test]
    fn every_test_gets_its_outcome_and_output() {
        let run = Run::parse(TEXT, false);
        let outcome = |name: &str| {
            let test = run.tests.iter().find(|test| test.name == name).unwrap();
            (&test.outcome, test.output.trim())
        };
        assert_eq!(run.broken, None);
        assert_eq!(outcome("a::fails"), (&Outcome::Failed, "assertion failed"));
        assert_eq!(outcome("a::passes").0, &Outcome::Passed);
        assert_eq!(outcome("b::panics").0, &Outcome::Passed);
        assert_eq!(outcome("b::lacks").0, &Outcome::Skipped("kvm: no /dev/kvm".into()));
        assert_eq!(outcome("b::never").0, &Outcome::Skipped("too slow".into()));
    }

    #[test]
    fn a_program_that_died_is_broken() {
        let cut = TEXT.split("test result").next().unwrap();
        assert!(Run::parse(cut, false).broken.is_some());
    }

    #[test]
    fn a_line_that_was_lost_is_noticed() {
        let lost = TEXT.replace("test a::passes ... ok\n", "");
        assert!(Run::parse(&lost, false).broken.is_some());
        let hidden = TEXT.replace("test a::fails ... FAILED\n", "test a::fails ... ok\n");
        assert!(Run::parse(&hidden, false).broken.is_some());
    }

    #[test]
    fn a_bad_status_is_never_a_pass() {
        let text = "test a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(Run::parse(text, true).broken, None);
        assert!(Run::parse(text, false).broken.is_some());
    }
}
