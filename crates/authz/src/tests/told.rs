//! What a caller is told of what it may not see: nothing, whatever it asks.

use super::policies as policies_of;
use super::*;

#[test]
fn a_condition_on_who_asks_alone_hides_no_part_of_a_cell() {
    let team = "permit (principal is Spiffe, action, resource in Cell::\"cells/team-a\") \
                when { principal.path like \"team-a/*\" };";
    let (ours, theirs) = (spiffe("team-a/anna"), spiffe("team-b/bob"));
    let policies = policies_of(team);
    for action in ["cells.List", "observe.GetSubProcessStream", "observe.GetAuraeDaemonLogStream"] {
        assert!(ask(&policies, &ours, action, "cells/team-a").is_ok(), "{action}");
        assert!(ask(&policies, &theirs, action, "cells/team-a").is_err(), "{action}");
    }
    let lists = |condition: &str| {
        let policies = policies_of(&format!(
            "permit (principal, action, resource in Cell::\"cells/team-a\") {condition};"
        ));
        assert!(ask(&policies, &ours, "cells.Inspect", "cells/team-a").is_ok(), "{condition}");
        ask(&policies, &ours, "cells.List", "cells/team-a").is_ok()
    };
    for alone in [
        "",
        "when { principal has path }",
        "unless { principal in Role::\"reader\" || principal == Dns::\"ci.example.org\" }",
    ] {
        assert!(lists(alone), "{alone}");
    }
    // Whether these hold of an inner cell depends on that cell: of another entity nothing is known there.
    for beyond in [
        "when { resource.name like \"team-*\" }",
        "when { resource is Cell }",
        "unless { Cell::\"cells/team-a/cells/x\" in Cell::\"cells/team-a\" }",
        "when { action in Action::\"read\" }",
    ] {
        assert!(!lists(beyond), "{beyond}");
    }
}

/// A reader to whom a cell inside `web` is hidden, and one to whom the output there is.
const TWO_READERS: &str = "permit (principal in Role::\"reader\", action in Action::\"read\", resource);\n\
     forbid (principal == Spiffe::\"spiffe://aurae.local/reader/blind\", action, resource in Cell::\"cells/web/cells/db\");\n\
     forbid (principal == Spiffe::\"spiffe://aurae.local/reader/deaf\", action in Action::\"observe\", \
             resource in Cell::\"cells/web/cells/db\");";

#[test]
fn logs_that_name_all_cells_are_for_those_who_may_see_all() {
    let policies = policies_of(TWO_READERS);
    for action in ["observe.GetAuraeDaemonLogStream", "node.KernelLog"] {
        let (blind, reader) = (spiffe("reader/blind"), spiffe("reader/r"));
        assert!(ask(&policies, &reader, action, "node").is_ok(), "{action}");
        for object in ["node", "cells/web"] {
            let text = denial(&policies, &blind, action, object);
            let told = "it tells of all cells, some of which the caller may not see, and cannot leave them out";
            assert!(text.ends_with(told), "{text}");
        }
        assert!(ask(&policies, &blind, action, "cells/other").is_ok(), "{action}");
        assert!(ask(&built_in(), &reader, action, "node").is_ok(), "{action}");
    }
    // Who may read the log and nothing else cannot learn from it what there is.
    let log = policies_of(
        "permit (principal, action == Action::\"observe.GetAuraeDaemonLogStream\", resource);",
    );
    assert!(ask(&log, &spiffe("x"), "observe.GetAuraeDaemonLogStream", "node").is_err());
}

