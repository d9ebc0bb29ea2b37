//! A decision: what the policies say of a request.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aurae_authz::{Contract, Form, Object, Policies, Principal, Question};
use aurae_model::CellPath;
use aurae_proto::cells::{Cell, CellServiceAllocateRequest, MemoryController};
use prost::Message;
use prost_reflect::DynamicMessage;

use crate::bench::Bench;
use crate::contest::Contest;
use crate::report::{Figure, Unit};

/// How many policies there are, beside one that holds for all.
const POLICIES: usize = 100;
/// What is asked for has to be little.
const LITTLE: &str = "context has cell.memory.max && context.cell.memory.max <= 1073741824";

const ONE: &str = "one policy looks at the request";
const ALL: &str = "all look at the request";
const NEW: &str = "all look at the request, of something new";
const NONE: &str = "none looks at the request";

/// Policies of so many teams, each with its cells.
fn policies(contract: &Arc<Contract>, condition: &str) -> Result<Arc<Policies>> {
    let mut text = format!(
        "forbid (principal, action == Action::\"cells.Allocate\", resource) unless {{ {LITTLE} }};\n"
    );
    for number in 0..POLICIES {
        writeln!(
            text,
            "permit (principal is Spiffe, action in Action::\"operate\", resource in Cell::\"cells/team-{number}\") when {{ principal.path like \"team-{number}/*\"{condition} }};"
        )?;
    }
    let policies = Policies::parse(Arc::clone(contract), [("bench.cedar", text.as_str())]);
    Ok(Arc::new(policies.context("the policies are wrong")?))
}

pub(super) fn decision(bench: &Bench) -> Result<Vec<Figure>> {
    let contract = Arc::new(Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET)?);
    let one = policies(&contract, "")?;
    let all = policies(&contract, &format!(" && {LITTLE}"))?;
    let principal = Principal::named(Form::Spiffe, "spiffe://aurae.local/team-1/x")
        .context("that is no principal")?;
    let allocate = contract.action("cells.Allocate").context("there is no Allocate")?;
    let free = contract.action("cells.Free").context("there is no Free")?;
    let bytes = CellServiceAllocateRequest {
        cell: Some(Cell {
            name: "web".into(),
            memory: Some(MemoryController { max: Some(1), ..MemoryController::default() }),
            ..Cell::default()
        }),
    }
    .encode_to_vec();
    // With the reading of the request, as it is read for the decision.
    let asks = |policies: &Arc<Policies>, zone: &CellPath| -> Result<()> {
        let descriptor = allocate.request().context("Allocate has no request")?.clone();
        let request = DynamicMessage::decode(descriptor, bytes.as_slice())?;
        let object = &allocate.object(Some(zone), Some(&request));
        let request = Some(&request);
        let question = Question { principal: &principal, method: allocate, object, request };
        ensure!(black_box(policies.authorize(question)).is_ok(), "it is denied");
        Ok(())
    };
    let times = bench.paced(100_u32, 300, 3000);
    let mut number = 0_u64;
    let zone = |name: &str| CellPath::parse("team-1", name).context("that is no zone");
    let known = zone("known")?;

    let mut figure = Figure::new(
        "decision",
        "A decision, with 100 policies",
        Unit::Seconds,
        &format!(
            "Whether a principal may allocate a cell in a zone of its own, the request decoded for it; the last side asks for Free, over which no policy needs the request. A value is the mean of {times}. What is not about the request is kept for each principal, action and resource: of something new nothing is."
        ),
    );
    for side in [ONE, ALL, NEW, NONE] {
        figure = figure.at_most(side, 50e-6);
    }
    let mean = |ask: &mut dyn FnMut() -> Result<()>| {
        let start = Instant::now();
        for _ in 0..times {
            ask()?;
        }
        Ok(start.elapsed().as_secs_f64() / f64::from(times))
    };
    let mut contest = Contest::default();
    contest.ours(ONE, || mean(&mut || asks(&one, &known)));
    contest.ours(ALL, || mean(&mut || asks(&all, &known)));
    contest.ours(NEW, || {
        mean(&mut || {
            number += 1;
            asks(&all, &zone(&format!("new-{number}"))?)
        })
    });
    contest.ours(NONE, || {
        mean(&mut || {
            let object = &Object::Zone(Some(known.clone()));
            let question = Question { principal: &principal, method: free, object, request: None };
            ensure!(black_box(one.authorize(question)).is_ok(), "it is denied");
            Ok(())
        })
    });
    figure.sides = contest.run(bench.rounds(30, 30));
    Ok(vec![figure])
}
