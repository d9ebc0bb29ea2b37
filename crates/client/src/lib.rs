//! The Rust SDK: how a program finds its nodes, connects to them and calls them.
//!
//! - [`Config`] reads the client configuration and names the nodes in it.
//! - [`Client::connect`] opens a connection to a [`Node`]: HTTP/2 over mutual TLS 1.3, on TCP or on
//!   a unix socket.
//! - [`Client::channel`] is for typed calls with the clients that `aurae-proto` generates;
//!   [`Client::unary`] and its siblings move messages that are encoded already.
//! - [`Client::in_zone`] addresses calls to a zone below the node.
//! - [`Client::resuming`] reads a stream that goes on when the node's daemon is replaced or comes back;
//!   [`Patience`] is for calls that are made again then.
//! - [`fan_out`] asks many nodes at once.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use aurae_client::{Client, Config};
//! use aurae_proto::discovery::{DiscoverRequest, discovery_service_client::DiscoveryServiceClient};
//!
//! let client = Client::connect(&Config::find(None)?.default_node()?).await?;
//! let mut discovery = DiscoveryServiceClient::new(client.channel());
//! println!("{}", discovery.discover(DiscoverRequest {}).await?.into_inner().version);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod address;
mod certificate;
mod client;
mod codec;
mod config;
mod connect;
mod error;
mod fan_out;
mod patience;
pub mod resume;
mod stream;
mod tls;
mod zone;

pub use address::{Address, AddressError};
pub use aurae_model::ZonePath;
pub use certificate::Certificate;
pub use client::{Client, MAX_MESSAGE_BYTES};
pub use codec::RawCodec;
pub use config::{CONFIG_VARIABLE, Config, ConfigError, DEFAULT_SOCKET, Identity, Node, NodeName};
pub use connect::CONNECT_TIMEOUT;
pub use error::{ConnectError, report};
pub use fan_out::{FAN_OUT, fan_out};
pub use patience::{PATIENCE, Patience, is_interruption, retry_after};
pub use tls::SERVER_NAME;
pub use zone::{Channel, Zone};
