//! Packets, buffers and commands that no driver of an interface uses (virtio 1.2 §5.1.6).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use std::{fs, io};

use baremetal::Width::{Byte, Dword, Word};

use crate::driver::{Device, Guest, Kind, WRITE};
use crate::vm::{NET, Setup, Vm};
use crate::{attack, driver, sys, without_kvm};

const RECEIVE: usize = 0;
const SEND: usize = 1;
const CONTROL: usize = 2;
const HEADER: u32 = 12;

const CSUM: u64 = 1 << 0;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const HOST_ECN: u64 = 1 << 13;
const MERGEABLE: u64 = 1 << 15;
/// The queue itself, modes of reception, announcements, the MAC address.
const CONTROLS: u64 = 1 << 17 | 1 << 18 | 1 << 20 | 1 << 21 | 1 << 23;

/// `struct virtio_net_hdr` at `at`, word by word.
fn header(guest: &mut Guest<'_>, at: u32, (flags, gso): (u32, u32), fields: [u32; 4]) {
    let [header_len, gso_size, checksum_start, checksum_offset] = fields;
    guest.asm.poke(Dword, at, flags | gso << 8 | header_len << 16);
    guest.asm.poke(Dword, at + 4, gso_size | checksum_start << 16);
    guest.asm.poke(Dword, at + 8, checksum_offset);
}

#[test]
fn packets_with_headers_that_lie_are_dropped_or_sent_and_nothing_else() {
    attack(Setup::default(), |guest, devices| {
        guest.case("headers that lie", devices, &[Kind::Net], |guest, device| {
            device.features |= CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN;
            guest.bring_up(device);
            let at = device.buffers;
            for kind in [(0, 0), (1, 0), (1, 1), (1, 4), (0, 3), (1, 0x81), (0xff, 0xff), (2, 5)] {
                for fields in [
                    [0, 0, 0, 0],
                    [0xffff, 0xffff, 0xffff, 0xffff],
                    [54, 1, 34, 16],
                    [0xffff, 1448, 34, 16],
                    [54, 0, 1400, 1400],
                    [1, 0xffff, 0, 0xffff],
                ] {
                    header(guest, at, kind, fields);
                    for len in [HEADER, HEADER + 1, 64, 1500, 0x1_0000] {
                        guest.submit_to(device, SEND, &[(at.into(), len, 0)]);
                        guest.wait_used_on(device, SEND, 1);
                    }
                }
            }
            guest.runs(device);
            guest.works(device);
        });
        guest.case(
            "packets of no length and of too much",
            devices,
            &[Kind::Net],
            |guest, device| {
                let at = u64::from(device.buffers);
                header(guest, device.buffers, (0, 0), [0; 4]);
                let long = (at, 0x4_0000, 0);
                let packets: &[&[(u64, u32, u16)]] = &[
                    &[(at, 1, 0)],
                    &[(at, HEADER - 1, 0)],
                    &[(at, HEADER, 0)],
                    &[(at, 3, 0), (at + 3, 9, 0)],
                    &[(at, 3, 0), (at + 3, 9, 0), (at + 12, 1, 0)],
                    &[(at, HEADER, 0), long],
                    &[long, long, long, long],
                    &[(at, 64, WRITE)],
                    &[(at, 64, 0), (at, 64, WRITE)],
                ];
                for packet in packets {
                    guest.submit_to(device, SEND, packet);
                    guest.pause(30);
                    guest.runs_or_is_broken(device);
                    guest.bring_up(device);
                }
            },
        );
    });
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    attack(Setup::default(), |guest, devices| {
        guest.case("commands", devices, &[Kind::Net], |guest, device| {
            let plain = device.clone();
            device.features |= CONTROLS;
            device.add_queue(64);
            let at = device.buffers;
            let (command, data, ack) = (u64::from(at), u64::from(at) + 0x100, u64::from(at) + 0x80);
            for class in [0, 1, 2, 3, 4, 5, 6, 0xff] {
                for which in [0, 1, 2, 5, 0xff] {
                    guest.bring_up(device);
                    guest.asm.poke(Word, at, class | which << 8);
                    // Counts of tables beyond everything, and of none.
                    for (value, len) in
                        [(0, 1), (u32::MAX, 4), (0, 8), (2, 10), (1, 0x1000), (0x8001, 2)]
                    {
                        guest.asm.poke(Dword, at + 0x100, value);
                        let parts = [(command, 2, 0), (data, len, 0), (ack, 1, WRITE)];
                        guest.submit_to(device, CONTROL, &parts);
                        guest.wait_used_on(device, CONTROL, 1);
                    }
                    guest.submit_to(device, CONTROL, &[(command, 2, 0), (ack, 1, WRITE)]);
                    guest.wait_used_on(device, CONTROL, 1);
                    guest.runs(device);
                }
            }
            // Without half of the command, or of the answer's place: nothing to answer to.
            for parts in [
                &[(command, 1, 0), (ack, 1, WRITE)][..],
                &[(command, 2, 0), (data, 4, 0)],
                &[(ack, 1, WRITE)],
                &[(command, 0x8000, 0), (ack, 0x1000, WRITE)],
            ] {
                guest.submit_to(device, CONTROL, parts);
                guest.pause(30);
                guest.runs_or_is_broken(device);
                guest.bring_up(device);
            }
            *device = plain;
        });
    });
}

