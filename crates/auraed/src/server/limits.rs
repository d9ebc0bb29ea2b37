//! The server's bounds. Each is far above what a well-behaved client needs, and keeps the memory and
//! the time that a misbehaving one can take.

use std::time::Duration;

/// Connections at once, over all listeners. Beyond, new ones wait in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 4096;
/// Connections at once of one principal: it cannot take all of them. One more is ended after its
/// handshake.
pub const MAX_CONNECTIONS_PER_PRINCIPAL: usize = 2560;
/// Requests at once of one principal, over all its connections: each takes some kilobytes. One more is
/// refused with RESOURCE_EXHAUSTED.
pub const MAX_CALLS_PER_PRINCIPAL: usize = 8192;
/// Requests a second of one principal, unless told otherwise: twice what one client can make the daemon
/// do. One more is refused with RESOURCE_EXHAUSTED, and told when to ask again.
pub const REQUESTS_PER_SECOND: u32 = 200_000;
/// TLS handshakes at once: each holds some kilobytes of a stranger. Beyond, new connections wait in the
/// kernel's backlog.
pub const MAX_HANDSHAKES: usize = 512;
/// TLS handshakes at once of one address: a host cannot take all of them. One more is closed at once.
pub const MAX_HANDSHAKES_PER_SOURCE: usize = 128;
/// How long a TLS handshake and HTTP/2's first bytes may take; on a slow link they need two round trips.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests at once on one connection. Each `Wait` and each followed log holds one.
pub const MAX_STREAMS: u32 = 256;
/// Requests at once to one zone, by all clients of its parent together. Those that wait for something
/// may take all of them but [`RESERVED_STREAMS`].
pub const MAX_ZONE_STREAMS: u32 = 1024;
/// Of a zone's streams so many are left for calls that do not wait.
pub const RESERVED_STREAMS: u32 = 64;
/// How much of one stream may be on its way between a daemon and a zone ahead of its reader. A slow
/// reader holds up this much, and its own stream only.
pub const STREAM_WINDOW: u32 = 64 << 10;
/// All that HTTP/2 allows: each stream is bounded by its own window.
pub const CONNECTION_WINDOW: u32 = i32::MAX.unsigned_abs();
/// What a client may send on one stream before it is read.
pub const CLIENT_STREAM_WINDOW: u32 = 256 << 10;
/// What a client may send on all streams of a connection before it is read: the most that is on its way on a
/// long line. It does not bound memory: what is read makes room for more, and a message is read before it is
/// whole. [`MAX_REQUEST_BYTES_PER_PRINCIPAL`] bounds that.
pub const CLIENT_CONNECTION_WINDOW: u32 = 512 << 10;
/// The bytes of a request message: the default of gRPC implementations, and far above any request.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// What the requests of one principal may hold that were read in part: messages that are not whole yet, and those
/// that nobody has used. Eight of the longest at once, with the five bytes before each; a request that came in one
/// piece holds nothing. One more is refused with RESOURCE_EXHAUSTED.
pub const MAX_REQUEST_BYTES_PER_PRINCIPAL: usize = 8 * (MAX_MESSAGE_BYTES + 5);
/// The same of all principals together: what four may hold, and what a node of 1 GiB can spare.
pub const MAX_REQUEST_BYTES: usize = 4 * MAX_REQUEST_BYTES_PER_PRINCIPAL;
/// What a principal may hold before a call that no rule could allow it is refused unread, with PERMISSION_DENIED: dozens
/// of short requests whose messages come after their headers. What its other calls hold counts, too.
pub const MAX_REQUEST_BYTES_OF_DENIED: usize = 64 << 10;
/// What the requests on one connection of an executable to the daemon of its own zone may hold. There are 64 of
/// them: it may ask for names only, and the daemon of a zone is meant to have a few hundred kilobytes.
pub const MAX_REQUEST_BYTES_INSIDE: usize = 64 << 10;
/// Requests at once on such a connection: of all of them together a thousand, each of some kilobytes.
pub const MAX_STREAMS_INSIDE: u32 = 16;
/// The bytes of a request's headers, and so (with the size of a frame) how many CONTINUATION frames there
/// may be. Larger ones are refused with 431; many more end the connection.
pub const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Streams that a client resets before their requests were looked at: one more ends the connection (rapid
/// reset, CVE-2023-44487).
pub const MAX_PENDING_RESETS: usize = 20;
/// Streams that the daemon resets because of what the client sent: one more ends the connection.
pub const MAX_ERROR_RESETS: usize = 256;
/// How long a connection may be silent, or in the middle of its headers, before the peer is asked whether it is still there.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the peer has to say that it is.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after a failed `accept`: descriptors may have run out, and trying at once would spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long open requests may go on once the daemon has stopped everything else.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// What one stream may have waiting for a client that does not read, beside the message at hand.
pub const MAX_SEND_BYTES: usize = 64 << 10;
