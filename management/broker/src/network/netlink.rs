//! A netlink socket, one question at a time (netlink(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

/// The kernel answers at once.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// Over a socket that was made elsewhere.
    pub(super) fn of(socket: OwnedFd) -> Self {
        Self { socket, sequence: 0 }
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let family = AddressFamily::NETLINK;
        let socket = socket_with(family, SocketType::RAW, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn with_timeout(self) -> io::Result<Self> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(ANSWER))?;
        Ok(self)
    }

    /// For links, addresses and routes.
    pub(super) fn route() -> io::Result<Self> {
        Self::open(None, 0)?.with_timeout()
    }

    /// For the packet filter; what others change in it is told to the members of `groups`.
    pub(super) fn netfilter(groups: u32) -> io::Result<Self> {
        let socket = Self::open(Some(netlink::NETFILTER), groups)?;
        if groups == 0 { socket.with_timeout() } else { Ok(socket) }
    }

    /// The next datagram, whole.
    pub(super) fn receive(&self) -> io::Result<Vec<u8>> {
        let mut none = [0; 0];
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (_, length) = recv(&self.socket, &mut none, flags)?;
        let mut datagram = vec![0; length];
        let (filled, _) = recv(&self.socket, &mut datagram[..], RecvFlags::empty())?;
        datagram.truncate(filled);
        Ok(datagram)
    }

    /// The same, if there is one by now.
    pub(super) fn receive_now(&self) -> io::Result<Option<Vec<u8>>> {
        let mut none = [0; 0];
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        match recv(&self.socket, &mut none, flags) {
            Ok(_) => self.receive().map(Some),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.send_bytes(&bytes)
    }

    pub(super) fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = send(&self.socket, bytes, SendFlags::empty())?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Have something done.
    pub(super) fn act(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, flags | NLM_F_ACK)?;
        self.answers(|_| ()).map(drop)
    }

    /// Ask for one thing; none if there is no such.
    pub(super) fn get(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        self.send(message, NLM_F_ACK)?;
        match self.answers(|message| message) {
            Ok(mut answers) => Ok(answers.pop()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ask for all there is.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_DUMP)?;
        self.answers(|message| message)
    }

    fn answers<T>(&self, mut take: impl FnMut(RouteNetlinkMessage) -> T) -> io::Result<Vec<T>> {
        let mut taken = Vec::new();
        loop {
            let datagram = self.receive()?;
            let mut ended = None;
            each::<RouteNetlinkMessage>(&datagram, |message| {
                if message.header.sequence_number != self.sequence || ended.is_some() {
                    return;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => taken.push(take(inner)),
                    NetlinkPayload::Done(_) => ended = Some(Ok(())),
                    NetlinkPayload::Error(error) => {
                        ended = Some(match error.code {
                            None => Ok(()),
                            Some(code) => Err(io::Error::from_raw_os_error(code.get().abs())),
                        });
                    }
                    _ => {}
                }
            });
            if let Some(ended) = ended {
                return ended.map(|()| taken);
            }
        }
    }

    /// Ask the packet filter for all of something: the payloads of its answers of type `kind`.
    pub(super) fn dump_raw(&self, question: &[u8], kind: u16) -> io::Result<Vec<Vec<u8>>> {
        const ERROR: u16 = 2;
        const DONE: u16 = 3;
        self.send_bytes(question)?;
        let mut found = Vec::new();
        loop {
            let datagram = self.receive()?;
            for message in raw_messages(&datagram) {
                match message.kind {
                    DONE => return Ok(found),
                    ERROR => {
                        let code = message.payload.first_chunk();
                        let code = code.map_or(0, |code| i32::from_ne_bytes(*code));
                        return Err(io::Error::from_raw_os_error(code.saturating_abs()));
                    }
                    other if other == kind => found.push(message.payload.to_vec()),
                    _ => {}
                }
            }
        }
    }

    /// The kernel's verdict on messages up to that with the sequence number `last`: the first that it
    /// refuses, by its sequence number.
    pub(super) fn verdict(&self, last: u32) -> io::Result<Option<(u32, io::Error)>> {
        loop {
            let datagram = match self.receive() {
                Ok(datagram) => datagram,
                // More are refused than there is room for answers; the first of them are there.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) => return Err(error),
            };
            for message in raw_messages(&datagram) {
                // NLMSG_ERROR: a code, 0 for an acknowledgement.
                if message.kind != 2 {
                    continue;
                }
                let code =
                    message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                if code != 0 {
                    let error = io::Error::from_raw_os_error(code.saturating_abs());
                    return Ok(Some((message.sequence, error)));
                }
                if message.sequence == last {
                    return Ok(None);
                }
            }
        }
    }
}

fn each<T: NetlinkDeserializable + NetlinkSerializable>(
    datagram: &[u8],
    mut see: impl FnMut(NetlinkMessage<T>),
) {
    let mut rest = datagram;
    while let Ok(message) = NetlinkMessage::<T>::deserialize(rest) {
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        see(message);
        match length.checked_next_multiple_of(4).and_then(|length| rest.get(length..)) {
            Some(next) if length > 0 && !next.is_empty() => rest = next,
            _ => return,
        }
    }
}

/// A message as it lies in a datagram.
pub(super) struct Raw<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

pub(super) fn raw_messages(datagram: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (header, _) = rest.split_first_chunk::<16>()?;
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = rest.get(16..length)?;
        rest = length.checked_next_multiple_of(4).and_then(|next| rest.get(next..)).unwrap_or(&[]);
        let (kind, sequence) = (u16::from_ne_bytes([k0, k1]), u32::from_ne_bytes([s0, s1, s2, s3]));
        Some(Raw { kind, sequence, payload })
    })
}
