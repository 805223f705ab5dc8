//! virsh's way of reading a command: options and plain words in any order, `--domain NAME` for
//! any argument that has a name, and its words when something is wrong.
//!
//! [`arrange`] puts such a command into the order that clap reads, by clap's own description of
//! it, so that the options stand in one place only (`args`).

use clap::{Arg, ArgAction, Command};

use crate::args::NATIVE;
use crate::failure::Failure;

/// The verb that is meant, if there is one.
pub(crate) fn verb<'a>(
    root: &'a Command,
    words: &[String],
) -> Result<Option<&'a Command>, Failure> {
    let Some(verb) = words.get(verb_index(root, words)?) else { return Ok(None) };
    root.find_subcommand(verb).map(Some).ok_or_else(|| unknown_command(root, verb))
}

/// Arguments without the program's name, in an order that clap understands. `root` is built.
pub(crate) fn arrange(root: &Command, words: &[String]) -> Result<Vec<String>, Failure> {
    let Some(command) = verb(root, words)? else { return Ok(words.to_vec()) };
    if NATIVE.contains(&command.get_name()) {
        return Ok(words.to_vec());
    }
    let at = verb_index(root, words)?;
    let mut arranged = words[..=at].to_vec();
    let (options, plain) = Reader { root, command }.read(&words[at + 1..])?;
    arranged.extend(options);
    arranged.push("--".to_owned());
    arranged.extend(plain);
    Ok(arranged)
}

/// Where the verb stands: after the global options.
fn verb_index(root: &Command, words: &[String]) -> Result<usize, Failure> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if !word.starts_with('-') || word == "-" {
            break;
        }
        let arg = find_option(root, word);
        let takes_next = arg.is_some_and(takes_value)
            && if word.starts_with("--") { !word.contains('=') } else { word.len() == 2 };
        at += if takes_next { 2 } else { 1 };
        if takes_next && at > words.len() {
            return Err(Failure::usage(format!("option '{word}' requires an argument")));
        }
    }
    Ok(at)
}

struct Reader<'a> {
    root: &'a Command,
    command: &'a Command,
}

impl Reader<'_> {
    /// Options as clap takes them, and the values of the positional arguments in their order.
    fn read(&self, words: &[String]) -> Result<(Vec<String>, Vec<String>), Failure> {
        let mut options = Vec::new();
        let mut filled: Vec<(&str, String)> = Vec::new();
        let mut data = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                data.extend(words.by_ref().cloned());
            } else if !word.starts_with('-') || word == "-" {
                data.push(word.clone());
            } else {
                let (name, inline) = match word.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (word.as_str(), None),
                };
                let arg = self.find(name).ok_or_else(|| self.unknown_option(name))?;
                if arg.get_id() == "help" {
                    // Whatever else there is or lacks.
                    return Ok((vec!["--help".to_owned()], Vec::new()));
                }
                if !takes_value(arg) {
                    if inline.is_some() {
                        return Err(Failure::usage(format!("invalid '=' after option {name}")));
                    }
                    options.push(name.to_owned());
                    continue;
                }
                let Some(value) = inline.or_else(|| words.next().cloned()) else {
                    return Err(Failure::usage(format!("expected syntax: {name} <string>")));
                };
                filled.push((arg.get_id().as_str(), value));
            }
        }
        self.place(data, &mut filled)?;
        let mut plain = Vec::new();
        for arg in self.own_arguments() {
            let values = filled.iter().filter(|(id, _)| *id == arg.get_id().as_str());
            for (_, value) in values {
                if arg.is_positional() {
                    plain.push(value.clone());
                } else {
                    options.push(format!("--{}={value}", long_name(arg)));
                }
            }
        }
        for (id, value) in &filled {
            if let Some(arg) = self.root.get_arguments().find(|arg| arg.get_id() == *id) {
                options.push(format!("--{}={value}", long_name(arg)));
            }
        }
        Ok((options, plain))
    }

    /// Plain words fill what takes a value and has none yet, in the order of declaration.
    fn place<'a>(
        &'a self,
        data: Vec<String>,
        filled: &mut Vec<(&'a str, String)>,
    ) -> Result<(), Failure> {
        let mut free = self.own_arguments().filter(|arg| takes_value(arg)).peekable();
        for value in data {
            while free
                .next_if(|arg| filled.iter().any(|(id, _)| arg.get_id() == *id) && !many(arg))
                .is_some()
            {}
            let Some(arg) = free.peek() else {
                return Err(Failure::usage(format!("unexpected data '{value}'")));
            };
            filled.push((arg.get_id().as_str(), value));
        }
        let missing = self
            .command
            .get_positionals()
            .find(|arg| arg.is_required_set() && !filled.iter().any(|(id, _)| arg.get_id() == *id));
        match missing {
            Some(arg) => Err(Failure::usage(format!(
                "command '{}' requires <{}> option",
                self.command.get_name(),
                long_name(arg)
            ))),
            None => Ok(()),
        }
    }

    /// Arguments of the verb itself, without the global ones.
    fn own_arguments(&self) -> impl Iterator<Item = &Arg> {
        self.command.get_arguments().filter(|arg| !arg.is_global_set())
    }

    fn find(&self, word: &str) -> Option<&Arg> {
        if matches!(word, "--help" | "-h") {
            return self.command.get_arguments().find(|arg| arg.get_id() == "help");
        }
        let long = word.strip_prefix("--");
        long.and_then(|long| self.own_arguments().find(|arg| is_called(arg, long)))
            .or_else(|| find_option(self.root, word))
    }

    fn unknown_option(&self, name: &str) -> Failure {
        let command = self.command.get_name();
        let failure = Failure::usage(format!("command '{command}' doesn't support option {name}"));
        let known = self.own_arguments().map(|arg| format!("--{}", long_name(arg)));
        failure.hint_near(name, known)
    }
}

