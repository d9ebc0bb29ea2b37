//! Whether a daemon is there, and which one.

use aurae_authz::{Node, Permit};
use aurae_proto::discovery::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};
use aurae_proto::discovery::{DiscoverRequest, DiscoverResponse};
use tonic::{Request, Response, Status};

use crate::server::MAX_MESSAGE_BYTES;
use crate::status::Status as Health;
use crate::{VERSION, admit, reply};

/// The service.
#[derive(Clone, Debug)]
pub struct Discovery {
    health: Health,
}

impl Discovery {
    /// A service that tells of `health`.
    #[must_use]
    pub fn service(health: Health) -> DiscoveryServiceServer<Self> {
        DiscoveryServiceServer::new(Self { health }).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn discovered(&self, _permit: &Permit<Node>) -> DiscoverResponse {
        DiscoverResponse { healthy: self.health.degraded().is_empty(), version: VERSION.to_owned() }
    }
}

#[tonic::async_trait]
impl DiscoveryService for Discovery {
    async fn discover(
        &self,
        mut request: Request<DiscoverRequest>,
    ) -> Result<Response<DiscoverResponse>, Status> {
        let permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        Ok(Response::new(self.discovered(&permit)))
    }
}
