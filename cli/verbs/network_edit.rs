//! net-edit: the stored definition in the user's editor, and back.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Session, read_document};
use crate::args;
use crate::failure::{Failure, reason};
use crate::terminal::printable;

pub(super) async fn edit(session: &Session, args: args::Network) -> Result<(), Failure> {
    let network = &args.network;
    let stored = session.network_definition(network).await?;
    let draft = Draft::new("network.xml", &stored).map_err(|error| {
        Failure::other(format!("cannot write a file to edit: {}", reason(&error)))
    })?;
    loop {
        let text = draft.edit()?;
        if text == stored {
            let line = format!("Network {} XML configuration not changed.\n", printable(network));
            session.terminal.say(&line);
            return Ok(());
        }
        if session.network_definition(network).await? != stored {
            let problem = "the XML configuration was changed by another user";
            return Err(Failure::other(format!("{problem}; yours is lost")));
        }
        match session.client.define_network(text, "").await {
            Ok(defined) => {
                let name = printable(&defined.name);
                session.terminal.say(&format!("Network {name} XML configuration edited.\n"));
                return Ok(());
            }
            Err(error) => {
                let attempt = format!("Failed to edit network {}", printable(network));
                let failure = Failure::of_document(error, attempt, "network.xml");
                if !is_another_try_wanted(session, &failure) {
                    return Err(failure);
                }
            }
        }
    }
}

impl Session {
    async fn network_definition(&self, network: &str) -> Result<String, Failure> {
        self.of_network(network, self.client.network_xml(network, true)).await
    }
}

/// Asked of a person alone.
pub(super) fn is_another_try_wanted(session: &Session, failure: &Failure) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    failure.report(&session.terminal);
    session.terminal.print("Failed. Try again? [y,n]: ");
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    answer.trim_start().starts_with(['y', 'Y'])
}

/// A file in a directory that nobody else can look into; both go with it.
pub(super) struct Draft {
    directory: PathBuf,
    file: PathBuf,
}

impl Draft {
    pub(super) fn new(name: &str, text: &str) -> std::io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("manor-edit-{}", std::process::id()));
        // One that is there already is somebody else's, and refused.
        DirBuilder::new().mode(0o700).create(&directory)?;
        let draft = Self { file: directory.join(name), directory };
        let mut options = OpenOptions::new();
        let mut file: File = options.write(true).create_new(true).mode(0o600).open(&draft.file)?;
        file.write_all(text.as_bytes())?;
        Ok(draft)
    }

    /// The text as the user left it.
    pub(super) fn edit(&self) -> Result<String, Failure> {
        let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
        let editor = editor.unwrap_or_else(|| "vi".to_owned());
        // By the shell, as others do it: an editor may be a command with arguments.
        let status = Command::new("/bin/sh")
            .args(["-c", &format!("{editor} \"$1\""), "sh"])
            .arg(&self.file)
            .status()
            .map_err(|error| Failure::other(format!("cannot run {editor}: {}", reason(&error))))?;
        if !status.success() {
            let advice = "set EDITOR to the one you want";
            return Err(Failure::other(format!(
                "the editor '{editor}' ended with {status}; {advice}"
            )));
        }
        read_document(Path::new(&self.file))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What an editor left beside it goes as well.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
