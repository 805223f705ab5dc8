//! `cargo xtask`: the single door for developer commands.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod testbed;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Manor", version)]
enum Xtask {
    /// An emulated host with a real /dev/kvm, on any machine
    #[command(subcommand)]
    Testbed(testbed::Command),
}

fn main() -> ExitCode {
    let result = match Xtask::parse() {
        Xtask::Testbed(command) => testbed::run(command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(testbed::status_of(&error))
    })
}
