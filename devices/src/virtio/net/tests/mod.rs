//! A network device with its driver on one side and the network on the other.

mod control;
mod packets;
mod saved;

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use memory::{GuestRam, IoBuffers};
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::backend::stream::Stream;
use crate::backend::tap::sys;
use crate::io_thread::Stop;
use crate::sync::Lock;
use crate::virtio::features::VERSION_1;
use crate::virtio::rig::{FAR, GuestQueue, Random, SEAM, Signals, ram, submit_garbage, wait_for};

/// A datagram socket is a network: one packet per message, full after a few.
struct FakeNet {
    socket: UnixDatagram,
    settings: Mutex<(Offloads, bool)>,
}

impl PacketBackend for FakeNet {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
    fn receive(&self, buffers: &IoBuffers) -> io::Result<usize> {
        sys::readv(self.socket.as_fd(), buffers)
    }
    fn receive_copy(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(packet)
    }
    fn send(&self, packet: &IoBuffers) -> io::Result<()> {
        sys::writev(self.socket.as_fd(), packet).map(|_| ())
    }
    fn send_copy(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send(packet).map(|_| ())
    }
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        self.settings.hold().0 = offloads;
        Ok(())
    }
    fn set_enabled(&self, enabled: bool) -> io::Result<()> {
        self.settings.hold().1 = enabled;
        Ok(())
    }
}

const OURS: Mac = [0x52, 0x54, 0, 0, 0, 1];
const THEIRS: Mac = [0x52, 0x54, 0, 0, 0, 2];
const DATA: u64 = 0x10_0000;
const CONTROL_DATA: u64 = 0x8_0000;
const SIZE: u16 = 128;

/// A guest's driver with one queue pair and the control queue, and the network's other end.
struct Rig {
    net: Net,
    ram: GuestRam,
    rx: GuestQueue,
    tx: GuestQueue,
    control: GuestQueue,
    kicks: Vec<Arc<EventFd>>,
    signals: Arc<Signals>,
    workers: Workers,
    thread: Arc<IoThread>,
    network: UnixDatagram,
    fakes: Vec<Arc<FakeNet>>,
}

fn net(thread: &Arc<IoThread>, pairs: usize) -> (Net, Vec<Arc<FakeNet>>, Vec<UnixDatagram>) {
    let sockets = (0..pairs).map(|_| UnixDatagram::pair().unwrap());
    let (sockets, ends): (Vec<_>, Vec<_>) = sockets.unzip();
    let fakes = sockets.into_iter().map(|socket| {
        socket.set_nonblocking(true).unwrap();
        Arc::new(FakeNet { socket, settings: Mutex::new((Offloads::empty(), false)) })
    });
    let fakes: Vec<_> = fakes.collect();
    let backends =
        fakes.iter().map(|fake| (fake.clone() as Arc<dyn PacketBackend>, thread.clone()));
    (device(backends.collect()), fakes, ends)
}

fn device(pairs: Vec<(Arc<dyn PacketBackend>, Arc<IoThread>)>) -> Net {
    Net::new(NetConfig {
        mac: OURS,
        mtu: None,
        link_up: true,
        rx_queue_size: 256,
        tx_queue_size: 256,
        without: 0,
        pairs,
    })
}

fn io_thread() -> Arc<IoThread> {
    IoThread::spawn("io:net", || Ok(())).unwrap()
}

const MERGEABLE: u64 = VERSION_1 | feature::MRG_RXBUF;
const CONTROL: u64 = MERGEABLE
    | feature::GUEST_OFFLOADS
    | feature::CTRL_VQ
    | feature::CTRL_RX
    | feature::CTRL_RX_EXTRA
    | feature::CTRL_MAC_ADDR
    | feature::CTRL_GUEST_OFFLOADS
    | feature::GUEST_ANNOUNCE;

impl Rig {
    fn new(features: u64) -> Self {
        let pairs = if features & feature::MQ != 0 { 2 } else { 1 };
        let thread = io_thread();
        let (net, fakes, mut ends) = net(&thread, pairs);
        Self::of(features, thread, net, fakes, ends.remove(0))
    }

