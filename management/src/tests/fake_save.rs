//! How the fake VMM reads messages that files come beside, and what it makes of a save.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use vmm_protocol::saved::Body;

const STATE: &[u8] = b"a fake guest";

/// Keeps the files that come beside what is read.
pub(super) struct WithFiles<'a> {
    pub stream: &'a UnixStream,
    pub files: Vec<OwnedFd>,
}

impl Read for WithFiles<'_> {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(data)];
        let received = recvmsg(self.stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        Ok(received.bytes)
    }
}

#[derive(Debug, Default)]
pub(super) struct Saver {
    cancelled: AtomicBool,
}

impl Saver {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// `manner`: what the guest's script says of saves. Why it failed, if it did.
    pub(super) fn save(&self, file: &File, manner: Option<&str>) -> Result<(), &'static str> {
        let body = Body::new(STATE, 0);
        match manner {
            Some("full") => return Err("the saved state cannot be written: os error 28"),
            Some("slow") => {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(5));
                    if self.cancelled.swap(false, Ordering::SeqCst) {
                        return Err("the save was cancelled");
                    }
                }
            }
            Some("dies") => {
                body.begin(file, STATE).unwrap();
                std::process::abort();
            }
            _ => {}
        }
        body.begin(file, STATE).unwrap();
        body.finish(file, &[]).unwrap();
        if manner == Some("dies-late") {
            std::process::abort();
        }
        Ok(())
    }
}

/// Whether it is a state that a fake guest was saved in.
pub(super) fn is_fake(file: &File) -> bool {
    Body::read(file).and_then(|body| body.sections(file)).is_ok_and(|state| state == STATE)
}
