//! The commands that the documents show.

use std::fs;
use std::path::PathBuf;

use crate::paths;

/// Lines between two fences that a shell would take.
#[derive(Debug)]
pub struct Block {
    /// Of its first line, from 1.
    pub line: usize,
    pub lines: Vec<String>,
}

/// README.md and every page below docs, by their paths from the root.
pub fn pages() -> anyhow::Result<Vec<String>> {
    let mut pages = vec!["README.md".to_owned()];
    for entry in fs::read_dir(paths::workspace().join("docs"))? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        if name.ends_with(".md") {
            pages.push(format!("docs/{name}"));
        }
    }
    pages.sort();
    Ok(pages)
}

pub fn text(page: &str) -> anyhow::Result<String> {
    let path: PathBuf = paths::workspace().join(page);
    fs::read_to_string(&path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// Those without a language, or for `sh`.
pub fn blocks(page: &str) -> anyhow::Result<Vec<Block>> {
    let (mut blocks, mut within) = (Vec::new(), None);
    for (number, line) in (1..).zip(text(page)?.lines()) {
        within = match (within, line.strip_prefix("```")) {
            (None, Some(language)) => {
                Some((matches!(language, "" | "sh"), Block { line: number + 1, lines: vec![] }))
            }
            (Some((is_shell, block)), Some(_)) => {
                if is_shell {
                    blocks.push(block);
                }
                None
            }
            (Some((is_shell, mut block)), None) => {
                block.lines.push(line.to_owned());
                Some((is_shell, block))
            }
            (None, None) => None,
        };
    }
    Ok(blocks)
}

/// `manor …` as it stands in the text, between back quotes, with its line.
pub fn spans(page: &str) -> anyhow::Result<Vec<(usize, String)>> {
    let mut spans = Vec::new();
    for (number, line) in (1..).zip(text(page)?.lines()) {
        let quoted = line.split('`').skip(1).step_by(2);
        let commands = quoted.filter(|span| span.starts_with("manor "));
        spans.extend(commands.map(|span| (number, span.replace("\\|", "|"))));
    }
    Ok(spans)
}
