use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use memory::{Backing, GuestRam};

use super::*;

struct Rig {
    stream: Stream,
    other: UnixStream,
    ram: GuestRam,
}

impl Rig {
    fn new() -> Self {
        let (ours, other) = UnixStream::pair().unwrap();
        let ram = GuestRam::new(&[(0, 1 << 20)], &Backing::Anonymous).unwrap();
        Self { stream: Stream::new(ours.into()).unwrap(), other, ram }
    }

    fn buffers(&self, gpa: u64, len: u64) -> IoBuffers {
        self.ram.buffers([(gpa, 5), (gpa + 5, len - 5)]).unwrap()
    }

    fn receive(&self, room: u64) -> io::Result<Vec<u8>> {
        let len = self.stream.receive(&self.buffers(0x1000, room))?;
        let mut packet = vec![0xff; len];
        self.ram.read_slice(0x1000, &mut packet).unwrap();
        Ok(packet)
    }
}

fn framed(len: usize, byte: u8) -> Vec<u8> {
    [&(len as u32).to_be_bytes()[..], &vec![byte; len]].concat()
}

fn packet(len: usize, byte: u8) -> Vec<u8> {
    [&[0; HEADER][..], &vec![byte; len]].concat()
}

#[test]
fn frames_come_one_by_one_however_they_were_cut_up() {
    let mut rig = Rig::new();
    let all = [framed(60, 1), framed(1500, 2), framed(14, 3)].concat();
    let (first, rest) = all.split_at(62);
    rig.other.write_all(first).unwrap();
    assert_eq!(rig.receive(4096).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    rig.other.write_all(rest).unwrap();
    assert_eq!(rig.receive(4096).unwrap(), packet(60, 1));
    assert!(rig.stream.has_received());
    assert_eq!(rig.receive(4096).unwrap(), packet(1500, 2));
    let mut copy = [0xff; 100];
    assert_eq!(rig.stream.receive_copy(&mut copy).unwrap(), HEADER + 14);
    assert_eq!(copy[..HEADER + 14], packet(14, 3));
    assert!(!rig.stream.has_received());
    assert_eq!(rig.receive(4096).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn the_longest_frames_pass_and_those_too_long_for_the_guest_are_left_out() {
    let mut rig = Rig::new();
    for byte in 1..=5 {
        rig.other.write_all(&framed(LONGEST, byte)).unwrap();
        assert_eq!(rig.receive(100_000).unwrap(), packet(LONGEST, byte));
    }
    rig.other.write_all(&[framed(200, 6), framed(100, 7)].concat()).unwrap();
    assert_eq!(rig.receive(HEADER as u64 + 199).unwrap(), packet(100, 7));
}

#[test]
fn a_length_that_no_frame_has_is_an_end_and_stays_one() {
    for len in [0, LONGEST as u32 + 1, u32::MAX] {
        let mut rig = Rig::new();
        rig.other.write_all(&framed(60, 1)).unwrap();
        rig.other.write_all(&len.to_be_bytes()).unwrap();
        rig.receive(4096).unwrap();
        for _ in 0..2 {
            assert!(rig.stream.has_received(), "something that must be looked at");
            let error = rig.receive(4096).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(&len.to_string()), "{error}");
        }
    }
    let rig = Rig::new();
    drop(rig.other);
    let receive = rig.stream.receive(&rig.ram.buffers([(0, 4096)]).unwrap());
    assert_eq!(receive.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn what_the_socket_does_not_take_at_once_is_sent_later_and_whole() {
    let mut rig = Rig::new();
    let mut sent = 0;
    for byte in 1..200 {
        rig.ram.write_slice(0x1000, &packet(40_000, byte)).unwrap();
        match rig.stream.send(&rig.buffers(0x1000, 40_012)) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!((1..199).contains(&sent), "{sent}: the socket never filled");
    assert!(rig.stream.has_unsent());
    // The guest has these bytes back.
    rig.ram.write_slice(0x1000, &[0xee; 50_000]).unwrap();
    for byte in 1..=sent {
        let mut frame = vec![0; LENGTH + 40_000];
        let (first, rest) = frame.split_at_mut(20_000);
        rig.other.read_exact(first).unwrap();
        let _ = rig.stream.flush();
        rig.other.read_exact(rest).unwrap();
        assert!(frame == framed(40_000, byte), "frame {byte}");
    }
    assert!(!rig.stream.has_unsent());
}

#[test]
fn packets_without_a_frame_are_refused_and_a_peer_that_is_gone_is_told() {
    let rig = Rig::new();
    for len in [6, 12, HEADER as u64 + LONGEST as u64 + 1] {
        let error = rig.stream.send(&rig.buffers(0, len)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{len}");
    }
    drop(rig.other);
    let error = rig.stream.send(&rig.ram.buffers([(0, 72)]).unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
