//! PID 1 of the emulated host, and the server that runs commands in it for the tests.
//!
//! Two processes: the first prepares the system and reaps orphans, the second serves. Kept apart
//! because whoever reaps *any* child would steal the exit status of the commands it runs. As
//! `/init measure` it watches one virtual machine monitor for the benches, as `/init vsock` it is one
//! end of a connection.

mod disks;
mod exec;
mod files;
mod forward;
mod init;
mod measure;
mod returns;
mod root;
mod serve;
mod vsock;

fn main() {
    let role = std::env::args().nth(1);
    let result = match role.as_deref() {
        Some("serve") => serve::run(),
        Some("vsock") => vsock::run(),
        Some("measure") => measure::run(),
        _ => init::run(),
    };
    if let Err(error) = result {
        console(&format!("testbed agent: {error:#}"));
        if role.is_none() && std::process::id() == 1 {
            // The host side sees the machine end and shows this console.
            init::power_off();
        }
        std::process::exit(1);
    }
}

/// The emulated host's serial console, which is the testbed's log.
#[expect(clippy::print_stderr, reason = "stderr of PID 1 and its children is the console")]
fn console(text: &str) {
    eprintln!("{text}");
}
