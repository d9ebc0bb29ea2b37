//! Replacing the daemon by another version of itself.

use std::time::Duration;

use aurae_proto::node::{UpgradeOutcome, UpgradePhase, UpgradeRequest, UpgradeResponse};
use futures_util::stream;
use tonic::{Status, Streaming};

use crate::runtime::upgrade::{Announced, Checked, Outcome, Received, Upgrades};
use crate::service::Answers;
use crate::{VERSION, admit, reply};

/// How long a client may say nothing while it sends the file: others wait for their turn.
const SILENCE: Duration = Duration::from_secs(30);

/// The client said nothing for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing of the file came for {} s; send it again", SILENCE.as_secs())]
pub struct Silent;

/// Where an upgrade is. Dropped with its stream when the client goes away.
enum Phase {
    Received(Received),
    Checked(Checked),
    TakingOver(Checked),
    Done,
}

/// `Upgrade`: the file first, then an answer for each phase that was finished.
pub(super) async fn upgrade(
    upgrades: &Upgrades,
    mut messages: Streaming<UpgradeRequest>,
) -> Result<Answers<UpgradeResponse>, Status> {
    let first = next(&mut messages).await?;
    let announced = admit::upgrade::start(first).map_err(|error| reply::status(&error))?;
    let check_only = announced.check_only;
    let received = receive(upgrades, announced, &mut messages).await?;
    let answers =
        stream::unfold(Phase::Received(received), move |phase| advance(phase, check_only));
    let begun = stream::once(async { Ok(answer(UpgradePhase::Received, "")) });
    Ok(Box::pin(futures_util::StreamExt::chain(begun, answers)))
}

async fn receive(
    upgrades: &Upgrades,
    announced: Announced,
    messages: &mut Streaming<UpgradeRequest>,
) -> Result<Received, Status> {
    let mut receiving = upgrades.begin(announced).map_err(|error| reply::status(&error))?;
    while let Some(message) = next(messages).await? {
        let data = admit::upgrade::data(message).map_err(|error| reply::status(&error))?;
        receiving.write(data.as_ref()).map_err(|error| reply::status(&error))?;
    }
    receiving.finish().map_err(|error| reply::status(&error))
}

async fn next(messages: &mut Streaming<UpgradeRequest>) -> Result<Option<UpgradeRequest>, Status> {
    let next = tokio::time::timeout(SILENCE, messages.message()).await;
    next.unwrap_or_else(|_| Err(reply::status(&Silent)))
}

/// One phase further. The new daemon is chosen when the client was told that it takes over.
async fn advance(
    phase: Phase,
    check_only: bool,
) -> Option<(Result<UpgradeResponse, Status>, Phase)> {
    match phase {
        Phase::Received(received) => Some(match received.check().await {
            Ok(checked) => {
                let answer = answer(UpgradePhase::Checked, checked.version());
                (Ok(answer), if check_only { Phase::Done } else { Phase::Checked(checked) })
            }
            Err(error) => (Err(reply::status(&error)), Phase::Done),
        }),
        Phase::Checked(checked) => {
            let answer = answer(UpgradePhase::TakingOver, checked.version());
            Some((Ok(answer), Phase::TakingOver(checked)))
        }
        Phase::TakingOver(checked) => {
            checked.take_over();
            None
        }
        Phase::Done => None,
    }
}

fn answer(phase: UpgradePhase, to_version: &str) -> UpgradeResponse {
    UpgradeResponse {
        phase: phase.into(),
        from_version: VERSION.to_owned(),
        to_version: to_version.to_owned(),
    }
}

/// How the last attempt ended.
pub(super) fn outcome(outcome: &Outcome) -> UpgradeOutcome {
    UpgradeOutcome {
        from_version: outcome.from.clone(),
        to_version: outcome.to.clone(),
        time: Some(outcome.time.into()),
        rolled_back: outcome.rolled_back.clone(),
    }
}
