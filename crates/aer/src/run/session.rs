//! From the cell's start to its end.
//!
//! ```text
//! allocate ─▶ start ─▶ follow ─▶ free
//!               │  ▲     │  ▲
//!               ▼  │     ▼  │          the node's daemon is replaced, or was killed: the cell goes on,
//!               away     away          and so do we where we were
//!                 └───┬────┘
//!                     ▼ after PATIENCE
//!               given up: the cell is left as it is
//! ```

use std::process::ExitCode;
use std::time::Duration;

use aurae_client::resume::LogsPlace;
use aurae_client::{Channel, Client, PATIENCE, Patience, is_interruption};
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::exit_status::Reason;
use aurae_proto::cells::{
    CellServiceFreeRequest, CellServiceInspectRequest, CellServiceStopRequest,
    CellServiceWaitRequest, ExitStatus,
};
use aurae_proto::observe::{GetExecutableLogsRequest, GetExecutableLogsResponse};
use prost::Message;
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

const LOGS: &str = "/aurae.observe.v0.ObserveService/GetExecutableLogs";

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

/// Why a run was not followed to its end.
enum Broken {
    /// The node said so, or we cannot go on.
    Failed(Failure),
    /// The node is away for longer than we wait: the command may still run.
    Away(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the last status of a call means; `what` was being done.
fn broken(status: &Status, what: &str) -> Broken {
    match is_interruption(status) {
        true => Broken::Away(failure(status, what)),
        false => Broken::Failed(failure(status, what)),
    }
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
        let outcome = match outcome {
            Ok(status) => Ok(status),
            Err(Broken::Away(failure)) if interrupt.is_none() => return Err(self.leave(failure)),
            Err(Broken::Failed(failure) | Broken::Away(failure)) => Err(failure),
        };
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

    /// What is said where the command may still run. Nothing is freed: what it does may be worth more
    /// than our seeing it.
    fn leave(&self, failure: Failure) -> Failure {
        let (cell, waited) = (&self.plan.cell, PATIENCE.as_secs());
        failure.hint(format!(
            "the node was away for {waited} s, and the command may still run there: `aer cell wait {cell} {EXECUTABLE}` waits for its end, `aer logs -f {cell} {EXECUTABLE}` shows its output, `aer cell free {cell}` ends it"
        ))
    }

    /// It is not asked for twice: a cell of that name that is there then may be somebody else's.
    async fn allocate(&self) -> Result<(), Failure> {
        let what = format!("failed to allocate cell {}", self.plan.cell);
        let (path, request) = (&self.plan.allocate_path, self.plan.allocate.clone());
        let answer = self.client.unary(path, request, MetadataMap::new(), None).await;
        answer.map(|_| ()).map_err(|status| {
            let hint = "`aer cell list` shows whether the cell was made";
            let failure = failure(&status, &what);
            if is_interruption(&status) { failure.hint(hint) } else { failure }
        })
    }

    /// Starts the command, once: if the answer was lost, the node is asked whether it was started.
    async fn start(&self) -> Result<(), Broken> {
        let what = format!("failed to start the command in cell {}", self.plan.cell);
        let mut patience = Patience::default();
        loop {
            let (path, request) = (&self.plan.start_path, self.plan.start.clone());
            let answer = self.client.unary(path, request, MetadataMap::new(), None).await;
            let Err(status) = answer else { return Ok(()) };
            patience.wait(status).await.map_err(|status| not_started(&status, &what))?;
            if self.is_started(&mut patience).await.map_err(|status| broken(&status, &what))? {
                return Ok(());
            }
        }
    }

    /// Whether the command was started, and may have ended since.
    async fn is_started(&self, patience: &mut Patience) -> Result<bool, Status> {
        loop {
            let request = CellServiceInspectRequest { cell_name: Some(self.plan.cell.clone()) };
            match self.cells.clone().inspect(request).await {
                Ok(answer) => {
                    let known = answer.into_inner().executables;
                    return Ok(known.iter().any(|executable| executable.name == EXECUTABLE));
                }
                Err(status) => patience.wait(self.client.explain(status)).await?,
            }
        }
    }

    async fn start_and_follow(
        &self,
        interrupts: &mut Interrupts,
        interrupt: &mut Option<Interrupt>,
    ) -> Result<ExitStatus, Broken> {
        self.start().await?;
        let ended = self.follow_until_end();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                result = &mut ended => return result,
                signal = interrupts.next() => match interrupt {
                    Some(interrupt) => {
                        interrupt.at_once = true;
                        return Err(Failure::silent(FAILED).into());
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
        let (client, mut cells) = (self.client.clone(), self.cells.clone());
        let request = CellServiceStopRequest {
            cell_name: Some(self.plan.cell.clone()),
            executable_name: EXECUTABLE.to_owned(),
            grace_period: None,
        };
        tokio::spawn(async move {
            let mut patience = Patience::default();
            while let Err(status) = cells.stop(request.clone()).await {
                if patience.wait(client.explain(status)).await.is_err() {
                    break;
                }
            }
        });
    }

    /// Shows what the command writes, and answers how it ended once all of it was shown.
    async fn follow_until_end(&self) -> Result<ExitStatus, Broken> {
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

    async fn show_output(&self) -> Result<(), Broken> {
        let what = "failed to follow the command's output";
        let request = GetExecutableLogsRequest {
            cell_name: Some(self.plan.cell.clone()),
            executable_name: EXECUTABLE.to_owned(),
            follow: true,
            ..GetExecutableLogsRequest::default()
        };
        let mut stream = self.client.resuming(LOGS, LogsPlace::new(request), None);
        let mut lines = Lines::default();
        while let Some(message) = stream.message().await.map_err(|status| broken(&status, what))? {
            let logs = GetExecutableLogsResponse::decode(message).map_err(|error| {
                let text = format!("{what}: the node's answer cannot be decoded: {error}");
                Failure::new(text).exiting(FAILED)
            })?;
            output::write(lines.log_chunks(&logs)).await.map_err(Failure::from)?;
        }
        Ok(())
    }

    async fn wait(&self) -> Result<ExitStatus, Broken> {
        let what = "failed to wait for the command's end";
        let request = CellServiceWaitRequest {
            cell_name: Some(self.plan.cell.clone()),
            executable_name: EXECUTABLE.to_owned(),
        };
        let mut patience = Patience::default();
        let answer = loop {
            match self.cells.clone().wait(request.clone()).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) => {
                    let again = patience.wait(self.client.explain(status)).await;
                    again.map_err(|status| broken(&status, what))?;
                }
            }
        };
        let status = answer.executable.and_then(|executable| executable.exit_status);
        status.ok_or_else(|| {
            let text = format!("{what}: the node does not say how it ended");
            Failure::new(text).exiting(FAILED).into()
        })
    }

    async fn free(&self, interrupts: &mut Interrupts, at_once: bool) -> Result<(), Failure> {
        if !at_once {
            tokio::select! {
                result = self.free_patiently() => return result,
                _ = interrupts.next() => {}
            }
        }
        self.free_within(Some(Duration::ZERO)).await.map_err(|status| self.not_freed(&status))
    }

    async fn free_patiently(&self) -> Result<(), Failure> {
        let mut patience = Patience::default();
        while let Err(status) = self.free_within(None).await {
            patience.wait(status).await.map_err(|status| self.not_freed(&status))?;
        }
        Ok(())
    }

    async fn free_within(&self, grace_period: Option<Duration>) -> Result<(), Status> {
        let request = CellServiceFreeRequest {
            cell_name: self.plan.cell.clone(),
            grace_period: grace_period.and_then(|period| period.try_into().ok()),
        };
        match self.cells.clone().free(request).await {
            Ok(_) => Ok(()),
            // Somebody else freed it.
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(self.client.explain(status)),
        }
    }

    fn not_freed(&self, status: &Status) -> Failure {
        let what = format!("failed to free cell {}", self.plan.cell);
        failure(status, &what).hint(format!("`aer cell free {}` frees it", self.plan.cell))
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

fn not_started(status: &Status, what: &str) -> Broken {
    match (broken(status, what), status.code()) {
        (Broken::Failed(failure), Code::NotFound) => {
            failure.without_hint().exiting(NOT_FOUND).into()
        }
        (Broken::Failed(failure), Code::PermissionDenied) => {
            failure.without_hint().exiting(NOT_EXECUTABLE).into()
        }
        (broken, _) => broken,
    }
}

fn failure(status: &Status, what: &str) -> Failure {
    Failure::from_status(status).during(what).exiting(FAILED)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(FAILED))
}
