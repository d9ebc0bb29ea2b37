//! Many nodes at once.

use std::future::Future;

use futures_util::{StreamExt, stream};

use crate::{Client, ConnectError, Node, NodeName};

/// How many nodes are asked at once: enough to hide the slow ones, few enough for the descriptors
/// and the memory of a small client.
pub const FAN_OUT: usize = 64;

/// Connects to every node and makes the call, up to [`FAN_OUT`] at once; a node that is dead or slow
/// delays no other. The answers are in the order of `nodes`.
pub async fn fan_out<T, E, F, Call>(
    nodes: impl IntoIterator<Item = Node>,
    call: F,
) -> Vec<(NodeName, Result<T, E>)>
where
    E: From<ConnectError>,
    F: Fn(Client) -> Call,
    Call: Future<Output = Result<T, E>>,
{
    let call = &call;
    let asked = nodes.into_iter().enumerate().map(|(place, node)| async move {
        let result = match Client::connect(&node).await {
            Ok(client) => call(client).await,
            Err(error) => Err(error.into()),
        };
        (place, node.name, result)
    });
    let mut answers: Vec<_> = stream::iter(asked).buffer_unordered(FAN_OUT).collect().await;
    answers.sort_by_key(|(place, ..)| *place);
    answers.into_iter().map(|(_, name, result)| (name, result)).collect()
}
