//! The one binary: command line, daemon, and the hidden roles of one domain's processes.

mod args;
mod config;
mod confined;
mod daemon;
mod daemon_user;
mod descriptors;
mod disk_image;
#[cfg(test)]
mod documents;
mod failure;
mod help;
mod host_check;
mod image_work;
mod inspect;
mod libvirt_host;
mod log;
mod raw;
mod remote;
mod rootless;
mod run;
mod run_broker;
mod run_domain;
mod setup;
mod ssh_helper;
mod sys;
mod table;
mod terminal;
mod test_driver;
mod verbs;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use api::client::{Client, Endpoint, READ_ONLY_SOCKET};
use clap::{Args as _, CommandFactory as _, FromArgMatches as _};

use crate::args::{Cli, Command, Global};
use crate::failure::{Exit, Failure};
use crate::terminal::Terminal;

const SSH_HELPER: &str = "virt-ssh-helper";

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    // A monitor is started often and has nothing to do with the command line.
    if words.first().is_some_and(|role| role == "run-domain") {
        return run_domain::main(words.into_iter().skip(1));
    }
    if words.first().is_some_and(|role| role == "run-network") {
        return network::run_network(words.into_iter().skip(1));
    }
    if words.first().is_some_and(|role| role == "run-broker") {
        return run_broker::main(words.into_iter().skip(1));
    }
    if words.first().is_some_and(|role| role == ::test_driver::GUEST_ROLE) {
        return ::test_driver::run_guest(words.into_iter().skip(1));
    }
    if words.first().is_some_and(|role| role == ::test_driver::NETWORK_ROLE) {
        return ::test_driver::run_network(words.into_iter().skip(1));
    }
    if words.first().is_some_and(|role| role == "work-on-images") {
        return image_work::main();
    }
    if words.first().is_some_and(|role| role == "inspect") {
        return inspect::main(words.into_iter().skip(1));
    }
    // Clients that come by ssh know it by this name.
    let by_name = Path::new(&program).file_name().is_some_and(|name| name == SSH_HELPER);
    let words = if by_name { [vec![SSH_HELPER.into()], words].concat() } else { words };
    let as_virsh = Path::new(&program).file_name().is_some_and(|name| name == "virsh");
    match start(words, as_virsh) {
        Ok(code) => code,
        Err((failure, terminal)) => {
            failure.report(&terminal);
            ExitCode::from(failure.status(as_virsh))
        }
    }
}

fn start(words: Vec<OsString>, as_virsh: bool) -> Result<ExitCode, (Failure, Terminal)> {
    let json = words.iter().any(|word| word == "--json");
    let early = Terminal::new(false, json, false, as_virsh);
    let cli = match parse(words, as_virsh) {
        Ok(Some(cli)) => cli,
        Ok(None) => return Ok(ExitCode::SUCCESS),
        Err(failure) => return Err((failure, early)),
    };
    let Cli { global, command } = cli;
    let terminal = Terminal::new(global.quiet, global.json, global.no_color, as_virsh);
    execute(&global, command, &terminal).map_err(|failure| (failure, terminal))
}

/// The command line as typed; `None` if it asked for help, which is then printed.
fn parse(words: Vec<OsString>, as_virsh: bool) -> Result<Option<Cli>, Failure> {
    let name = if as_virsh { "virsh" } else { "manor" };
    let words = words
        .into_iter()
        .map(OsString::into_string)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|word| Failure::usage(format!("{} is not UTF-8", word.display())))?;
    let every = Cli::command().name(name).bin_name(name);
    let (mut root, arranged) = match words::verb(&every, &words)? {
        Some(verb) => {
            let root = alone(name, verb);
            let arranged = words::arrange(&root, &words)?;
            (root, arranged)
        }
        None => (every, words),
    };
    let matched = root.try_get_matches_from_mut([name.to_owned()].into_iter().chain(arranged));
    match matched.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if !error.use_stderr() => {
            // Help or version. Nobody is left to tell if printing fails.
            let _ = error.print();
            Ok(None)
        }
        Err(error) => Err(usage(&error)),
    }
}

/// The command line with one verb: to build all of them is most of what a short command costs.
fn alone(name: &'static str, verb: &clap::Command) -> clap::Command {
    let mut root = Global::augment_args(clap::Command::new(name))
        .bin_name(name)
        .disable_help_subcommand(true)
        .subcommand(verb.clone());
    root.build();
    root
}

