//! gRPC health checking (`grpc.health.v1`): every service of the daemon by its full name, and `""`.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use super::Api;
use crate::server::MAX_MESSAGE_BYTES;

/// Says how the services do.
#[derive(Clone, Debug, Default)]
pub struct Reporter {
    reporter: HealthReporter,
}

impl Reporter {
    /// The service that tells what is reported here.
    #[must_use]
    pub fn service(&self) -> HealthServer<impl Health> {
        let service = HealthService::from_health_reporter(self.reporter.clone());
        HealthServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Says that every service of `api` serves.
    pub async fn serving(&self, api: &Api) {
        self.report(api, ServingStatus::Serving).await;
    }

    /// Says that the daemon stops. Watchers are told.
    pub async fn stopping(&self, api: &Api) {
        self.report(api, ServingStatus::NotServing).await;
    }

    async fn report(&self, api: &Api, status: ServingStatus) {
        for name in api.names().chain([""]) {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
