//! From the cell's start to its end.

use std::process::ExitCode;
use std::time::Duration;

use aurae_client::{Channel, Client};
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::exit_status::Reason;
use aurae_proto::cells::{
    CellServiceFreeRequest, CellServiceStopRequest, CellServiceWaitRequest, ExitStatus,
};
use aurae_proto::observe::GetExecutableLogsRequest;
use aurae_proto::observe::observe_service_client::ObserveServiceClient;
use bytes::Bytes;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::plan::{EXECUTABLE, Plan};
use super::{FAILED, NOT_EXECUTABLE, NOT_FOUND, TIMED_OUT};
use crate::failure::Failure;
use crate::interrupts::{Interrupts, SIGNAL_EXIT_BASE, reached};
use crate::output;
use crate::render::lines::Lines;
use crate::units;

/// How long the rest of the output may take once the command has ended: it is in the node's memory
/// already.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A run in progress.
pub(super) struct Session {
    client: Client,
    cells: CellServiceClient<Channel>,
    plan: Plan,
    /// When the command is stopped if it has not ended.
    deadline: Option<Instant>,
}

/// How a run was told to end.
struct Interrupt {
    exit: ExitCode,
    /// Told twice.
    at_once: bool,
}

impl Session {
    /// `timeout` bounds the run of the command.
    pub(super) fn new(client: Client, plan: Plan, timeout: Option<Duration>) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { cells: CellServiceClient::new(client.channel()), client, plan, deadline }
    }

    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let mut interrupts = Interrupts::new().map_err(|failure| failure.exiting(FAILED))?;
        self.allocate().await?;
        let mut interrupt = None;
        let outcome = self.start_and_follow(&mut interrupts, &mut interrupt).await;
        let at_once = interrupt.as_ref().is_some_and(|interrupt| interrupt.at_once);
        let freed = self.free(&mut interrupts, at_once).await;
        if let Some(Interrupt { exit, .. }) = interrupt {
            freed?;
            return Ok(exit);
        }
        match (outcome, freed) {
            (Ok(status), freed) => {
                freed?;
                Ok(self.say_how_it_ended(&status))
            }
            (Err(failure), Ok(())) => Err(failure),
            (Err(failure), Err(not_freed)) => {
                output::complain(&not_freed.text());
                Err(failure)
            }
        }
    }

    async fn allocate(&self) -> Result<(), Failure> {
        let what = format!("failed to allocate cell {}", self.plan.cell);
        self.call(&self.plan.allocate_path, self.plan.allocate.clone(), &what).await
    }

    async fn call(&self, path: &str, request: Bytes, what: &str) -> Result<(), Failure> {
        let answer = self.client.unary(path, request, MetadataMap::new(), None).await;
        answer.map(|_| ()).map_err(|status| failure(&status, what))
    }

    async fn start_and_follow(
        &self,
        interrupts: &mut Interrupts,
        interrupt: &mut Option<Interrupt>,
    ) -> Result<ExitStatus, Failure> {
        let what = format!("failed to start the command in cell {}", self.plan.cell);
        self.call(&self.plan.start_path, self.plan.start.clone(), &what).await.map_err(
            |failure| match failure.status {
                Some(Code::NotFound) => failure.without_hint().exiting(NOT_FOUND),
                Some(Code::PermissionDenied) => failure.without_hint().exiting(NOT_EXECUTABLE),
                _ => failure,
            },
        )?;
        let ended = self.follow_until_end();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                result = &mut ended => return result,
                signal = interrupts.next() => match interrupt {
                    Some(interrupt) => {
                        interrupt.at_once = true;
                        return Err(Failure::silent(FAILED));
                    }
                    None => {
                        let exit = exit_code(SIGNAL_EXIT_BASE.saturating_add(signal));
                        *interrupt = Some(Interrupt { exit, at_once: false });
                        self.stop_in_background();
                    }
                },
                () = reached(self.deadline), if interrupt.is_none() => {
                    output::complain("note: the time for the command is over\n");
                    *interrupt = Some(Interrupt { exit: TIMED_OUT.into(), at_once: false });
                    self.stop_in_background();
                }
            }
        }
    }

    /// Stops the command while its last words are still followed. If that fails, freeing will tell.
    fn stop_in_background(&self) {
        let mut cells = self.cells.clone();
        let request = CellServiceStopRequest {
            cell_name: Some(self.plan.cell.clone()),
            executable_name: EXECUTABLE.to_owned(),
            grace_period: None,
        };
        tokio::spawn(async move { cells.stop(request).await });
    }

    /// Shows what the command writes, and answers how it ended once all of it was shown.
    async fn follow_until_end(&self) -> Result<ExitStatus, Failure> {
        let shown = self.show_output();
        tokio::pin!(shown);
        let wait = self.wait();
        tokio::pin!(wait);
        tokio::select! {
            status = &mut wait => {
                let status = status?;
                match tokio::time::timeout(DRAIN_TIMEOUT, shown).await {
                    Ok(result) => result?,
                    Err(_) => output::complain("note: the end of the command's output is missing: the node did not send it\n"),
                }
                Ok(status)
            }
            result = &mut shown => {
                result?;
                wait.await
            }
        }
    }

    async fn show_output(&self) -> Result<(), Failure> {
        let what = "failed to follow the command's output";
        let request = GetExecutableLogsRequest {
            cell_name: Some(self.plan.cell.clone()),
            executable_name: EXECUTABLE.to_owned(),
            follow: true,
            ..GetExecutableLogsRequest::default()
        };
        let explained = |status| failure(&self.client.explain(status), what);
        let mut observe = ObserveServiceClient::new(self.client.channel());
        let answer = observe.get_executable_logs(request).await;
        let mut stream = answer.map_err(explained)?.into_inner();
        let mut lines = Lines::default();
        while let Some(logs) = stream.message().await.map_err(explained)? {
            output::write(lines.log_chunks(&logs)).await?;
        }
        Ok(())
    }

    async fn wait(&self) -> Result<ExitStatus, Failure> {
        let what = "failed to wait for the command's end";
        let request = CellServiceWaitRequest {
            cell_name: Some(self.plan.cell.clone()),
            executable_name: EXECUTABLE.to_owned(),
        };
        let answer = self.cells.clone().wait(request).await;
        let answer = answer.map_err(|status| failure(&self.client.explain(status), what))?;
        let executable = answer.into_inner().executable;
        executable.and_then(|executable| executable.exit_status).ok_or_else(|| {
            Failure::new(format!("{what}: the node does not say how it ended")).exiting(FAILED)
        })
    }

    async fn free(&self, interrupts: &mut Interrupts, at_once: bool) -> Result<(), Failure> {
        if at_once {
            return self.free_within(Some(Duration::ZERO)).await;
        }
        tokio::select! {
            result = self.free_within(None) => result,
            _ = interrupts.next() => self.free_within(Some(Duration::ZERO)).await,
        }
    }

    async fn free_within(&self, grace_period: Option<Duration>) -> Result<(), Failure> {
        let request = CellServiceFreeRequest {
            cell_name: self.plan.cell.clone(),
            grace_period: grace_period.and_then(|period| period.try_into().ok()),
        };
        match self.cells.clone().free(request).await {
            Ok(_) => Ok(()),
            // Somebody else freed it.
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => {
                let what = format!("failed to free cell {}", self.plan.cell);
                let hint = format!("`aer cell free {}` frees it", self.plan.cell);
                Err(failure(&self.client.explain(status), &what).hint(hint))
            }
        }
    }

    fn say_how_it_ended(&self, status: &ExitStatus) -> ExitCode {
        if status.oom_killed {
            output::complain(
                "note: the OOM killer ended a process of the command: the memory limit was reached\n",
            );
        }
        match status.reason {
            Some(Reason::Code(code)) => exit_code(code),
            Some(Reason::Signal(signal)) => {
                let name = units::format_signal(i64::from(signal));
                output::complain(&format!("note: the command was ended by {name}\n"));
                exit_code(SIGNAL_EXIT_BASE.saturating_add(signal))
            }
            None => ExitCode::from(FAILED),
        }
    }
}

fn failure(status: &Status, what: &str) -> Failure {
    Failure::from_status(status).during(what).exiting(FAILED)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(FAILED))
}