/// clap's complaint without its `error:`, usage and pointers: one line, and hints.
fn usage(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("wrong usage");
    let mut line = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    let is_list = line.ends_with(':');
    let mut hints = Vec::new();
    for more in lines.take_while(|line| !line.starts_with("Usage")) {
        match more.strip_prefix("tip: ") {
            // What is missing, one a line.
            None if is_list => line.extend([" ", more]),
            tip => hints.push(tip.unwrap_or(more)),
        }
    }
    hints.into_iter().fold(Failure::usage(line), Failure::hint)
}

fn execute(global: &Global, command: Command, terminal: &Terminal) -> Result<ExitCode, Failure> {
    match command {
        Command::Daemon(args) => daemon::daemon(&args)?,
        Command::Config(args) => config::command(&args, terminal)?,
        Command::Image(command) => disk_image::run(command, terminal)?,
        Command::Setup(args) => setup::setup(&args, terminal)?,
        Command::VirtSshHelper(args) => ssh_helper::run(&args)?,
        Command::Run(args) => return run::run(&args, terminal),
        Command::HostCheck => {
            return host_check::run(terminal.json)
                .map_err(|error| Failure::other(format!("{error:#}")));
        }
        Command::Help(args) => help::help(args.command.as_deref(), terminal)?,
        Command::Completion(args) => help::completion(&args, terminal),
        Command::Man(args) => help::man(&args)?,
        verb => run_verb(global, verb, terminal)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_verb(global: &Global, verb: Command, terminal: &Terminal) -> Result<(), Failure> {
    let uri = connection_uri(global, terminal);
    let endpoint: Endpoint = uri.parse().map_err(|error: api::client::BadUri| {
        Failure::new(Exit::Unreachable, error.to_string()).while_doing(failure::NOT_CONNECTED)
    })?;
    let endpoint = match endpoint {
        Endpoint::Unix(path)
            if global.readonly && path == Path::new(api::client::DEFAULT_SOCKET) =>
        {
            Endpoint::Unix(READ_ONLY_SOCKET.into())
        }
        endpoint => endpoint,
    };
    let client = match remote::identity(global, &endpoint)? {
        None => Client::new(endpoint),
        Some(identity) => Client::new(endpoint).with_identity(identity),
    };
    let session = verbs::Session {
        client,
        terminal: terminal.clone(),
        uri,
        escape: escape_key(&global.escape)?,
    };
    // What a program in a guest wrote is passed on to the letter.
    let exact = matches!(verb, Command::GuestExec(_));
    let runtime = runtime()?;
    let result = runtime.block_on(verbs::run(&session, verb));
    // A thread may still wait for the keyboard; the process does not wait for it.
    runtime.shutdown_background();
    if !exact {
        terminal.say("\n");
    }
    result.unwrap_or_else(|| Err(Failure::usage("this command is no verb")))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))
}

/// The option, else what the environment says, else the daemon of this user, else the system's.
fn connection_uri(global: &Global, terminal: &Terminal) -> String {
    let from_environment = |name: &str| std::env::var(name).ok().filter(|uri| !uri.is_empty());
    global
        .connect
        .clone()
        .or_else(|| from_environment("MANOR_URI"))
        .or_else(|| from_environment("VIRSH_DEFAULT_CONNECT_URI").filter(|_| terminal.as_virsh))
        .or_else(|| from_environment("LIBVIRT_DEFAULT_URI"))
        .or_else(|| rootless::socket().map(|path| path.display().to_string()))
        .unwrap_or_else(|| {
            if terminal.as_virsh { "qemu:///system" } else { "manor:///system" }.to_owned()
        })
}

/// `^]` as virsh writes it: a control character.
fn escape_key(text: &str) -> Result<u8, Failure> {
    match text.as_bytes() {
        [b'^', key @ (b'@'..=b'_' | b'a'..=b'z')] => Ok(key.to_ascii_uppercase() ^ 0x40),
        _ => Err(Failure::usage(format!(
            "Invalid string '{text}' for escape sequence: write ^ and a letter, or one of @[]^_\\"
        ))),
    }
}
