//! Every command that the documents show is one of ours, with options that it has.

use std::ffi::OsString;

use clap::CommandFactory as _;
use manor_tests::documents;

use crate::args::Cli;

/// The roles of processes, which nobody types.
const NAMES: [&str; 7] = [
    "run-domain",
    "run-network",
    "run-broker",
    "run-test-domain",
    "run-test-network",
    "inspect",
    "work-on-images",
];

/// The words of `line` up to what is the shell's.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, ';' | '|' | '>' | '<' | '&' | ')') => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn check(at: &str, command: &str, wrong: &mut Vec<String>) -> bool {
    let words = words(command);
    let [first, role, ..] = words.as_slice() else { return false };
    if first != "manor" || role.contains('=') || NAMES.contains(&role.as_str()) {
        return false;
    }
    // By its name alone it is spoken of, not typed.
    if words.len() == 2 && Cli::command().find_subcommand(role).is_some() {
        return true;
    }
    let typed = words[1..].iter().map(OsString::from).collect();
    if let Err(failure) = super::parse(typed, false) {
        wrong.push(format!("{at}: {command}: {failure:?}"));
    }
    true
}

#[test]
fn what_the_documents_type_is_understood() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for page in documents::pages().unwrap() {
        for block in documents::blocks(&page).unwrap() {
            let text = block.lines.join("\n").replace("\\\n", " ");
            for line in text.lines() {
                let line = line.trim_start().trim_start_matches("sudo ");
                checked += usize::from(check(&format!("{page}:{}", block.line), line, &mut wrong));
            }
        }
        for (line, span) in documents::spans(&page).unwrap() {
            checked += usize::from(check(&format!("{page}:{line}"), &span, &mut wrong));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 100, "only {checked} commands were found");
}
