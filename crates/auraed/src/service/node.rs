//! The machine itself: what it is, what its kernel says, and its power switch.

use std::fmt::Write as _;

use aurae_authz::{Node, Permit};
use aurae_kernel::kernel_log::Record;
use aurae_kernel::probe::Interface;
use aurae_proto::node::node_service_server::{NodeService, NodeServiceServer};
use aurae_proto::node::{
    AuditLog, DegradedPhase, InfoRequest, InfoResponse, KernelLogRequest, KernelLogResponse,
    NetworkInterface, NodeCapabilities, PowerOffRequest, PowerOffResponse, RebootRequest,
    RebootResponse, UpgradeRequest, UpgradeResponse,
};
use futures_util::stream;
use prost_types::Timestamp;
use tonic::{Request, Response, Status, Streaming};

use crate::audit::{Audit, Standing};
use crate::reply::Unsupported;
use crate::runtime::node::Machine;
use crate::runtime::upgrade::Upgrades;
use crate::server::MAX_MESSAGE_BYTES;
use crate::service::{Answers, upgrade};
use crate::shutdown::Intent;
use crate::status::Status as Health;
use crate::{VERSION, admit, reply};

/// A zone keeps the version that it was started with.
const NO_UPGRADES: Unsupported = Unsupported {
    what: "Upgrade in a zone",
    instead: "upgrade the node's daemon, then free the cell and allocate it again",
};

/// The service.
#[derive(Clone, Debug)]
pub struct NodeApi {
    machine: Machine,
    health: Health,
    /// `None` in a zone.
    upgrades: Option<Upgrades>,
    audit: Audit,
}

impl NodeApi {
    /// A service over `machine` that tells of `health` and of `audit`, and replaces the daemon with
    /// `upgrades`.
    #[must_use]
    pub fn service(
        machine: Machine,
        health: Health,
        upgrades: Option<Upgrades>,
        audit: Audit,
    ) -> NodeServiceServer<Self> {
        NodeServiceServer::new(Self { machine, health, upgrades, audit })
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn described(&self, _permit: &Permit<Node>) -> Result<InfoResponse, Status> {
        let facts = self.machine.facts().map_err(|error| reply::status(&error))?;
        Ok(InfoResponse {
            version: VERSION.to_owned(),
            hostname: facts.kernel.hostname,
            kernel_release: facts.kernel.release,
            kernel_version: facts.kernel.version,
            machine: facts.kernel.machine,
            boot_time: Some(Timestamp { seconds: facts.boot_time, nanos: 0 }),
            cpus: facts.cpus,
            memory_total: facts.memory.total,
            memory_available: facts.memory.available,
            cgroup_controllers: facts.controllers.into_iter().collect(),
            init: facts.is_init,
            capabilities: Some(NodeCapabilities {
                kvm: facts.kvm,
                bpf: facts.bpf,
                landlock_abi: facts.landlock_abi,
            }),
            degraded: self.degraded(),
            interfaces: facts.interfaces.into_iter().map(interface).collect(),
            daemon_start_time: Some(facts.started.into()),
            certificate_expiry: self.health.certificate_expiry().map(Timestamp::from),
            last_upgrade: self.upgrades.as_ref().and_then(Upgrades::last).map(upgrade::outcome),
            audit: self.audit.standing().map(audit_log),
        })
    }

    fn degraded(&self) -> Vec<DegradedPhase> {
        let degraded = self.health.degraded().into_iter();
        degraded
            .map(|degraded| DegradedPhase {
                phase: degraded.phase.into_owned(),
                message: degraded.message,
            })
            .collect()
    }

    fn switch(&self, _permit: &Permit<Node>, intent: Intent) -> Result<(), Status> {
        self.machine.switch(intent).map_err(|error| reply::status(&error))
    }
}

#[tonic::async_trait]
impl NodeService for NodeApi {
    type KernelLogStream = Answers<KernelLogResponse>;

    async fn info(
        &self,
        mut request: Request<InfoRequest>,
    ) -> Result<Response<InfoResponse>, Status> {
        let permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        Ok(Response::new(self.described(&permit)?))
    }

    async fn power_off(
        &self,
        mut request: Request<PowerOffRequest>,
    ) -> Result<Response<PowerOffResponse>, Status> {
        let permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        self.switch(&permit, Intent::PowerOff)?;
        Ok(Response::new(PowerOffResponse {}))
    }

    async fn reboot(
        &self,
        mut request: Request<RebootRequest>,
    ) -> Result<Response<RebootResponse>, Status> {
        let permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        self.switch(&permit, Intent::Reboot)?;
        Ok(Response::new(RebootResponse {}))
    }

    async fn kernel_log(
        &self,
        mut request: Request<KernelLogRequest>,
    ) -> Result<Response<Self::KernelLogStream>, Status> {
        admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        let KernelLogRequest { follow, tail } = request.into_inner();
        let reader = self.machine.kernel_log(tail, follow);
        let reader = reader.map_err(|error| reply::status(&error))?;
        // An error is the stream's last item.
        let records = stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(record) => Some((Ok(response(record?)), Some(reader))),
                Err(error) => Some((Err(reply::status(&error)), None)),
            }
        });
        Ok(Response::new(Box::pin(records)))
    }

    type UpgradeStream = Answers<UpgradeResponse>;

    async fn upgrade(
        &self,
        mut request: Request<Streaming<UpgradeRequest>>,
    ) -> Result<Response<Self::UpgradeStream>, Status> {
        admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        let Some(upgrades) = &self.upgrades else {
            return Err(reply::status(&NO_UPGRADES));
        };
        Ok(Response::new(upgrade::upgrade(upgrades, request.into_inner()).await?))
    }
}

fn response(record: Record) -> KernelLogResponse {
    KernelLogResponse {
        sequence: record.sequence,
        unix_nanos: record.unix_nanos,
        severity: record.severity.into(),
        facility: record.facility,
        message: record.message,
    }
}

fn audit_log(standing: Standing) -> AuditLog {
    let file = standing.file.unwrap_or_default();
    AuditLog {
        records: standing.records,
        lost: standing.lost,
        omitted: standing.omitted,
        file: file.to_string_lossy().into_owned(),
        required: standing.required,
        rotated_bytes: standing.rotated,
    }
}

fn interface(interface: Interface) -> NetworkInterface {
    let addresses = interface.addresses.into_iter();
    NetworkInterface {
        name: interface.name,
        hardware_address: hardware_address(&interface.hardware_address),
        running: interface.running,
        addresses: addresses.map(|(address, prefix)| format!("{address}/{prefix}")).collect(),
    }
}

/// `52:54:00:12:34:56`.
fn hardware_address(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let separator = if text.is_empty() { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_is_hexadecimal_with_colons() {
        assert_eq!(hardware_address(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]), "52:54:00:12:34:56");
        assert_eq!(hardware_address(&[]), "");
    }
}
