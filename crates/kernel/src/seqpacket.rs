//! The private line between a daemon and the daemon of a zone: a pair of connected sockets that keep
//! the bounds of messages (unix(7), `SOCK_SEQPACKET`).
//!
//! A message may name a process: the sender gives the pid as its own pid namespace numbers it, the
//! kernel checks that it exists, and the receiver gets the number that *its* pid namespace has for the
//! same process (`SCM_CREDENTIALS`). It may carry a descriptor (`SCM_RIGHTS`).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, UCred,
};
use rustix::process::Pid;

use crate::Result;
use crate::error::Context;

/// No message is longer; a longer one is an error for its sender.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// One end of the line.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// What was sent.
    pub bytes: Vec<u8>,
    /// The process that the sender named, or the sender itself, as the receiver numbers it; `None`
    /// where the receiver's pid namespace does not have it.
    pub process: Option<Pid>,
    /// The descriptor that came with it, close-on-exec.
    pub descriptor: Option<OwnedFd>,
}

impl Line {
    /// Makes both ends: the parent's, which is told of processes, and the zone's, which is not (the
    /// parent has no number there). They are close-on-exec and do not block.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pair() -> Result<(Self, Self)> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .context(|| "make a socket pair")?;
        rustix::net::sockopt::set_socket_passcred(&ours, true)
            .context(|| "ask for credentials on a socket")?;
        Ok((Self { socket: ours }, Self { socket: theirs }))
    }

    /// An end that was inherited.
    #[must_use]
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// The socket of this end.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends a message; `process` is named to the receiver.
    ///
    /// # Errors
    /// `EAGAIN` when the receiver is behind, `EPIPE` when it is gone, or what else the kernel says.
    pub fn send(&self, bytes: &[u8], process: Option<Pid>) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmCredentials(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(pid) = process {
            let credentials =
                UCred { pid, uid: rustix::process::geteuid(), gid: rustix::process::getegid() };
            control.push(SendAncillaryMessage::ScmCredentials(credentials));
        }
        self.send_message(bytes, &mut control)
    }

    /// Sends a message and a copy of a descriptor.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_descriptor(&self, bytes: &[u8], descriptor: BorrowedFd<'_>) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        self.send_message(bytes, &mut control)
    }

    fn send_message(
        &self,
        bytes: &[u8],
        control: &mut SendAncillaryBuffer<'_, '_, '_>,
    ) -> Result<()> {
        let parts = [IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.socket, &parts, control, SendFlags::NOSIGNAL)
            .context(|| "send a message to a zone's other end")?;
        Ok(())
    }

    /// Takes the next message; `None` at the end of the line.
    ///
    /// # Errors
    /// `EAGAIN` when there is none yet, or what else the kernel says.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .context(|| "receive a message from a zone's other end")?;
        if received.bytes == 0 {
            return Ok(None);
        }
        bytes.truncate(received.bytes);
        let (mut process, mut descriptor) = (None, None);
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmCredentials(credentials) => {
                    process = Some(credentials.pid)
                }
                RecvAncillaryMessage::ScmRights(descriptors) => descriptor = descriptors.last(),
                _ => {}
            }
        }
        Ok(Some(Message { bytes, process, descriptor }))
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Line {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags};

    use super::*;

    #[test]
    fn a_message_names_a_process() {
        let (ours, theirs) = Line::pair().unwrap();
        theirs.send(b"hello", Some(rustix::process::getpid())).unwrap();
        let message = ours.receive().unwrap().unwrap();
        assert_eq!(message.bytes, b"hello");
        assert_eq!(message.process, Some(rustix::process::getpid()));
        assert!(message.descriptor.is_none());
        drop(theirs);
        // A child that another test is starting may hold a copy of the other end until it executes.
        let mut ready = [PollFd::new(&ours, PollFlags::IN)];
        rustix::event::poll(&mut ready, None).unwrap();
        assert!(ours.receive().unwrap().is_none());
    }

    #[test]
    fn a_message_carries_a_descriptor() {
        let (ours, theirs) = Line::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        ours.send_descriptor(b"take", writer.as_fd()).unwrap();
        drop(writer);
        let message = theirs.receive().unwrap().unwrap();
        rustix::io::write(message.descriptor.unwrap(), b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte).unwrap(), 1);
    }
}
