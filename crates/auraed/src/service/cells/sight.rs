//! What a caller is told of the cells inside the zone that answers: those that it may see.

use std::future::ready;

use aurae_authz::{Node, Permit};
use aurae_model::CellPath;
use aurae_proto::cells::CellServiceWatchResponse as Change;
use futures_util::stream::{Stream, StreamExt};
use tonic::Status;

use crate::runtime::cells::CellNode;

/// The cells that the caller may see. What is inside a cell that it may not see is not told either.
pub(super) fn visible(permit: &Permit<Node>, cells: Vec<CellNode>) -> Vec<CellNode> {
    if permit.policies().is_none() {
        return cells;
    }
    let seen = |cell: &CellNode| is_visible(permit, &cell.view.name);
    cells
        .into_iter()
        .filter(seen)
        .map(|cell| CellNode { children: visible(permit, cell.children), ..cell })
        .collect()
}

/// The changes of what the caller may see. So many as were missed before one that it may not see are told
/// with the next.
pub(super) fn visible_changes(
    permit: Permit<Node>,
    changes: impl Stream<Item = Result<Change, Status>>,
) -> impl Stream<Item = Result<Change, Status>> {
    let mut missed = 0_u64;
    changes.filter_map(move |change| {
        ready(match change {
            Ok(change) if !tells_of_visible(&permit, &change) => {
                missed = missed.saturating_add(change.missed);
                None
            }
            Ok(change) => {
                let missed = change.missed.saturating_add(std::mem::take(&mut missed));
                Some(Ok(Change { missed, ..change }))
            }
            Err(status) => Some(Err(status)),
        })
    })
}

fn tells_of_visible(permit: &Permit<Node>, change: &Change) -> bool {
    match (change.cell_name.as_str(), change.executable_name.as_str()) {
        // Of the watch itself, or of the zone that answers.
        ("", "") => true,
        ("", _) => permit.sees(None),
        (cell, _) => is_visible(permit, cell),
    }
}

fn is_visible(permit: &Permit<Node>, cell: &str) -> bool {
    permit.policies().is_none()
        || CellPath::parse(cell, "cell").is_ok_and(|cell| permit.sees(Some(&cell)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aurae_authz::{Contract, Form, Object, Policies, Principal, Question};
    use futures_util::stream;

    use super::*;

    /// A reader's permit to watch the node; `secret` and what is in it is hidden, as are the node's own
    /// executables.
    fn permit() -> Permit<Node> {
        let contract = Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET).unwrap();
        let text = "permit (principal, action == Action::\"cells.Watch\", resource);\n\
             permit (principal, action, resource) when { resource is Cell };\n\
             forbid (principal, action, resource in Cell::\"cells/secret\");";
        let policies = Policies::parse(Arc::new(contract), [("test.cedar", text)]).unwrap();
        let policies = Arc::new(policies);
        let principal = &Principal::named(Form::Spiffe, "spiffe://a/reader/r").unwrap();
        let method = policies.contract().action("cells.Watch").unwrap();
        let object = &Object::Zone(None);
        let asked = Question { principal, method, object, request: None };
        policies.authorize(asked).unwrap().narrow(Node).unwrap()
    }

    #[tokio::test]
    async fn a_watch_leaves_out_what_the_caller_may_not_see_and_keeps_count() {
        let change = |cell: &str, executable: &str, missed| {
            Ok(Change {
                cell_name: cell.into(),
                executable_name: executable.into(),
                missed,
                ..Change::default()
            })
        };
        let changes = [
            change("web", "", 0),
            change("secret", "", 2),
            change("secret/inner", "x", 3),
            change("", "own", 1),
            change("web/api", "x", 4),
            change("", "", 0),
        ];
        let told = visible_changes(permit(), stream::iter(changes)).map(Result::unwrap);
        let told: Vec<_> = told.map(|told| (told.cell_name, told.missed)).collect().await;
        let expected = [("web", 0), ("web/api", 10), ("", 0)];
        assert_eq!(told, expected.map(|(cell, missed)| (cell.to_owned(), missed)));
    }
}
