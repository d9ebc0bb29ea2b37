//! gRPC reflection (v1, and v1alpha for older clients): the API describes itself, comments included.
//!
//! It is prepared when somebody asks for it: to read all descriptors, with their comments, would be a third of
//! what a daemon does until it listens.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic_reflection::server::{Builder, Error};
use tower::Service;

use super::{Api, Served};
use crate::reply;
use crate::server::MAX_MESSAGE_BYTES;

const V1: &str = "grpc.reflection.v1.ServerReflection";
const V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// The descriptors of the daemon cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("failed to prepare reflection; this is a bug of the build")]
pub struct ReflectionError(#[from] Error);

/// The same services and reflection about them, itself included.
#[must_use]
pub fn with_reflection(api: Api) -> Api {
    let (v1, v1alpha) = (v1(&api), v1alpha(&api));
    api.named(V1, v1).named(V1ALPHA, v1alpha)
}

fn v1(api: &Api) -> Reflection {
    Reflection::about(api, |builder| {
        Ok(Served::new(builder.build_v1()?.max_decoding_message_size(MAX_MESSAGE_BYTES)))
    })
}

fn v1alpha(api: &Api) -> Reflection {
    Reflection::about(api, |builder| {
        Ok(Served::new(builder.build_v1alpha()?.max_decoding_message_size(MAX_MESSAGE_BYTES)))
    })
}

/// One version of the service. Clones share what is prepared.
#[derive(Clone, Debug)]
struct Reflection {
    /// Only what this daemon has: a zone's has less than a node's.
    names: Arc<[&'static str]>,
    prepare: fn(Builder<'static>) -> Result<Served, Error>,
    prepared: Arc<OnceLock<Result<Served, ReflectionError>>>,
}

impl Reflection {
    fn about(api: &Api, prepare: fn(Builder<'static>) -> Result<Served, Error>) -> Self {
        let names = api.names().chain([V1, V1ALPHA]).collect();
        Self { names, prepare, prepared: Arc::default() }
    }

    fn served(&self) -> &Result<Served, ReflectionError> {
        self.prepared.get_or_init(|| {
            let builder = Builder::configure()
                .register_encoded_file_descriptor_set(aurae_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(
                    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
                )
                .include_reflection_service(false);
            let names = self.names.iter().copied();
            let builder = names.fold(builder, |builder, name| builder.with_service_name(name));
            Ok((self.prepare)(builder)?)
        })
    }
}

impl Service<Request<Body>> for Reflection {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As the generated services, which are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.served() {
            Ok(served) => served.clone().call(request),
            Err(error) => Box::pin(ready(Ok(reply::status(error).into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_can_be_prepared_and_are_only_when_they_are_asked() {
        let api = Api::default();
        for reflection in [v1(&api), v1alpha(&api)] {
            assert!(reflection.prepared.get().is_none());
            assert!(reflection.served().is_ok());
        }
    }
}
