//! One short function an RPC, and the table of the services that a daemon has.
//!
//! **Invariant**: [`Api::call`] takes a permit, so nothing here can be reached without one.

pub mod audit;
pub mod auth;
pub mod cells;
pub mod discovery;
pub mod health;
pub mod node;
pub mod observe;
pub mod reflection;
pub mod upgrade;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use aurae_authz::Permit;
use futures_util::stream::Stream;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::reply;

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

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
    pub fn with<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.named(S::NAME, service)
    }

    /// The same services and one more, by its full name.
    #[must_use]
    pub fn named<S>(mut self, name: &'static str, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Arc::make_mut(&mut self.services).insert(name, BoxCloneSyncService::new(service));
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
    use std::fs::File;

    use aurae_authz::{Action, Principal, authorize_inside};
    use aurae_kernel::cgroup::Cgroup;
    use aurae_proto::cells::cell_service_server::CellServiceServer;
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::audit::Audit;
    use crate::runtime::cells::{Cells, CellsSettings, Nesting, Traits};
    use crate::runtime::confine::DeviceKeeper;
    use crate::runtime::executables::Executables;
    use crate::runtime::logs::LogRing;
    use crate::runtime::node::{Machine, Role};
    use crate::runtime::output::Workloads;
    use crate::runtime::reaper::Reaper;
    use crate::shutdown::Shutdown;
    use crate::status::Status as Health;

    /// Every service of the contract, over a daemon that runs nothing.
    fn api() -> Api {
        let directory = File::open("/").unwrap().into();
        let cgroup = Arc::new(Cgroup::from_directory(directory, "of-a-test".into()));
        let executables = Executables::new(
            Arc::clone(&cgroup),
            Reaper::default(),
            4096,
            None,
            DeviceKeeper::Zone,
        );
        let settings = CellsSettings {
            cgroup: Arc::clone(&cgroup),
            image: File::open("/").unwrap().into(),
            log_capacity: 4096,
            path: None,
            parent: None,
            changes: executables.changes().clone(),
            nesting: Nesting::All,
        };
        let own_cells = Cells::new(settings, Reaper::default());
        let own = cells::OwnZone { name: String::new(), cgroup, traits: Traits::default() };
        let machine = Machine::new(Role::Beside, [].into(), Shutdown::default());
        Api::default()
            .with(discovery::Discovery::service(Health::default()))
            .with(auth::Auth::service())
            .with(auth::Auth::policy_service(auth::TrustDomains::default()))
            .with(CellServiceServer::new(cells::CellApi::new(own, Some(executables), own_cells)))
            .with(node::NodeApi::service(machine, Health::default(), None, Audit::none()))
            .with(audit::AuditApi::service(Audit::in_memory()))
            .with(observe::Observe::service(LogRing::new(0), Workloads::none()))
    }

    /// The path of every method of the contract.
    fn paths() -> Vec<String> {
        let set = prost_types::FileDescriptorSet::decode(aurae_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut paths = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let (service, method) = (service.name(), method.name());
                    paths.push(format!("/{}.{service}/{method}", file.package()));
                }
            }
        }
        paths
    }

    /// A request with an empty message.
    fn request(path: &str) -> Request<Body> {
        let frame = http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]));
        Request::post(path)
            .header("content-type", "application/grpc")
            .body(Body::new(frame))
            .unwrap()
    }

    fn status(response: &Response<Body>) -> Option<Status> {
        Status::from_header_map(response.headers())
    }

    #[tokio::test]
    async fn no_method_of_the_contract_is_reached_without_a_permit() {
        let api = api();
        let paths = paths();
        assert!(paths.len() >= 16, "the contract has shrunk: {paths:?}");
        for path in paths {
            let served = api.services.get(service_name(&path));
            let mut served = served.unwrap_or_else(|| panic!("{path} is not served")).clone();
            let response = served.call(request(&path)).await.unwrap();
            let status = status(&response).unwrap_or_else(|| panic!("{path} answered"));
            assert_eq!(status.code(), Code::Internal, "{path}: {status}");
            assert!(status.message().contains("carries no permit"), "{path}: {status}");
        }
    }

    #[tokio::test]
    async fn every_method_of_the_contract_is_reached_with_a_permit() {
        let api = api();
        for path in paths() {
            let permit = authorize_inside(&Principal::parent(), Action::new(&path)).unwrap();
            let response = api.call(permit, request(&path)).await;
            if let Some(status) = status(&response) {
                assert!(!status.message().contains("permit"), "{path}: {status}");
                assert!(!status.message().is_empty(), "{path}: {status:?}");
            }
        }
    }

    #[test]
    fn the_service_is_the_first_part_of_the_path() {
        assert_eq!(service_name("/aurae.cells.v0.CellService/Start"), "aurae.cells.v0.CellService");
        assert_eq!(service_name("/x"), "x");
        assert_eq!(service_name(""), "");
    }
}
