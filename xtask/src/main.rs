//! `cargo xtask`: the single door for developer commands.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod bench;
mod demo;
mod fuzz;
mod guest;
mod test;
mod testbed;
mod torture;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Manor", version)]
enum Xtask {
    /// An emulated host with a real /dev/kvm, on any machine
    #[command(subcommand)]
    Testbed(testbed::Command),
    /// Define, start, watch and shut down a guest: the main job, from a clean checkout
    Demo,
    /// Run all tests and checks; the last line counts them
    Test(test::Test),
    /// Measure Manor beside QEMU in the testbed
    Bench(bench::Bench),
    /// Feed the parsers of foreign bytes with whatever finds new ways through them
    Fuzz(fuzz::Fuzz),
    /// Kill, fill up and cut off, many times over, and count what is lost
    Torture(torture::Torture),
    /// Prepare the stock guest (Debian's kernel, a small initrd) and print where its parts are
    Guest,
}

fn main() -> ExitCode {
    let result = match Xtask::parse() {
        Xtask::Testbed(command) => testbed::run(command),
        Xtask::Demo => demo::run(),
        Xtask::Test(test) => test::run(&test),
        Xtask::Bench(bench) => bench::run(&bench),
        Xtask::Fuzz(fuzz) => fuzz::run(&fuzz),
        Xtask::Torture(torture) => torture::run(&torture),
        Xtask::Guest => guest::run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(testbed::status_of(&error))
    })
}