/// Datagrams to all in the guest's network, as fast as they go, until this is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    sender: Option<thread::JoinHandle<()>>,
}

impl Flood {
    const HOST: [u8; 4] = [198, 51, 100, 1];
    const ALL: [u8; 4] = [198, 51, 100, 255];

    fn over(tap: &impl AsRawFd) -> io::Result<Self> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", tap.as_raw_fd()))?;
        let name = info.lines().find_map(|line| line.strip_prefix("iff:"));
        let name = name.ok_or_else(|| io::Error::other("the tap has no name"))?.trim();
        // Nothing but the flood is to come: IPv6 would begin with messages of its own.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        sys::set_up_interface(name, Self::HOST)?;
        let socket = UdpSocket::bind((Ipv4Addr::from(Self::HOST), 0))?;
        socket.set_broadcast(true)?;
        let to = SocketAddr::from((Self::ALL, 9));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sender = thread::spawn(move || {
            let data = [0xa5; 1400];
            for len in (0..1400).step_by(7).cycle() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // The queue of the tap may be full: that is what it is for.
                let _ = socket.send_to(&data[..len], to);
                thread::sleep(Duration::from_micros(200));
            }
        });
        Ok(Self { stop, sender: Some(sender) })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

/// What receives is filled by the host: buffers too small for anything, of no memory, and none at all.
#[test]
fn a_flood_from_the_host_finds_no_way_past_bad_buffers() {
    if without_kvm() {
        return;
    }
    let tap = match sys::open_tap("hostile%d") {
        Ok(tap) => tap,
        Err(error) => return println!("SKIP: no tap can be made: {error}"),
    };
    let flood = match Flood::over(&tap) {
        Ok(flood) => flood,
        Err(error) => return println!("SKIP: no interface can be set up: {error}"),
    };
    let mut devices = Device::all(true);
    let kernel = driver::kernel(|guest| {
        guest.start(&mut devices);
        guest.case("nothing to receive into", &mut devices, &[Kind::Net], |guest, device| {
            // It sends all the while.
            for _ in 0..50 {
                guest.works(device);
                guest.pause(10);
            }
        });
        for features in [0, MERGEABLE] {
            guest.case("small buffers", &mut devices, &[Kind::Net], |guest, device| {
                let plain = device.features;
                device.features |= features;
                let at = u64::from(device.buffers) + 0x1000;
                for len in [1, 2, 11, 12, 13, 40] {
                    guest.bring_up(device);
                    for _ in 0..32 {
                        guest.offer_chain(&mut device.rings[RECEIVE], &[(at, len, WRITE)]);
                    }
                    guest.kick(device, RECEIVE as u16);
                    guest.pause(200);
                    guest.runs_or_is_broken(device);
                }
                device.features = plain;
            });
            guest.case("buffers of no memory", &mut devices, &[Kind::Net], |guest, device| {
                let plain = device.features;
                device.features |= features;
                let at = u64::from(device.buffers) + 0x1000;
                for bad in [(2 << 30, 1500, WRITE), (u64::MAX - 100, 1500, WRITE), (at, 1500, 0)] {
                    guest.bring_up(device);
                    // The packet goes on in the bad one.
                    guest.offer_chain(&mut device.rings[RECEIVE], &[(at, 20, WRITE)]);
                    guest.offer_chain(&mut device.rings[RECEIVE], &[bad]);
                    guest.kick(device, RECEIVE as u16);
                    guest.wait_broken(device);
                }
                device.features = plain;
            });
        }
        guest.case("packets arrive", &mut devices, &[Kind::Net], |guest, device| {
            guest.bring_up(device);
            let at = u64::from(device.buffers) + 0x1000;
            for _ in 0..4 {
                guest.offer_chain(&mut device.rings[RECEIVE], &[(at, 0x1000, WRITE)]);
            }
            guest.kick(device, RECEIVE as u16);
            guest.wait_used_on(device, RECEIVE, 4);
            // To everybody.
            guest.asm.load(Byte, device.buffers + 0x1000 + HEADER);
            guest.expect("first byte of a packet", 0xff);
        });
    });
    let mut vm = Vm::start(Setup { tap: Some(tap), ..Setup::default() }, &kernel);
    vm.read_until("DONE");
    drop(flood);
    assert_eq!(vm.end(), vmm_protocol::exit::ExitReason::Shutdown);
    assert_eq!(NET, devices.last().unwrap().slot);
}
