//! `Exec` and `Attach`: what the caller says is handed to a process by a task of its own, so that a
//! process that does not read, and a caller that does not, only keep themselves waiting.

use std::future::Future;
use std::pin::Pin;

use aurae_proto::cells as wire;
use aurae_proto::cells::cell_service_attach_response::Message as FromExecutable;
use aurae_proto::cells::cell_service_exec_response::Message as FromCommand;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming};

use super::CellApi;
use super::messages::exit_status;
use super::place::{Place, client};
use crate::admit::{self, Admission, session::Conversation};
use crate::reply;
use crate::route;
use crate::runtime::blocking;
use crate::runtime::cells::{Room, Zone};
use crate::runtime::commands::{Output, Running};
use crate::runtime::executables::{NoSuchExecutable, Shown};
use crate::runtime::logs::Channel;
use crate::runtime::stdio::{Controls, Input};
use crate::service::Answers;
use crate::service::observe::forward;

/// The daemon stops watching what it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon ended before the end of what it ran could be told")]
pub struct Unwatched;

/// Runs a command for as long as the answers are taken.
pub(super) async fn exec(
    api: &CellApi,
    mut request: Request<Streaming<wire::CellServiceExecRequest>>,
) -> Result<Response<Answers<wire::CellServiceExecResponse>>, Status> {
    let Some(executables) = &api.executables else { return exec_in_node_zone(api, request).await };
    let permit = admit::permit(&mut request).map_err(|error| reply::status(&error))?;
    let mut messages = request.into_inner();
    let first = messages.message().await?;
    let (_permit, command) =
        admit::session::exec(permit, first).map_err(|error| reply::status(&error))?;
    let Running { pid, controls, outputs } =
        blocking(|| executables.commands().run(&command)).map_err(|error| reply::status(&error))?;

    let mut conversation = Conversation::with(&controls);
    let admit = move |message| conversation.to_command(message);
    // The end of what the caller says is the end of the command's input.
    let told = tell(messages, admit, controls, Some(Input::End));
    let started = FromCommand::Started(wire::ExecStarted { pid });
    let outputs = stream::unfold(outputs, |mut outputs| async move {
        Some((from_command(outputs.recv().await?), outputs))
    });
    let answers = stream::once(async { started }).chain(outputs);
    let is_last = |message: &FromCommand| matches!(message, FromCommand::ExitStatus(_));
    let answers = until_end(answers, told, is_last);
    Ok(Response::new(Box::pin(answers.map(|message| {
        message.map(|message| wire::CellServiceExecResponse { message: Some(message) })
    }))))
}

/// A node's own commands run where its executables do.
async fn exec_in_node_zone(
    api: &CellApi,
    mut request: Request<Streaming<wire::CellServiceExecRequest>>,
) -> Result<Response<Answers<wire::CellServiceExecResponse>>, Status> {
    let permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
    let zone = api.cells.make_node_zone().await.map_err(|error| reply::status(&error))?;
    let room = zone.room().map_err(|error| reply::status(&error))?;
    let (said, failure) = said(request.into_inner());
    let request = route::request(permit.principal(), &zone, said);
    passed_on(client(&zone).exec(request), failure, zone.clone(), room).await
}

fn from_command(output: Output) -> FromCommand {
    match output {
        Output::Stdout(bytes) => FromCommand::Stdout(bytes),
        Output::Stderr(bytes) => FromCommand::Stderr(bytes),
        Output::Ended(outcome) => FromCommand::ExitStatus(exit_status(outcome)),
    }
}

/// Connects the caller to an executable for as long as the answers are taken.
pub(super) async fn attach(
    api: &CellApi,
    mut request: Request<Streaming<wire::CellServiceAttachRequest>>,
) -> Result<Response<Answers<wire::CellServiceAttachResponse>>, Status> {
    let executables = match api.place(None)? {
        Place::Inside(zone) => return attach_in(&zone, request).await,
        Place::Here(executables) => Some(executables),
        Place::Nowhere => None,
    };
    let permit = admit::permit(&mut request).map_err(|error| reply::status(&error))?;
    let mut messages = request.into_inner();
    let first = messages.message().await?;
    let permit = admit::session::attach(permit, first).map_err(|error| reply::status(&error))?;
    let name = &permit.resource().name;
    let attachment = match executables {
        Some(executables) => executables.attach(name),
        None => Err(NoSuchExecutable(name.clone()).into()),
    };
    let attachment = attachment.map_err(|error| reply::status(&error))?;

    let (controls, viewer) = (attachment.controls, attachment.viewer);
    let attached = FromExecutable::Attached(wire::Attached { terminal: controls.has_terminal() });
    let mut conversation = Conversation::with(&controls);
    let admit = move |message| conversation.to_executable(message);
    let told = tell(messages, admit, controls, None);
    let shown = stream::unfold(viewer, |mut viewer| async move {
        Some((from_executable(viewer.next().await?), viewer))
    });
    let answers = stream::once(async { attached }).chain(shown);
    let is_last = |message: &FromExecutable| matches!(message, FromExecutable::ExitStatus(_));
    let answers = until_end(answers, told, is_last);
    Ok(Response::new(Box::pin(answers.map(|message| {
        message.map(|message| wire::CellServiceAttachResponse { message: Some(message) })
    }))))
}

