//! How each RPC is admitted, as its service does.

use std::fmt;
use std::time::Duration;

use aurae_authz::{Node, Object, Permit, Resource};
use aurae_model::{Command, Executable};
use aurae_proto::{audit, auth, cells, discovery, node, observe};
use auraed::admit::{self, Admission, session::Conversation};
use auraed::reply;
use auraed::runtime::cells::CellSpec;
use prost::Message;
use prost_reflect::DynamicMessage;
use tonic::Request;

/// An RPC of ours.
pub struct Call {
    /// Its action.
    pub action: &'static str,
    /// Whether its request is a stream of messages.
    pub is_stream: bool,
    /// Reads a message as the service does, and compares it with what the gate has read.
    pub(super) check_read: fn(&[u8], Option<&DynamicMessage>),
    /// Admits a request that has these messages.
    pub(super) admit: fn(Permit, &[&[u8]]) -> Admitted,
}

impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.action)
    }
}

/// What came of it.
pub(super) enum Admitted {
    /// It was refused.
    No { is_bug: bool, text: String },
    /// It would be done.
    Yes { object: Object, what: Done },
}

/// What would be done.
#[derive(Debug)]
pub(super) enum Done {
    /// A cell is made.
    Allocate(Box<CellSpec>),
    /// A program is started.
    Start(Box<Executable>),
    /// A program is run while somebody waits.
    Exec(Box<Command>),
    /// Something is ended, within so long.
    Wait(Duration),
    /// Nothing that has bounds.
    Something,
}

/// An RPC with one message.
macro_rules! unary {
    ($action:literal, $message:ty, $admit:expr) => {
        Call {
            action: $action,
            is_stream: false,
            check_read: check_read::<$message>,
            admit: |permit, messages| {
                let admit: fn(Request<$message>) -> Result<Allowed, Admission> = $admit;
                let first = messages.first().map(|bytes| <$message>::decode(*bytes));
                match first {
                    Some(Ok(message)) => Admitted::of(admit(with(permit, message))),
                    Some(Err(_)) | None => Admitted::unread(),
                }
            },
        }
    };
}

/// An RPC with a stream of messages.
macro_rules! stream {
    ($action:literal, $message:ty, $admit:expr) => {
        Call {
            action: $action,
            is_stream: true,
            check_read: check_read::<$message>,
            admit: |permit, messages| {
                let admit: fn(Permit, Messages<$message>) -> Result<Allowed, Admission> = $admit;
                // What cannot be read ends the stream.
                let messages = messages.iter().map_while(|bytes| <$message>::decode(*bytes).ok());
                let messages: Vec<_> = messages.collect();
                Admitted::of(admit(permit, messages.into_iter()))
            },
        }
    };
}

type Messages<M> = std::vec::IntoIter<M>;
type Allowed = (Object, Done);

