//! The one binary: command line, daemon, and the hidden roles of one domain's processes.

mod run_domain;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(role) if role == "run-domain" => run_domain::main(arguments),
        _ => ExitCode::from(2),
    }
}
