//! A program in an unpacked tree of packages, run by the tree's own loader and libraries: the
//! machine's may be older or missing.

use std::path::{Path, PathBuf};
use std::process::Command;

const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// How to start it: the program and its first arguments.
#[derive(Debug, Clone)]
pub struct Program {
    words: Vec<String>,
}

impl Program {
    pub fn installed(name: &str) -> Program {
        Program { words: vec![name.to_owned()] }
    }

    pub fn in_tree(tree: &Path, path: &str) -> Program {
        Program::of_tree(tree, &tree.join(path))
    }

    /// One that lies elsewhere.
    pub fn of_tree(tree: &Path, program: &Path) -> Program {
        let below = |part: &str| tree.join(part).display().to_string();
        let libraries = LIBRARIES.map(below).join(":");
        let loader = below("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
        Program {
            words: vec![
                loader,
                "--library-path".to_owned(),
                libraries,
                program.display().to_string(),
            ],
        }
    }

    /// With the machine's own loader and libc, for programs that start themselves anew: the tree was unpacked
    /// without a libc.
    pub fn beside(tree: &Path, path: &str, libraries: &[&str]) -> Program {
        let below = |part: &str| tree.join(part).display().to_string();
        let all: Vec<_> = LIBRARIES.iter().chain(libraries).map(|part| below(part)).collect();
        let words = [
            "env".to_owned(),
            format!("LD_LIBRARY_PATH={}", all.join(":")),
            format!("FONTCONFIG_SYSROOT={}", tree.display()),
            below(path),
        ];
        Program { words: words.into() }
    }

    #[must_use]
    pub fn with(mut self, arguments: impl IntoIterator<Item = String>) -> Program {
        self.words.extend(arguments);
        self
    }

    pub fn words(&self) -> &[String] {
        &self.words
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(PathBuf::from(&self.words[0]));
        command.args(&self.words[1..]);
        command
    }
}