/// Every RPC of the contract, in the order of their names.
pub const CALLS: [Call; 30] = [
    unary!("audit.Stream", audit::StreamRequest, |request| {
        let (permit, ..) = admit::audit::stream(request)?;
        something(permit)
    }),
    unary!("auth.CanI", auth::CanIRequest, |request| {
        something(admit::auth::can_i(request)?.permit)
    }),
    unary!("auth.Explain", auth::ExplainRequest, |request| {
        something(admit::auth::explain(request)?.permit)
    }),
    unary!("auth.WhoAmI", auth::WhoAmIRequest, on_node),
    unary!("cells.Allocate", cells::CellServiceAllocateRequest, |request| {
        let (permit, spec) = admit::cells::allocate(request)?;
        Ok((permit.resource().object(), Done::Allocate(Box::new(spec))))
    }),
    stream!("cells.Attach", cells::CellServiceAttachRequest, |permit, mut messages| {
        let permit = admit::session::attach(permit, messages.next())?;
        let mut conversation = Conversation::new(true, true);
        messages.try_for_each(|message| conversation.to_executable(message).map(drop))?;
        something(permit)
    }),
    stream!("cells.CopyIn", cells::CellServiceCopyInRequest, |permit, mut messages| {
        let permit = permit.narrow(Node)?;
        admit::copy::target(messages.next().and_then(|first| first.message))?;
        messages.try_for_each(|next| admit::copy::step(next.message).map(drop))?;
        something(permit)
    }),
    unary!("cells.CopyOut", cells::CellServiceCopyOutRequest, |request| {
        let (permit, path) = admit::copy::source(request)?;
        assert!(path.is_absolute(), "{path:?}");
        something(permit)
    }),
    stream!("cells.Exec", cells::CellServiceExecRequest, |permit, mut messages| {
        let (permit, command) = admit::session::exec(permit, messages.next())?;
        let mut conversation = Conversation::new(command.stdin, command.terminal.is_some());
        messages.try_for_each(|message| conversation.to_command(message).map(drop))?;
        Ok((permit.resource().object(), Done::Exec(Box::new(command))))
    }),
    unary!("cells.Free", cells::CellServiceFreeRequest, |request| {
        let (permit, grace) = admit::cells::free(request)?;
        Ok((permit.resource().object(), Done::Wait(grace)))
    }),
    unary!("cells.Freeze", cells::CellServiceFreezeRequest, |request| {
        something(admit::life::freeze(request)?)
    }),
    unary!("cells.Inspect", cells::CellServiceInspectRequest, |request| {
        something(admit::cells::inspect(request)?)
    }),
    unary!("cells.List", cells::CellServiceListRequest, |request| {
        something(admit::cells::list(request)?)
    }),
    unary!("cells.Signal", cells::CellServiceSignalRequest, |request| {
        let (permit, ..) = admit::cells::signal(request)?;
        something(permit)
    }),
    unary!("cells.Start", cells::CellServiceStartRequest, |request| {
        let (permit, executable) = admit::cells::start(request)?;
        let object = permit.resource().object();
        assert_eq!(permit.resource().name, executable.name);
        Ok((object, Done::Start(Box::new(executable))))
    }),
    unary!("cells.Stop", cells::CellServiceStopRequest, |request| {
        let (permit, grace) = admit::cells::stop(request)?;
        Ok((permit.resource().object(), Done::Wait(grace.unwrap_or_default())))
    }),
    unary!("cells.Thaw", cells::CellServiceThawRequest, |request| {
        something(admit::life::thaw(request)?)
    }),
    unary!("cells.Update", cells::CellServiceUpdateRequest, |request| {
        let (permit, _change) = admit::life::update(request)?;
        something(permit)
    }),
    unary!("cells.Wait", cells::CellServiceWaitRequest, |request| {
        something(admit::cells::wait(request)?)
    }),
    unary!("cells.Watch", cells::CellServiceWatchRequest, |request| {
        let (permit, _start) = admit::watch::watch(request)?;
        something(permit)
    }),
    unary!("discovery.Discover", discovery::DiscoverRequest, on_node),
    unary!("node.Info", node::InfoRequest, on_node),
    unary!("node.KernelLog", node::KernelLogRequest, on_node),
    unary!("node.PowerOff", node::PowerOffRequest, on_node),
    unary!("node.Reboot", node::RebootRequest, on_node),
    stream!("node.Upgrade", node::UpgradeRequest, |permit, mut messages| {
        let permit = permit.narrow(Node)?;
        admit::upgrade::start(messages.next())?;
        messages.try_for_each(|message| admit::upgrade::data(message).map(drop))?;
        something(permit)
    }),
    unary!("observe.GetAuraeDaemonLogStream", observe::GetAuraeDaemonLogStreamRequest, on_node),
    unary!("observe.GetExecutableLogs", observe::GetExecutableLogsRequest, |request| {
        something(admit::observe::executable_logs(request)?.permit)
    }),
    unary!("observe.GetPosixSignalsStream", observe::GetPosixSignalsStreamRequest, on_node),
    unary!("observe.GetSubProcessStream", observe::GetSubProcessStreamRequest, |request| {
        let logs = admit::observe::process_logs(request)?;
        assert!(logs.pid > 0, "{logs:?}");
        something(logs.permit)
    }),
];

fn on_node<M>(mut request: Request<M>) -> Result<Allowed, Admission> {
    something(admit::on_node(&mut request)?)
}

#[expect(clippy::unnecessary_wraps, reason = "the end of what may fail")]
fn something<R: Resource>(permit: Permit<R>) -> Result<Allowed, Admission> {
    Ok((permit.resource().object(), Done::Something))
}

fn with<M>(permit: Permit, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(permit);
    request
}

impl Admitted {
    fn of(admitted: Result<Allowed, Admission>) -> Self {
        match admitted {
            Ok((object, what)) => Self::Yes { object, what },
            Err(error) => {
                let is_bug = match &error {
                    Admission::Denied(denied) => denied.is_bug(),
                    Admission::NoPermit(_) => true,
                    _ => false,
                };
                Self::No { is_bug, text: reply::status(&error).message().to_owned() }
            }
        }
    }

    fn unread() -> Self {
        Self::No { is_bug: false, text: "it cannot be read".into() }
    }
}

fn check_read<M>(bytes: &[u8], reflected: Option<&DynamicMessage>)
where
    M: Message + Default + PartialEq + fmt::Debug,
{
    if let (Ok(read), Some(reflected)) = (M::decode(bytes), reflected) {
        let again = reflected.transcode_to::<M>();
        assert!(again.is_ok_and(|again| again == read), "not read alike: {reflected:?}, {read:?}");
    }
}
