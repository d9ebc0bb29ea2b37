//! The edge of the API: what the gate decided over is what a service gets to do, for every RPC.
//!
//! ```text
//! input ──▶ RPC, principal, zone, messages
//!             │ gate: first message, read by its descriptor ──▶ Permit, over an object
//!             │ generated code: the same bytes              ──▶ request
//!             ▼
//!           admit, here or in the zone ──▶ what is done, to which object: the same one
//! ```
//!
//! There are two callers: one who may do all, so that everything is reached, and one who is bound by
//! conditions on the request, which have to hold for what was admitted.

mod calls;
mod checks;

use std::sync::{Arc, LazyLock};

use aurae_authz::{
    Action, Checker, Executable, Form, Method, Object, Permit, Policies, Principal,
    authorize_inside,
};
use aurae_model::{CellPath, MAX_DEPTH, ZonePath};
use auraed::gate::edge;
use auraed::reply::MAX_TEXT_BYTES;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use prost_reflect::DynamicMessage;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::CONTRACT;
use calls::Admitted;
pub use calls::{CALLS, Call};

/// What binds the bound caller. [`checks::is_within_bounds`] says the same of what was admitted.
const POLICIES: &str = r#"
permit (principal == Spiffe::"spiffe://aurae.local/user/root", action, resource);

permit (principal == Spiffe::"spiffe://aurae.local/user/bound", action in [
    Action::"cells.Free", Action::"cells.Stop", Action::"cells.Freeze", Action::"cells.Exec",
    Action::"cells.Attach", Action::"observe.GetExecutableLogs"
], resource in Cell::"cells/team");

permit (principal == Spiffe::"spiffe://aurae.local/user/bound", action == Action::"cells.Allocate", resource in Cell::"cells/team")
when { context has cell.memory.max && context.cell.memory.max <= 1073741824 && context.cell.isolate_process };

permit (principal == Spiffe::"spiffe://aurae.local/user/bound", action == Action::"cells.Start", resource in Cell::"cells/team")
when { context has uid && context.uid > 0 && context has executable && !(context.executable has security) };
"#;

static DECIDING: LazyLock<Arc<Policies>> = LazyLock::new(|| {
    let checker = Checker::new(CONTRACT.clone()).expect("the contract has a schema");
    Arc::new(checker.parse([("wire.cedar", POLICIES)]).expect("these are policies"))
});

/// Where requests go.
static ZONES: LazyLock<[Option<CellPath>; 4]> = LazyLock::new(|| {
    let path = |text: &str| Some(CellPath::parse(text, "a test").expect("it is a path"));
    let deep = vec!["team"; MAX_DEPTH - 1].join("/");
    [None, path("team"), path("web/api"), path(&deep)]
});

/// The bit of an input's third byte that says who asks.
const BOUND: u8 = 1;

/// The bytes of an input for a method and its messages: its number, then who asks and where (0: the caller who
/// may do all, at the node), then the messages. Those of a stream have their lengths before them.
#[must_use]
pub fn input(method: &Method, caller_and_zone: u8, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut input = number(method).to_be_bytes().to_vec();
    input.push(caller_and_zone);
    for message in messages {
        if is_stream(method) {
            input.extend(u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
        input.extend(message);
    }
    input
}

/// The input is as [`input`] makes it.
pub fn wire(input: &[u8]) {
    let Some((&[a, b, who], bytes)) = input.split_first_chunk() else { return };
    let Some(method) = method(u16::from_be_bytes([a, b])) else { return };
    let case = Case {
        method,
        principal: principal(who & BOUND != 0),
        is_bound: who & BOUND != 0,
        zone: ZONES.get(usize::from(who >> 1) % ZONES.len()).and_then(Option::as_ref),
        messages: messages(bytes, is_stream(method)),
    };
    case.check();
}

fn principal(is_bound: bool) -> Principal {
    let name = if is_bound { "bound" } else { "root" };
    let name = format!("spiffe://aurae.local/user/{name}");
    Principal::named(Form::Spiffe, &name).expect("it is a SPIFFE ID")
}

/// The method of a number, or the one with the next greater: so a new RPC takes inputs from one other only.
fn method(wanted: u16) -> Option<&'static Arc<Method>> {
    CONTRACT.actions().min_by_key(|method| number(method).wrapping_sub(wanted))
}

/// A number that depends on the action's name alone (FNV-1a, folded).
fn number(method: &Method) -> u16 {
    let hash = method
        .action()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
}

fn is_stream(method: &Method) -> bool {
    let call = CALLS.iter().find(|call| call.action == method.action());
    call.is_some_and(|call| call.is_stream)
}

/// What is said: one message, or several with their lengths before them, of which the last may be cut.
fn messages(bytes: &[u8], is_stream: bool) -> Vec<&[u8]> {
    if !is_stream {
        return vec![bytes];
    }
    let (mut messages, mut rest) = (Vec::new(), bytes);
    while let Some((&length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(length)).min(after.len());
        let (message, after) = after.split_at(length);
        messages.push(message);
        rest = after;
    }
    messages
}

struct Case<'a> {
    method: &'a Method,
    principal: Principal,
    is_bound: bool,
    zone: Option<&'a CellPath>,
    messages: Vec<&'a [u8]>,
}

