//! Bodies that come in pieces, too slowly, or without an end.

use std::sync::LazyLock;

use aurae_authz::{Action, Principal, authorize_inside};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;

use super::*;

static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

/// A body whose bytes come in pieces of a size.
fn body(bytes: &[u8], piece: usize) -> Body {
    let pieces: Vec<_> = bytes
        .chunks(piece)
        .map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    Body::new(StreamBody::new(stream::iter(pieces)))
}

/// As much as a test needs.
fn plenty() -> Memory {
    Memory::new(1 << 20)
}

async fn begun<'a>(
    headers: &'a HeaderMap,
    body: Body,
    memory: &'a Memory,
    may_hold: impl Fn() -> Result<(), Denied>,
) -> Result<Begun<'a, Body>, Refused> {
    begun_within(FIRST_MESSAGE_TIMEOUT, headers, body, memory, may_hold).await
}

async fn begun_within<'a>(
    limit: Duration,
    headers: &'a HeaderMap,
    body: Body,
    memory: &'a Memory,
    may_hold: impl Fn() -> Result<(), Denied>,
) -> Result<Begun<'a, Body>, Refused> {
    let mut begun = Begun::new(headers, body, memory);
    begun.patience.limit = limit;
    begun.first(may_hold).await?;
    Ok(begun)
}

