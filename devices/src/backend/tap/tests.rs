use std::fs::File;

use memory::{Backing, GuestRam};

use super::*;

#[test]
fn a_descriptor_of_another_kind_is_refused_by_name() {
    let file = File::open("/dev/null").unwrap();
    assert!(matches!(Tap::new(file.into()), Err(TapError::NotATap(_))));
}

/// A new tap device, where the test may make one.
fn new_tap(flags: u16) -> Option<OwnedFd> {
    let made = File::options().read(true).write(true).open("/dev/net/tun").and_then(|file| {
        let fd = OwnedFd::from(file);
        sys::create(fd.as_fd(), flags).map(|()| fd)
    });
    made.inspect_err(|error| eprintln!("skipped: no tap device can be made here: {error}")).ok()
}

#[test]
fn a_tap_without_headers_is_refused_by_the_missing_flag() {
    let Some(fd) = new_tap(sys::IFF_TAP | sys::IFF_NO_PI) else { return };
    let error = Tap::new(fd).unwrap_err().to_string();
    assert!(error.ends_with("was opened without IFF_VNET_HDR, which is needed"), "{error}");
}

#[test]
fn a_tap_takes_offloads_and_queues_can_rest() {
    let flags = sys::IFF_TAP | sys::IFF_NO_PI | sys::IFF_VNET_HDR | sys::IFF_MULTI_QUEUE;
    let Some(fd) = new_tap(flags) else { return };
    let tap = Tap::new(fd).unwrap();
    tap.set_offloads(Offloads::all()).unwrap();
    for enabled in [false, false, true] {
        tap.set_enabled(enabled).unwrap();
    }
    let ram = GuestRam::new(&[(0, 1 << 20)], &Backing::Anonymous).unwrap();
    let buffers = ram.buffers([(0, 4096)]).unwrap();
    assert_eq!(tap.receive(&buffers).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let refused = tap.send(&ram.buffers([(0, 5)]).unwrap());
    assert!(refused.is_err(), "shorter than its header");
}