#[test]
fn what_is_said_of_cells_and_not_of_the_node_counts_for_all_that_is_on_it() {
    let action = "observe.GetAuraeDaemonLogStream";
    let asks = |rest: &str, who: &str| {
        let policies = policies_of(&format!("permit (principal, action, resource);\n{rest}"));
        ask(&policies, &spiffe(who), action, "node").is_ok()
    };
    for cells in ["resource is Cell", "resource is Cell in Node::\"node\""] {
        let only_admins = format!(
            "forbid (principal, action in Action::\"cells\", {cells}) unless {{ principal in Role::\"admin\" }};"
        );
        assert!(!asks(&only_admins, "reader/r") && asks(&only_admins, "admin/a"), "{cells}");
    }
    for nothing in [
        "forbid (principal, action in Action::\"cells\", resource is Executable);",
        "forbid (principal, action == Action::\"cells.Free\", resource is Cell);",
        "forbid (principal in Role::\"reader\", action, resource in Cell::\"cells/x\");",
    ] {
        assert!(asks(nothing, "admin/a"), "{nothing}");
    }
    let cells = policies_of("permit (principal, action, resource is Cell);");
    assert!(ask(&cells, &spiffe("x"), action, "node").is_err());
    assert!(ask(&cells, &spiffe("x"), action, "cells/web").is_ok());
}

#[test]
fn what_is_found_later_is_decided_over_where_it_is_found() {
    let policies = policies_of(TWO_READERS);
    let action = "observe.GetSubProcessStream";
    let (deaf, reader) = (spiffe("reader/deaf"), spiffe("reader/r"));
    let found = |who: &Principal, object: &str| {
        let permit = ask(&policies, who, action, "node").unwrap();
        permit.holds_on(&Object::parse(object).unwrap(), &[]).map_err(|denied| denied.to_string())
    };
    assert_eq!(found(&reader, "cells/web/cells/db"), Ok(()));
    assert_eq!(found(&deaf, "cells/other"), Ok(()));
    let denied = found(&deaf, "cells/web/cells/db").unwrap_err();
    assert!(denied.ends_with("on cells/web/cells/db: a rule forbids it"), "{denied}");
    // Which of the cells inside it is in nobody here knows.
    let denied = found(&deaf, "cells/web").unwrap_err();
    assert!(denied.contains("may not ask for all that is there"), "{denied}");
    // As through a zone path, where nobody asks again.
    assert!(ask(&policies, &deaf, action, "cells/web").is_err());
    assert!(ask(&policies, &deaf, "cells.List", "cells/web").is_ok());
    assert!(ask(&policies, &reader, action, "cells/web").is_ok());
}

#[test]
fn what_is_found_later_is_decided_over_with_the_request() {
    use aurae_proto::observe::{GetSubProcessStreamRequest, LogChannelType};
    let policies = policies_of(
        "permit (principal, action, resource);\n\
         forbid (principal, action == Action::\"observe.GetSubProcessStream\", resource == Cell::\"cells/db\") \
         when { context.channel_type == \"LOG_CHANNEL_TYPE_STDERR\" };",
    );
    let permit = ask(&policies, &spiffe("x"), "observe.GetSubProcessStream", "node").unwrap();
    let found = |channel: LogChannelType| {
        let wire = GetSubProcessStreamRequest { channel_type: channel.into(), process_id: 1 };
        let db = Object::parse("cells/db").unwrap();
        permit.holds_on(&db, &wire.encode_to_vec()).unwrap_err().rule().is_some()
    };
    assert!(found(LogChannelType::Stderr), "the rule forbids it");
    assert!(!found(LogChannelType::Stdout), "it may forbid the output of a cell inside");
    let db = Object::parse("cells/db").unwrap();
    assert!(permit.holds_on(&db, &[0xff]).is_err(), "what cannot be read");
    assert!(permit.holds_on(&Object::parse("cells/web").unwrap(), &[]).is_err());
}

#[test]
fn nobody_learns_of_a_cell_by_asking_it_about_oneself() {
    let policies = policies_of(TWO_READERS);
    for action in ["auth.WhoAmI", "auth.CanI"] {
        for (policies, who) in [(&policies, "reader/blind"), (&built_in(), "user/nobody")] {
            let who = spiffe(who);
            let denied = ask(policies, &who, action, "cells/web/cells/db").unwrap_err();
            assert!(denied.is_hidden(), "{denied}");
            let same = ask(policies, &who, "cells.Inspect", "cells/web/cells/db").unwrap_err();
            assert_eq!(denied.to_string(), same.to_string());
        }
        assert!(ask(&built_in(), &spiffe("user/nobody"), action, "node").is_ok());
    }
}
