//! The server's bounds. Each is far above what a well-behaved client needs, and keeps the memory and
//! the time that a misbehaving one can take.

use std::time::Duration;

/// Connections at once, over all listeners. Beyond, new ones wait in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 1024;
/// TLS handshakes at once: they are where a stranger costs most.
pub const MAX_HANDSHAKES: usize = 128;
/// How long a TLS handshake may take; on a slow link it needs two round trips.
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
/// The bytes of a request message: the default of gRPC implementations, and far above any request.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The bytes of a request's headers.
pub const MAX_HEADER_BYTES: u32 = 16 << 10;
/// How long a connection may be silent before the peer is asked whether it is still there.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the peer has to say that it is.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after a failed `accept`: descriptors may have run out, and trying at once would spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long open requests may go on once the daemon has stopped everything else.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// What one stream may have waiting for a client that does not read, beside the message at hand.
pub const MAX_SEND_BYTES: usize = 64 << 10;
