//! The first message of a request, waited for before the request goes on; nothing is taken from it.
//!
//! ```text
//! frames ─▶ Begun: the first message is whole ─ takes one ──▶ ended ─▶ goes on
//!              │                              └ takes a stream ───────▶ goes on, counted
//!              └─ has to wait: what came is copied together, and counts as its principal's memory with the headers
//! ```
//!
//! gRPC frames a message with five bytes: whether it is compressed, and its length (gRPC over HTTP/2,
//! Length-Prefixed-Message). A client that says what it wants a byte at a time would hold a call open for
//! nothing, so the message has its time, and so has the end of a request that has no more.
//!
//! What is kept while something is waited for is bounded by its bytes, however small the frames are: a frame
//! is a part of what the connection has read, and would keep all of that.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aurae_authz::Denied;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;

use super::Refused;
use crate::reply;
use crate::server::{MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES_OF_DENIED};
use crate::share::{Exceeded, Held, Memory};

/// How long the first message of a request may take, and the end of a request that has one message: one has
/// at most 4 MiB, and a slow line moves that in half the time.
pub(super) const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands before a message.
const HEADER: usize = 5;

/// The least that is kept, in bytes: what the allocator takes anyway.
const MIN_KEPT: usize = 64;

/// What a header takes beside its text, in bytes: a map has an entry of about this size for each.
const HEADER_ENTRY: usize = 128;

/// What was copied together goes on in pieces of this size, that of HTTP/2's frames: who takes a piece may keep
/// it, and would keep all of what it is a part of.
const PIECE: usize = 16 << 10;

/// A piece of a body, or why there are no more.
type Piece = Result<Frame<Bytes>, Status>;

/// The body of a request as a connection has it.
pub(super) trait Arriving:
    http_body::Body<Data = Bytes, Error: Into<StdError>> + Unpin + Send + 'static
{
}

impl<B> Arriving for B where
    B: http_body::Body<Data = Bytes, Error: Into<StdError>> + Unpin + Send + 'static
{
}

/// A body whose first message comes, or that ends before. It stays where it is while it is waited for: each future
/// that it was moved into would make every call larger.
pub(super) struct Begun<'a, B> {
    taken: Taken<'a>,
    /// The first message's length once it is whole.
    length: Option<usize>,
    patience: Patience,
    rest: B,
}

impl<'a, B: Arriving> Begun<'a, B> {
    /// A body with these headers of which nothing was read. What is kept of it, the headers too, counts as `memory`.
    pub(super) fn new(headers: &'a HeaderMap, body: B, memory: &'a Memory) -> Self {
        let patience = Patience { limit: FIRST_MESSAGE_TIMEOUT, timer: None };
        Self { taken: Taken::new(headers, memory), length: None, patience, rest: body }
    }

    /// The same with another time.
    pub(super) fn within(mut self, limit: Duration) -> Self {
        self.patience.limit = limit;
        self
    }

    /// Waits for the first message, for [`FIRST_MESSAGE_TIMEOUT`] at most. Where its principal has more kept than
    /// [`MAX_REQUEST_BYTES_OF_DENIED`], `may_hold` says whether it goes on.
    ///
    /// Not before: what a caller is told must not depend on whether its message came with its headers.
    pub(super) async fn first(
        &mut self,
        may_hold: impl Fn() -> Result<(), Denied>,
    ) -> Result<(), Refused> {
        std::future::poll_fn(|context| self.poll_message(&may_hold, context)).await?;
        self.taken.settle();
        Ok(())
    }

