//! gRPC reflection (v1, and v1alpha for older clients): the API describes itself, comments included.

use tonic_reflection::server::{Builder, Error};

use super::Api;
use crate::server::MAX_MESSAGE_BYTES;

/// The descriptors of the daemon cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("failed to prepare reflection; this is a bug of the build")]
pub struct ReflectionError(#[from] Error);

/// The same services and reflection about them, itself included.
///
/// # Errors
/// The descriptor set of this build is broken.
pub fn with_reflection(api: Api) -> Result<Api, ReflectionError> {
    let v1 = builder(&api).build_v1()?.max_decoding_message_size(MAX_MESSAGE_BYTES);
    let v1alpha = builder(&api).build_v1alpha()?.max_decoding_message_size(MAX_MESSAGE_BYTES);
    Ok(api.with(v1).with(v1alpha))
}

fn builder(api: &Api) -> Builder<'static> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(aurae_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        .include_reflection_service(false);
    // Only what this daemon has: a zone's has less than a node's.
    let names = [V1, V1ALPHA].into_iter().chain(api.names());
    names.fold(builder, |builder, name| builder.with_service_name(name))
}

const V1: &str = "grpc.reflection.v1.ServerReflection";
const V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";
