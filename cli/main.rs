//! The one binary: command line, daemon, and the hidden roles of one domain's processes.

mod host_check;
mod run_domain;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(role) if role == "run-domain" => run_domain::main(arguments),
        Some(role) if role == "host-check" => {
            let json = arguments.any(|argument| argument == "--json");
            host_check::run(json).unwrap_or(ExitCode::FAILURE)
        }
        _ => ExitCode::from(2),
    }
}