    fn poll_message(
        &mut self,
        may_hold: &impl Fn() -> Result<(), Denied>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Refused>> {
        loop {
            self.length = self.taken.message_length()?;
            if self.length.is_some() || self.taken.last.is_some() {
                return Poll::Ready(Ok(()));
            }
            match std::task::ready!(self.poll_frame(&Refused::Slow, may_hold, context))? {
                Some(frame) => self.taken.push(frame, may_hold)?,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// The message.
    pub(super) fn message(&self) -> Option<Bytes> {
        self.length.map(|length| self.taken.bytes.slice(HEADER..HEADER + length))
    }

    /// Waits for the end of a request that has one message.
    ///
    /// What comes after that message would be read by nobody, and be held for as long as the caller likes.
    pub(super) async fn ended(&mut self) -> Result<(), Refused> {
        std::future::poll_fn(|context| self.poll_ended(context)).await?;
        self.taken.settle();
        Ok(())
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        if self.length.is_some_and(|length| self.taken.all().len() > HEADER + length) {
            return Poll::Ready(Err(Refused::SecondMessage));
        }
        // It was let in.
        let may_hold = &|| Ok(());
        while self.length.is_some() && self.taken.last.is_none() && !self.rest.is_end_stream() {
            match std::task::ready!(self.poll_frame(&Refused::Unended, may_hold, context))? {
                Some(Ok(frame)) if frame.data_ref().is_some_and(|data| !data.is_empty()) => {
                    return Poll::Ready(Err(Refused::SecondMessage));
                }
                Some(frame) => self.taken.push(frame, may_hold)?,
                None => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame; what was taken is kept while it has to be waited for.
    fn poll_frame(
        &mut self,
        late: &Refused,
        may_hold: &impl Fn() -> Result<(), Denied>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Piece>, Refused>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.rest).poll_frame(context) {
            return Poll::Ready(Ok(frame.map(|frame| frame.map_err(failed))));
        }
        self.taken.keep(0, may_hold)?;
        self.patience.poll_over(context).map(|()| Err(late.clone()))
    }

    /// The body as it came.
    pub(super) fn into_body(self) -> Body {
        self.replayed(None)
    }

    /// The body as it came, and what comes of it still: what is read of a message counts as the principal's
    /// memory until the message is whole.
    pub(super) fn into_stream(self) -> Body {
        let held = Held::of(self.taken.memory);
        self.replayed(Some(held))
    }

    fn replayed(self, stream: Option<Held>) -> Body {
        let Taken { bytes, kept, last, .. } = self.taken;
        let held = kept.filter(|kept| kept.is_copy).map(|kept| kept.held);
        let stream = stream.map(|held| Counted { framing: Framing::default(), held });
        let last = last.map(|last| *last);
        Body::new(Replayed { taken: bytes, held, last, stream, rest: self.rest })
    }
}

/// How long frames are waited for, all together.
struct Patience {
    limit: Duration,
    /// There since something had to be waited for: most messages come with their headers.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context)
    }
}

fn failed(error: impl Into<StdError>) -> Status {
    Status::from_error(error.into())
}

/// What was read of a body. Small, as it is a part of every call.
struct Taken<'a> {
    headers: &'a HeaderMap,
    memory: &'a Memory,
    /// A frame as it came, or all that was kept.
    bytes: Bytes,
    /// There since something had to be waited for, or comes in more than one frame.
    kept: Option<Box<Kept>>,
    /// Trailers, or an error: nothing comes after them.
    last: Option<Box<Piece>>,
}

/// What is kept while something is waited for.
struct Kept {
    /// What is being copied together.
    bytes: BytesMut,
    /// Whether anything was, and is no frame as it came.
    is_copy: bool,
    held: Held,
}

impl Kept {
    fn nothing(memory: &Memory) -> Box<Self> {
        Box::new(Self { bytes: BytesMut::new(), is_copy: false, held: Held::of(memory) })
    }
}

impl<'a> Taken<'a> {
    fn new(headers: &'a HeaderMap, memory: &'a Memory) -> Self {
        Self { headers, memory, bytes: Bytes::new(), kept: None, last: None }
    }

    fn all(&self) -> &[u8] {
        match &self.kept {
            Some(kept) if !kept.bytes.is_empty() => &kept.bytes,
            _ => &self.bytes,
        }
    }

    fn push(
        &mut self,
        frame: Piece,
        may_hold: &impl Fn() -> Result<(), Denied>,
    ) -> Result<(), Refused> {
        match frame.map(Frame::into_data) {
            // It says nothing, and is not kept: there may be many.
            Ok(Ok(data)) if data.is_empty() => {}
            Ok(Ok(data)) if self.all().is_empty() => self.bytes = data,
            Ok(Ok(data)) => {
                self.keep(data.len(), may_hold)?;
                if let Some(kept) = &mut self.kept {
                    kept.bytes.extend_from_slice(&data);
                }
            }
            Ok(Err(trailers)) => self.last = Some(Box::new(Ok(trailers))),
            Err(error) => self.last = Some(Box::new(Err(error))),
        }
        Ok(())
    }

    /// Keeps what was read, the headers too, with room for so many bytes more.
    fn keep(
        &mut self,
        more: usize,
        may_hold: &impl Fn() -> Result<(), Denied>,
    ) -> Result<(), Refused> {
        let needed = self.all().len() + more;
        let has_room = self.kept.as_ref().is_some_and(|kept| match more {
            0 => kept.is_copy || needed == 0,
            _ => needed <= kept.bytes.capacity(),
        });
        if has_room {
            return Ok(());
        }
        let capacity = if needed == 0 { 0 } else { self.capacity(needed) };
        let kept = self.kept.get_or_insert_with(|| Kept::nothing(self.memory));
        kept.held.set(headers_take(self.headers) + capacity)?;
        if self.memory.held() > MAX_REQUEST_BYTES_OF_DENIED {
            may_hold()?;
        }
        if needed > 0 {
            let mut bytes = BytesMut::with_capacity(capacity);
            bytes.extend_from_slice(if kept.bytes.is_empty() { &self.bytes } else { &kept.bytes });
            (kept.bytes, kept.is_copy) = (bytes, true);
            self.bytes = Bytes::new();
        }
        Ok(())
    }

    /// Twice what there was, but no more than the message has.
    fn capacity(&self, needed: usize) -> usize {
        let before = self.kept.as_ref().map_or(0, |kept| kept.bytes.capacity());
        let doubled = needed.max(2 * before).max(MIN_KEPT);
        let whole = self.header().map_or(usize::MAX, |(_, length)| length.saturating_add(HEADER));
        doubled.min(whole.max(needed))
    }

    /// What was kept is all there is for now.
    fn settle(&mut self) {
        if let Some(kept) = &mut self.kept
            && !kept.bytes.is_empty()
        {
            self.bytes = std::mem::take(&mut kept.bytes).freeze();
        }
    }

    /// Whether the message is compressed, and its length.
    fn header(&self) -> Option<(bool, usize)> {
        let (&[flag, a, b, c, d], _) = self.all().split_first_chunk::<HEADER>()?;
        Some((flag != 0, usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX)))
    }

    /// The length of the first message, once it is whole.
    fn message_length(&self) -> Result<Option<usize>, Refused> {
        match self.header() {
            Some((true, _)) => Err(Refused::Compressed),
            Some((_, length)) if length > MAX_MESSAGE_BYTES => Err(Refused::TooLong(length)),
            Some((_, length)) => Ok((self.all().len() >= HEADER + length).then_some(length)),
            None => Ok(None),
        }
    }
}

fn headers_take(headers: &HeaderMap) -> usize {
    let texts = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    headers.len() * HEADER_ENTRY + texts.sum::<usize>()
}

/// How much has come of the message at hand.
#[derive(Debug, Default)]
struct Framing {
    /// With what stands before it; 0 between messages.
    come: usize,
    /// Its length, as far as that is known.
    length: usize,
}

impl Framing {
    fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.come < HEADER {
                // The first byte says something else.
                self.length =
                    if self.come == 0 { 0 } else { self.length << 8 | usize::from(first) };
                self.come += 1;
                bytes = rest;
            } else {
                let part = bytes.len().min(self.length + HEADER - self.come);
                self.come += part;
                bytes = bytes.get(part..).unwrap_or_default();
            }
            if self.come >= HEADER && self.come == self.length + HEADER {
                self.come = 0;
            }
        }
    }
}

/// A stream of messages that is counted while it goes on.
struct Counted {
    framing: Framing,
    held: Held,
}

impl Counted {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Exceeded> {
        self.framing.push(bytes);
        self.held.set(self.framing.come)
    }
}

/// A body of which a part was read already.
struct Replayed<B> {
    taken: Bytes,
    /// What that is, where it was kept.
    held: Option<Held>,
    last: Option<Piece>,
    stream: Option<Counted>,
    rest: B,
}

impl<B> Replayed<B> {
    /// The next piece of what was taken.
    fn take(&mut self) -> Bytes {
        if self.held.is_none() {
            return std::mem::take(&mut self.taken);
        }
        let piece = Bytes::copy_from_slice(&self.taken.split_to(PIECE.min(self.taken.len())));
        if self.taken.is_empty() {
            (self.taken, self.held) = (Bytes::new(), None);
        }
        piece
    }

    fn counted(&mut self, piece: Piece) -> Piece {
        if let (Some(stream), Ok(frame)) = (&mut self.stream, &piece)
            && let Some(data) = frame.data_ref()
            && let Err(exceeded) = stream.push(data)
        {
            return Err(reply::status(&exceeded));
        }
        piece
    }
}

impl<B: Arriving> http_body::Body for Replayed<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        let this = &mut *self;
        if !this.taken.is_empty() {
            let piece = Ok(Frame::data(this.take()));
            return Poll::Ready(Some(this.counted(piece)));
        }
        if let Some(last) = this.last.take() {
            return Poll::Ready(Some(last));
        }
        let next = std::task::ready!(Pin::new(&mut this.rest).poll_frame(context));
        Poll::Ready(next.map(|piece| this.counted(piece.map_err(failed))))
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_empty() && self.last.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What was taken is counted by nobody any more: only that there is more can be said.
        match self.taken.is_empty() && self.last.is_none() {
            true => self.rest.size_hint(),
            false => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
