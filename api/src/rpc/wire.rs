//! [`Wire`]: the connection itself, over which some kinds pass descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

pub(super) trait Wire: Send + 'static {
    type Reader: Reader;
    type Writer: Writer;
    /// Whether descriptors can be passed over it.
    const PASSES_FILES: bool;

    fn split(self) -> (Self::Reader, Self::Writer);
}

pub(super) trait Reader: AsyncRead + Unpin + Send {
    /// The descriptor that was passed beside the next byte, which belongs to no packet.
    fn passed(&mut self) -> impl Future<Output = io::Result<OwnedFd>> + Send;
}

pub(super) trait Writer: AsyncWrite + Unpin + Send {
    /// Pass a descriptor, beside a byte that belongs to no packet.
    fn pass(&mut self, file: BorrowedFd<'_>) -> impl Future<Output = io::Result<()>> + Send;
}

impl Wire for UnixStream {
    type Reader = OwnedReadHalf;
    type Writer = OwnedWriteHalf;
    const PASSES_FILES: bool = true;

    fn split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.into_split()
    }
}

impl Reader for OwnedReadHalf {
    async fn passed(&mut self) -> io::Result<OwnedFd> {
        let stream: &UnixStream = self.as_ref();
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let (mut byte, flags) = ([0], RecvFlags::CMSG_CLOEXEC);
            let mut into = [IoSliceMut::new(&mut byte)];
            let received = recvmsg(stream.as_fd(), &mut into, &mut ancillary, flags)?;
            let files = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            });
            // What does not fit has been closed by the kernel.
            match (received.bytes, files.flatten().last()) {
                (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
                (_, Some(file)) => Ok(file),
                (_, None) => Err(io::Error::other("a descriptor that was announced is missing")),
            }
        };
        stream.async_io(Interest::READABLE, receive).await
    }
}

impl Writer for OwnedWriteHalf {
    async fn pass(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        let stream: &UnixStream = self.as_ref();
        let send = || {
            let files = [file];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&files));
            let byte = [IoSlice::new(&[0])];
            sendmsg(stream.as_fd(), &byte, &mut ancillary, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        stream.async_io(Interest::WRITABLE, send).await
    }
}

/// A connection over which nothing but bytes go.
pub(super) struct Bytes<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Send + 'static> Wire for Bytes<S> {
    type Reader = ReadHalf<S>;
    type Writer = WriteHalf<S>;
    const PASSES_FILES: bool = false;

    fn split(self) -> (ReadHalf<S>, WriteHalf<S>) {
        tokio::io::split(self.0)
    }
}

impl<S: AsyncRead + Send> Reader for ReadHalf<S> {
    async fn passed(&mut self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl<S: AsyncWrite + Send> Writer for WriteHalf<S> {
    async fn pass(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A packet on its way out, with what goes with it.
pub(super) struct Outgoing {
    pub(super) packet: Vec<u8>,
    pub(super) files: Vec<OwnedFd>,
}

impl From<Vec<u8>> for Outgoing {
    fn from(packet: Vec<u8>) -> Self {
        Self { packet, files: Vec::new() }
    }
}
