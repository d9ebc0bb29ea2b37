//! Calls for a zone below the node.

use aurae_model::ZonePath;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport;
use tonic::{Request, Status};

/// A channel whose calls say which zone they are for.
pub type Channel = InterceptedService<transport::Channel, Zone>;

/// Puts [`ZonePath::METADATA`] on every call. Without a path, calls stay as they are.
#[derive(Debug, Clone, Default)]
pub struct Zone(Option<MetadataValue<Ascii>>);

impl Zone {
    pub(crate) fn new(path: &ZonePath) -> Self {
        // A path is letters, digits, `-` and `/`: it is always a value.
        Self(path.to_string().parse().ok())
    }
}

impl Interceptor for Zone {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(path) = &self.0 {
            request.metadata_mut().insert(ZonePath::METADATA, path.clone());
        }
        Ok(request)
    }
}
