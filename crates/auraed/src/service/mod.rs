//! One short function an RPC, and the table of the services that a daemon has.
//!
//! **Invariant**: [`Api::call`] takes a permit, so nothing here can be reached without one.

pub mod cells;
pub mod discovery;
pub mod health;
pub mod node;
pub mod observe;
pub mod reflection;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use aurae_authz::Permit;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::reply;

type Served = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of a daemon, by their names. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Api {
    services: Arc<BTreeMap<&'static str, Served>>,
}

/// A daemon that does not have a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this daemon has no service {service:?}; gRPC reflection lists those it has")]
pub struct NoSuchService {
    service: String,
}

impl Api {
    /// The same services and one more.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Arc::make_mut(&mut self.services).insert(S::NAME, BoxCloneSyncService::new(service));
        self
    }

    /// The services' full names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.services.keys().copied()
    }

    /// Hands a request to its service, and the permit with it.
    pub async fn call(&self, permit: Permit, mut request: Request<Body>) -> Response<Body> {
        let service = service_name(request.uri().path());
        let Some(served) = self.services.get(service) else {
            let error = NoSuchService { service: service.to_owned() };
            return reply::status(&error).into_http();
        };
        let mut served = served.clone();
        request.extensions_mut().insert(permit);
        // The generated services are always ready: tonic's `poll_ready` says so.
        match served.call(request).await {
            Ok(response) => response,
            Err(infallible) => match infallible {},
        }
    }
}

/// The `package.Service` of `/package.Service/Method`.
fn service_name(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').map_or(path, |(service, _)| service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_the_first_part_of_the_path() {
        assert_eq!(service_name("/aurae.cells.v0.CellService/Start"), "aurae.cells.v0.CellService");
        assert_eq!(service_name("/x"), "x");
        assert_eq!(service_name(""), "");
    }
}