/// A node's own executables are in a zone.
async fn attach_in(
    zone: &Zone,
    mut request: Request<Streaming<wire::CellServiceAttachRequest>>,
) -> Result<Response<Answers<wire::CellServiceAttachResponse>>, Status> {
    let permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
    let room = zone.room().map_err(|error| reply::status(&error))?;
    let (said, failure) = said(request.into_inner());
    let request = route::request(permit.principal(), zone, said);
    passed_on(client(zone).attach(request), failure, zone.clone(), room).await
}

fn from_executable(shown: Shown) -> FromExecutable {
    match shown {
        Shown::Output(Channel::Stdout, bytes) => FromExecutable::Stdout(bytes),
        Shown::Output(Channel::Stderr, bytes) => FromExecutable::Stderr(bytes),
        Shown::Missed(bytes) => FromExecutable::MissedBytes(bytes),
        Shown::Ended(outcome) => FromExecutable::ExitStatus(exit_status(outcome)),
    }
}

/// What the caller says, for a zone, and what went wrong with it: that is no end of what it says, which a program would
/// take for all of its input, but the end of the call.
fn said<M, S>(messages: S) -> (impl Stream<Item = M>, impl Future<Output = Status>)
where
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    let (failed, failure) = oneshot::channel();
    let said = stream::unfold((messages, failed), |(mut messages, failed)| async move {
        match messages.next().await? {
            Ok(message) => Some((message, (messages, failed))),
            Err(status) => {
                // Nobody listens where the answers are gone, and the call with them.
                let _ = failed.send(status);
                std::future::pending().await
            }
        }
    });
    let failure = async {
        match failure.await {
            Ok(status) => status,
            // It was all said.
            Err(_) => std::future::pending().await,
        }
    };
    (said, failure)
}

/// What a zone answers to what the caller says, up to where something goes wrong with that.
async fn passed_on<T: Send + 'static>(
    answers: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    failure: impl Future<Output = Status> + Send + 'static,
    zone: Zone,
    room: Room,
) -> Result<Response<Answers<T>>, Status> {
    let mut failure = Box::pin(failure);
    let answers = tokio::select! {
        answers = answers => answers,
        failed = &mut failure => return Err(failed),
    };
    Ok(Response::new(until_failed(forward(zone, room, answers)?, failure)))
}

/// The answers, up to where something goes wrong with what the caller says.
fn until_failed<T: Send + 'static>(
    answers: Answers<T>,
    failure: impl Future<Output = Status> + Unpin + Send + 'static,
) -> Answers<T> {
    let state = Some((answers, failure));
    Box::pin(stream::unfold(state, |state| async {
        let (mut answers, mut failure) = state?;
        tokio::select! {
            biased;
            failed = &mut failure => Some((Err(failed), None)),
            answer = answers.next() => Some((answer?, Some((answers, failure)))),
        }
    }))
}

/// Hands a process what the caller says, and `at_end` when it has said everything.
async fn tell<M>(
    mut messages: Streaming<M>,
    mut admit: impl FnMut(M) -> Result<Input, Admission>,
    controls: Controls,
    at_end: Option<Input>,
) -> Result<(), Status> {
    while let Some(message) = messages.message().await? {
        let input = admit(message).map_err(|error| reply::status(&error))?;
        controls.apply(input).await.map_err(|error| reply::status(&error))?;
    }
    if let Some(input) = at_end {
        controls.apply(input).await.map_err(|error| reply::status(&error))?;
    }
    Ok(())
}

/// What a conversation answers, and whether that was all.
struct Talk<S> {
    answers: Pin<Box<S>>,
    told: JoinSet<Result<(), Status>>,
    ended: bool,
}

/// The answers up to the last, or to what is wrong with what the caller says: that ends both.
fn until_end<T: 'static>(
    answers: impl Stream<Item = T> + Send + 'static,
    told: impl Future<Output = Result<(), Status>> + Send + 'static,
    is_last: fn(&T) -> bool,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let mut tasks = JoinSet::new();
    tasks.spawn(told);
    let talk = Talk { answers: Box::pin(answers), told: tasks, ended: false };
    stream::unfold(talk, move |mut talk| async move {
        if talk.ended {
            return None;
        }
        let answer = tokio::select! {
            answer = talk.answers.next() => answer.ok_or_else(|| reply::status(&Unwatched)),
            Some(Ok(Err(status))) = talk.told.join_next() => Err(status),
        };
        talk.ended = answer.as_ref().map_or(true, is_last);
        Some((answer, talk))
    })
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn what_goes_wrong_with_what_is_said_ends_the_answers_and_is_no_end_of_input() {
        let lost = || Status::resource_exhausted("too much");
        let (said, failure) = said(stream::iter([Ok("one"), Err(lost()), Ok("two")]));
        let mut said = Box::pin(said);
        assert_eq!(said.next().await, Some("one"));
        assert_eq!(futures_util::poll!(said.next()), Poll::Pending);
        let answers: Answers<u8> = Box::pin(stream::iter([Ok(1)]).chain(stream::pending()));
        let mut answers = until_failed(answers, Box::pin(failure));
        assert_eq!(answers.next().await.unwrap().unwrap_err().message(), "too much");
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn answers_go_on_after_all_was_said() {
        let (said, failure) = said(stream::iter([Ok("one")]));
        assert_eq!(said.collect::<Vec<_>>().await, ["one"]);
        let answers: Answers<u8> = Box::pin(stream::iter([Ok(1), Ok(2)]));
        let answers = until_failed(answers, Box::pin(failure));
        let answers: Vec<u8> = answers.map(Result::unwrap).collect().await;
        assert_eq!(answers, [1, 2]);
    }
}