    /// With another backend than a fake network, which has no end then.
    fn over(features: u64, thread: &Arc<IoThread>, backend: Arc<dyn PacketBackend>) -> Self {
        let net = device(vec![(backend, thread.clone())]);
        Self::of(features, thread.clone(), net, Vec::new(), UnixDatagram::unbound().unwrap())
    }

    fn of(
        features: u64,
        thread: Arc<IoThread>,
        net: Net,
        fakes: Vec<Arc<FakeNet>>,
        network: UnixDatagram,
    ) -> Self {
        network.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let ram = ram();
        let queue = |index: u64| GuestQueue::new(&ram, 0x1_0000 + 0x8000 * index, SIZE);
        let mut rig = Self {
            rx: queue(0),
            tx: queue(1),
            control: queue(2),
            net,
            ram,
            kicks: Vec::new(),
            signals: Signals::new(),
            workers: Workers::default(),
            thread,
            network,
            fakes,
        };
        rig.start(features);
        rig
    }

    fn start(&mut self, features: u64) {
        let mut queues = Vec::new();
        let control_index = if features & feature::MQ != 0 { 4 } else { 2 };
        for (index, guest) in [(0, &self.rx), (1, &self.tx), (control_index, &self.control)] {
            queues.resize_with(usize::from(index), || None);
            let (queue, kick) = guest.active(index, &self.signals);
            queues.push(Some(queue));
            self.kicks.push(kick);
        }
        let activation = Activation { ram: self.ram.clone(), features, queues };
        self.workers = self.net.activate(activation).unwrap();
    }

    fn kick(&self, queue: usize) {
        self.kicks[queue].write(1).unwrap();
    }

    /// Offer `count` receive buffers of `len` bytes, each 0x1000 after the one before.
    fn offer_rx(&mut self, count: u64, len: u32) {
        for _ in 0..count {
            let gpa = DATA + 0x1000 * u64::from(self.rx.available);
            self.rx.submit(&[], &[(gpa, len)]);
        }
        self.kick(0);
    }

    fn expect_rx(&mut self, count: usize) -> Vec<(u32, u32)> {
        let mut used = Vec::new();
        let rx = &mut self.rx;
        wait_for("received packets", || {
            used.extend(rx.used());
            used.len() >= count
        });
        used
    }

    fn bytes(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.ram.read_slice(gpa, &mut data).unwrap();
        data
    }

    fn send_tx(&mut self, buffers: &[(u64, u32)]) {
        self.tx.submit(buffers, &[]);
        self.kick(1);
    }

    fn expect_tx(&mut self, count: usize) {
        let (mut done, tx) = (0, &mut self.tx);
        wait_for("sent packets", || {
            done += tx.used().len();
            done >= count
        });
    }

    /// Run a control command; its status.
    fn command(&mut self, command: &[u8]) -> u8 {
        self.ram.write_slice(CONTROL_DATA, command).unwrap();
        let status = CONTROL_DATA + 0x1000;
        self.ram.write_slice(status, &[0xaa]).unwrap();
        let len = command.len() as u32;
        let readable: &[_] = if len == 0 { &[] } else { &[(CONTROL_DATA, len)] };
        self.control.submit(readable, &[(status, 1)]);
        self.kick(2);
        let control = &mut self.control;
        wait_for("the command", || !control.used().is_empty());
        self.bytes(status, 1)[0]
    }

    fn stats(&self) -> NetStats {
        self.net.handle().stats()
    }
}

/// A packet behind an empty header: destination, then a pattern.
fn packet(destination: Mac, len: usize) -> Vec<u8> {
    let mut packet = vec![0; spec::HEADER];
    packet.extend(destination);
    packet.extend((6..len).map(|i| (i % 251) as u8));
    packet
}

fn broken(rig: &Rig) {
    wait_for("the broken queue", || rig.signals.broken());
}