async fn read(bytes: &[u8], piece: usize) -> (Option<Vec<u8>>, Vec<u8>) {
    let memory = plenty();
    let begun = begun(&NONE, body(bytes, piece), &memory, || Ok(())).await.unwrap();
    let message = begun.message().map(|message| message.to_vec());
    (message, begun.into_body().collect().await.unwrap().to_bytes().to_vec())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

proptest! {
    #[test]
    fn the_first_message_is_read_and_all_goes_on_however_it_comes(
        first in proptest::collection::vec(any::<u8>(), 0..40),
        second in proptest::collection::vec(any::<u8>(), 0..40),
        piece in 1_usize..50,
    ) {
        let bytes = [frame(&first), frame(&second)].concat();
        let (message, all) = runtime().block_on(read(&bytes, piece));
        prop_assert_eq!(message, Some(first));
        prop_assert_eq!(all, bytes);
    }
}

#[tokio::test]
async fn a_body_that_ends_too_early_has_no_message_and_goes_on_as_it_came() {
    for bytes in [&[][..], &[0, 0], &[0, 0, 0, 0, 9, 1]] {
        assert_eq!(read(bytes, 1).await, (None, bytes.to_vec()));
    }
}

#[tokio::test]
async fn what_is_compressed_or_too_long_is_refused_before_it_is_read() {
    let memory = plenty();
    let refusal = async |bytes: &[u8]| begun(&NONE, body(bytes, 2), &memory, || Ok(())).await.err();
    assert_eq!(refusal(&[1, 0, 0, 0, 0]).await, Some(Refused::Compressed));
    assert_eq!(refusal(&[0, 0xff, 0xff, 0xff, 0xff]).await, Some(Refused::TooLong(0xffff_ffff)));
}

/// A body with frames that are there, and then nothing, for ever.
fn dripping(frames: &[&'static [u8]]) -> Body {
    let frames: Vec<_> = frames
        .iter()
        .map(|frame| Ok::<_, Status>(Frame::data(Bytes::from_static(frame))))
        .collect();
    Body::new(StreamBody::new(stream::iter(frames).chain(stream::pending())))
}

#[tokio::test]
async fn a_first_message_that_does_not_come_ends_the_request() {
    let late: [&[&'static [u8]]; 3] = [&[], &[b"\0\0\0"], &[b"\0\0\0\0\x02", b"x"]];
    for frames in late {
        let (memory, limit) = (plenty(), Duration::from_millis(1));
        let begun = begun_within(limit, &NONE, dripping(frames), &memory, || Ok(())).await;
        assert_eq!(begun.err(), Some(Refused::Slow), "{frames:?}");
    }
}

#[tokio::test]
async fn a_stream_may_be_silent_after_its_first_message() {
    let frames: [&'static [u8]; 2] = [b"\0\0\0\0\x02x", b"y"];
    let memory = plenty();
    let begun =
        begun_within(Duration::ZERO, &NONE, dripping(&frames), &memory, || Ok(())).await.unwrap();
    assert_eq!(begun.message().unwrap(), "xy");
    let mut silent = begun.into_stream();
    assert_eq!(silent.frame().await.unwrap().unwrap().into_data().unwrap(), "\0\0\0\0\x02xy");
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(Pin::new(&mut silent).poll_frame(&mut context).is_pending());
}

/// What is read of a body that says no more, and how much is held then.
fn held_while_waiting(bytes: &[u8], piece: usize, memory: &Memory) -> usize {
    let pieces: Vec<_> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    let frames = stream::iter(pieces).map(|piece| Ok::<_, Status>(Frame::data(piece)));
    let body = Body::new(StreamBody::new(frames.chain(stream::pending())));
    let mut waiting = Box::pin(async {
        let mut begun = begun(&NONE, body, memory, || Ok(())).await.unwrap();
        begun.ended().await.unwrap();
    });
    assert!(waiting.as_mut().now_or_never().is_none());
    memory.held()
}

#[tokio::test]
async fn what_is_kept_is_bounded_by_its_bytes_however_small_the_frames_are() {
    let (memory, message) = (plenty(), frame(&[7; 10_000]));
    for piece in [1, 100, 5000] {
        let held = held_while_waiting(&message[..5000], piece, &memory);
        assert!((5000..=10_005).contains(&held), "{held} bytes in pieces of {piece}");
        assert_eq!(memory.held(), 0, "who does not wait holds nothing");
    }
    let held = held_while_waiting(&message, 5000, &memory);
    assert_eq!(held, message.len(), "also while only the end is missing");
}

#[tokio::test]
async fn a_message_that_comes_at_once_holds_nothing_and_one_that_does_not_is_bounded() {
    let (none, bytes) = (Memory::new(0), frame(&[7; 100]));
    let mut begun = begun(&NONE, body(&bytes, bytes.len()), &none, || Ok(())).await.unwrap();
    begun.ended().await.unwrap();
    assert_eq!(begun.message().unwrap().len(), 100);
    let small = Memory::new(100);
    let refused = self::begun(&NONE, body(&bytes, 50), &small, || Ok(())).await;
    assert_eq!(refused.err(), Some(Refused::Exceeded(Exceeded::Memory(100))));
    assert_eq!(small.held(), 0);
}

#[tokio::test]
async fn what_goes_on_is_held_until_it_was_taken() {
    let (memory, bytes) = (plenty(), frame(&[7; 3 * PIECE]));
    let mut begun = begun(&NONE, body(&bytes, 100), &memory, || Ok(())).await.unwrap();
    begun.ended().await.unwrap();
    let mut body = begun.into_body();
    let mut found = Vec::new();
    while found.len() < bytes.len() {
        assert_eq!(memory.held(), bytes.len());
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(piece.len() <= PIECE);
        found.extend(piece);
    }
    assert_eq!((memory.held(), found), (0, bytes));
}

#[tokio::test]
async fn of_who_may_not_in_any_case_little_is_kept() {
    let denied = || authorize_inside(&Principal::executable("x"), Action::new("/a.B/C"));
    let denied = || denied().map(drop);
    let (memory, bytes) = (plenty(), frame(b"xy"));
    // However it comes.
    for piece in 1..=bytes.len() {
        assert!(begun(&NONE, body(&bytes, piece), &memory, denied).await.is_ok());
    }
    let refused = Some(Refused::Denied(denied().unwrap_err()));
    let long = frame(&vec![0; MAX_REQUEST_BYTES_OF_DENIED]);
    assert_eq!(begun(&NONE, body(&long, 1024), &memory, denied).await.err(), refused);
    assert_eq!(memory.held(), 0);
    // Of all that one principal begins, together.
    let mut most = Held::of(&memory);
    most.set(MAX_REQUEST_BYTES_OF_DENIED).unwrap();
    assert_eq!(begun(&NONE, dripping(&[b"\0\0"]), &memory, denied).await.err(), refused);
    assert!(begun(&NONE, body(&bytes, bytes.len()), &memory, denied).await.is_ok());
    assert!(begun(&NONE, body(&bytes, 1), &memory, || Ok(())).await.is_ok());
}

#[tokio::test]
async fn a_request_of_one_message_has_to_end_in_time_and_with_it() {
    let ended = async |body: Body| {
        let (memory, limit) = (plenty(), Duration::from_millis(1));
        let mut begun = begun_within(limit, &NONE, body, &memory, || Ok(())).await.unwrap();
        begun.ended().await.map(|()| begun.message().unwrap())
    };
    let one = frame(b"x");
    for piece in 1..=one.len() {
        assert_eq!(ended(body(&one, piece)).await.unwrap(), "x");
    }
    assert_eq!(ended(dripping(&[b"\0\0\0\0\x01x", b""])).await.err(), Some(Refused::Unended));
    for piece in [1, 6, 7] {
        let two = ended(body(b"\0\0\0\0\x01x\0", piece)).await;
        assert_eq!(two.err(), Some(Refused::SecondMessage));
    }
}

#[tokio::test]
async fn a_message_of_a_stream_is_counted_until_it_is_whole() {
    let memory = Memory::new(100);
    let bytes = [frame(b"first"), frame(&[7; 80]), frame(&[7; 90]), frame(&[7; 110])].concat();
    let begun = begun(&NONE, body(&bytes, 10), &memory, || Ok(())).await.unwrap();
    let (mut stream, mut found) = (begun.into_stream(), Vec::new());
    let refused = loop {
        match stream.frame().await.unwrap() {
            Ok(frame) => found.extend(frame.into_data().unwrap()),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    // The second and the third came through, and of the fourth no more than what may be held.
    assert_eq!(found.len(), 10 + 85 + 95 + 100);
    drop(stream);
    assert_eq!(memory.held(), 0);
}

proptest! {
    #[test]
    fn what_is_unfinished_of_a_stream_is_known_however_it_comes(
        lengths in proptest::collection::vec(0_usize..40, 0..6),
        cut in 0_usize..45,
        piece in 1_usize..50,
    ) {
        let messages: Vec<_> = lengths.iter().map(|length| frame(&vec![9; *length])).collect();
        let unfinished = &frame(&[9; 41])[..cut];
        let mut framing = Framing::default();
        [messages.concat().as_slice(), unfinished].concat().chunks(piece).for_each(|piece| framing.push(piece));
        prop_assert_eq!(framing.come, cut);
    }
}

#[tokio::test]
async fn headers_are_counted_while_their_message_is_waited_for() {
    let mut headers = HeaderMap::new();
    headers.insert("aurae-test", "x".repeat(1000).parse().unwrap());
    let (memory, silent) = (plenty(), || dripping(&[]));
    let mut waiting = Box::pin(begun(&headers, silent(), &memory, || Ok(())));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!((1010..2000).contains(&memory.held()), "{}", memory.held());
    drop(waiting);
    let small = Memory::new(1000);
    let refused = begun(&headers, silent(), &small, || Ok(())).await;
    assert_eq!(refused.err(), Some(Refused::Exceeded(Exceeded::Memory(1000))));
    assert_eq!((memory.held(), small.held()), (0, 0));
}
