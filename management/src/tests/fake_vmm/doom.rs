//! [`Doom`]: the death of whoever speaks to the VMM.

use std::os::unix::net::UnixStream;

use vmm_protocol::control::Request;

/// When whoever speaks to the VMM is killed: `doom=FILE` names a file that says how many words before
/// (`3 before`), and whether they are to be heard (`3 after`). Nothing is counted while it is not there.
pub(super) struct Doom(Option<String>);

impl Doom {
    /// One of those that only ask is none.
    pub(super) fn of(script: &str, request: &Request) -> Self {
        let asks = matches!(request, Request::Hello { .. } | Request::Status | Request::Statistics);
        if asks || matches!(request, Request::Events { .. }) {
            return Self(None);
        }
        let file = script.split_whitespace().find_map(|word| word.strip_prefix("doom="));
        let Some((file, text)) = file.and_then(|it| Some((it, std::fs::read_to_string(it).ok()?)))
        else {
            return Self(None);
        };
        let (count, moment) = text.split_once(' ').unwrap();
        match count.parse::<u32>().unwrap().checked_sub(1) {
            Some(left) => {
                std::fs::write(file, format!("{left} {moment}")).unwrap();
                Self(None)
            }
            None => {
                std::fs::remove_file(file).unwrap();
                Self(Some(moment.to_owned()))
            }
        }
    }

    pub(super) fn strike(&self, moment: &str, peer: &UnixStream) {
        if self.0.as_deref() == Some(moment) {
            let peer = rustix::net::sockopt::socket_peercred(peer).unwrap();
            rustix::process::kill_process(peer.pid, rustix::process::Signal::KILL).unwrap();
        }
    }
}
