//! [`Wire`]: the connection itself, over which some kinds pass descriptors.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

pub(super) trait Wire: Send + 'static {
    type Reader: AsyncRead + Unpin + Send;
    type Writer: Writer;
    /// Whether descriptors can be passed over it.
    const PASSES_FILES: bool;

    fn split(self) -> (Self::Reader, Self::Writer);
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