/// virsh names every argument, positional ones too.
fn long_name(arg: &Arg) -> String {
    arg.get_long().map_or_else(|| arg.get_id().as_str().replace('_', "-"), str::to_owned)
}

/// By its name, or by an older one that virsh takes too.
fn is_called(arg: &Arg, long: &str) -> bool {
    long_name(arg) == long || arg.get_all_aliases().is_some_and(|names| names.contains(&long))
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn many(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// A global option by its short or long name.
fn find_option<'a>(root: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or(word);
    root.get_arguments().find(|arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short().is_some_and(|short| name[1..].starts_with(short)),
    })
}

fn unknown_command(root: &Command, verb: &str) -> Failure {
    let known = root.get_subcommands().filter(|verb| !verb.is_hide_set());
    Failure::usage(format!("unknown command: '{verb}'"))
        .hint_near(verb, known.map(|verb| verb.get_name().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn read(line: &str) -> Result<String, String> {
        let root = crate::args::Cli::command();
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        verb(&root, &words)
            .and_then(|verb| match verb {
                Some(verb) => arrange(&crate::alone("manor", verb), &words),
                None => Ok(words.clone()),
            })
            .map(|words| words.join(" "))
            .map_err(|failure| failure.lines().join(" | "))
    }

    #[test]
    fn options_and_words_come_in_any_order() {
        for line in [
            "destroy --graceful demo",
            "destroy demo --graceful",
            "destroy --domain demo --graceful",
            "destroy --graceful --domain=demo",
        ] {
            assert_eq!(read(line).as_deref(), Ok("destroy --graceful -- demo"), "{line}");
        }
        assert_eq!(read("domrename --new-name b a").as_deref(), Ok("domrename -- a b"));
    }

    #[test]
    fn plain_words_go_on_to_options_that_take_a_value() {
        assert_eq!(
            read("console demo serial1").as_deref(),
            Ok("console --devname=serial1 -- demo")
        );
        assert_eq!(
            read("event demo lifecycle").as_deref(),
            Ok("event --domain=demo --event=lifecycle --")
        );
        assert_eq!(
            read("domif-setlink demo vnet0 down --config").as_deref(),
            Ok("domif-setlink --config -- demo vnet0 down")
        );
        assert_eq!(
            read("domif-getlink demo --persistent vnet0").as_deref(),
            Ok("domif-getlink --persistent -- demo vnet0")
        );
        assert_eq!(read("domstats a b --state").as_deref(), Ok("domstats --state -- a b"));
    }

    #[test]
    fn global_options_stand_before_the_verb_or_after_it() {
        assert_eq!(read("-c /x -q list").as_deref(), Ok("-c /x -q list --"));
        assert_eq!(read("--connect=/x list --all").as_deref(), Ok("--connect=/x list --all --"));
        assert_eq!(read("list --connect /x").as_deref(), Ok("list --connect=/x --"));
        assert_eq!(read("list -q").as_deref(), Ok("list -q --"));
    }

    #[test]
    fn a_word_that_looks_like_an_option_follows_two_dashes() {
        assert_eq!(read("dominfo -- --odd").as_deref(), Ok("dominfo -- --odd"));
    }

    #[test]
    fn mistakes_are_told_in_virsh_words() {
        let wrong = |line: &str| read(line).unwrap_err();
        assert_eq!(wrong("bogus"), "unknown command: 'bogus'");
        assert_eq!(wrong("list --bogus"), "command 'list' doesn't support option --bogus");
        assert_eq!(wrong("start"), "command 'start' requires <domain> option");
        assert_eq!(wrong("domrename a"), "command 'domrename' requires <new-name> option");
        assert_eq!(wrong("start a c"), "unexpected data 'c'");
        assert_eq!(wrong("list foo"), "unexpected data 'foo'");
        assert_eq!(wrong("console a --devname"), "expected syntax: --devname <string>");
    }

    #[test]
    fn help_is_given_whatever_lacks() {
        assert_eq!(read("console --help").as_deref(), Ok("console --help --"));
        assert_eq!(read("start a b c -h").as_deref(), Ok("start --help --"));
    }

    #[test]
    fn native_commands_are_left_to_clap() {
        assert_eq!(read("daemon --config x").as_deref(), Ok("daemon --config x"));
    }
}