impl Case<'_> {
    fn check(&self) {
        let call = CALLS.iter().find(|call| call.action == self.method.action());
        let read = call.is_none_or(|call| {
            let first = self.messages.first().copied();
            first.is_none_or(|bytes| self.is_read_alike(call, bytes))
        });
        let sent = self.body();
        let request = Request::post(self.method.path()).body(Body::new(Full::new(sent.clone())));
        let request = request.expect("a request can be made");
        let decision = edge::decision(&DECIDING, &self.principal, self.zone, request);
        // All of the body is there, so there is nothing to wait for.
        match decision.now_or_never().expect("nothing is waited for") {
            Err(status) => self.check_refusal(&status, read),
            Ok((permit, request)) => {
                let body = request.into_body().collect().now_or_never();
                let body = body.expect("it is there").expect("it ends well").to_bytes();
                assert_eq!(body, sent, "the body has changed");
                if let Some(call) = call {
                    self.admit(call, permit);
                }
            }
        }
    }

    /// The body of the request: a frame for each message.
    fn body(&self) -> Bytes {
        let mut body = BytesMut::new();
        for message in &self.messages {
            body.put_u8(0);
            body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            body.put_slice(message);
        }
        body.freeze()
    }

    /// Whether the gate can read a message. The gate, which has a descriptor, and the service, which has generated
    /// code, read the same, if both can. What one of them cannot read is not done: prost-reflect, for one, does
    /// not look at the wire type of a map, and prost refuses one that is not right.
    fn is_read_alike(&self, call: &Call, bytes: &[u8]) -> bool {
        let descriptor = self.method.request().expect("a call of ours has a request").clone();
        let reflected = DynamicMessage::decode(descriptor, bytes);
        (call.check_read)(bytes, reflected.as_ref().ok());
        reflected.is_ok()
    }

    fn check_refusal(&self, status: &Status, read: bool) {
        assert!(status.message().len() <= MAX_TEXT_BYTES, "{} bytes", status.message().len());
        match status.code() {
            Code::PermissionDenied | Code::NotFound => {
                assert!(self.is_bound, "who may do all was denied: {status}");
            }
            _ => assert!(!read, "a request that can be read was refused: {status}"),
        }
    }

    /// Hands the messages on, as the daemon that answers does.
    fn admit(&self, call: &Call, permit: Permit) {
        let object = self.decided();
        assert!(!self.is_bound || object.is_in(&team()), "the bound caller got {object}");
        let permit = match self.zone {
            None => permit,
            Some(zone) => {
                let passed = permit.into_zone(zone.clone()).expect("what is in a zone goes there");
                let action = Action::new(self.method.path());
                authorize_inside(passed.principal(), action).expect("the node has decided")
            }
        };
        match (call.admit)(permit, &self.messages) {
            Admitted::No { is_bug, text } => {
                assert!(!is_bug, "decided over {object}: {text}");
                assert!(!text.is_empty() && text.len() <= MAX_TEXT_BYTES, "{text}");
            }
            Admitted::Yes { object: done, what } => {
                crate::names::check_object(&done);
                assert_eq!(self.seen_from_node(done), object, "done is not what was decided over");
                checks::is_valid(&what);
                assert!(
                    !self.is_bound || checks::is_within_bounds(&what),
                    "beyond the bounds: {what:?}"
                );
            }
        }
    }

    /// What the gate decides over.
    fn decided(&self) -> Object {
        let descriptor = self.method.request().filter(|_| self.method.names_resource());
        let first = descriptor.zip(self.messages.first());
        let message = first.and_then(|(descriptor, bytes)| {
            DynamicMessage::decode(descriptor.clone(), *bytes).ok()
        });
        self.method.object(self.zone, message.as_ref())
    }

    /// The object of the zone that answers, from the node. What would be too deep cannot be there: it is as
    /// good as the zone.
    fn seen_from_node(&self, object: Object) -> Object {
        let Some(zone) = self.zone else { return object };
        let zone = ZonePath::from(zone.clone());
        let outer = match object.cell() {
            None => Ok(zone.clone()),
            Some(inner) => zone.join(&ZonePath::from(inner.clone())),
        };
        match (outer, object) {
            (Ok(outer), Object::Zone(_)) => Object::Zone(Some(outer.cells().clone())),
            (Ok(outer), Object::Executable(Executable { name, .. })) => {
                Object::Executable(Executable { cell: Some(outer.cells().clone()), name })
            }
            (Err(_), _) => Object::Zone(Some(zone.cells().clone())),
        }
    }
}

fn team() -> CellPath {
    CellPath::parse("team", "a test").expect("it is a path")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rpc_of_the_contract_is_called() {
        let ours = CONTRACT.actions().filter(|method| method.request().is_some());
        let ours: BTreeSet<_> = ours.map(|method| method.action()).collect();
        let called: BTreeSet<_> = CALLS.iter().map(|call| call.action).collect();
        assert_eq!(called, ours, "CALLS has to say how each is admitted");
    }

    #[test]
    fn every_rpc_has_a_number_of_its_own() {
        for action in CONTRACT.actions() {
            assert_eq!(method(number(action)).unwrap().action(), action.action());
        }
    }
}
