//! What daemons and executables say, as streams.
//!
//! Every stream is pulled by the connection: when the client does not take what there is, nothing is
//! read, and when it goes away the stream is dropped.

use aurae_authz::{Denied, Executable, Node, Object, Permit};
use aurae_model::CellPath;
use aurae_proto::observe::observe_service_client::ObserveServiceClient;
use aurae_proto::observe::observe_service_server::{ObserveService, ObserveServiceServer};
use aurae_proto::observe::{
    GetAuraeDaemonLogStreamRequest, GetAuraeDaemonLogStreamResponse, GetExecutableLogsRequest,
    GetExecutableLogsResponse, GetPosixSignalsStreamRequest, GetPosixSignalsStreamResponse,
    GetSubProcessStreamRequest, GetSubProcessStreamResponse, LogChannelType, LogEntry, LogItem,
};
use futures_util::stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::admit::{self, observe::ExecutableLogs, observe::ProcessLogs};
use crate::reply::{self, Reply, Unsupported};
use crate::route;
use crate::runtime::cells::{Connection, Room, Zone};
use crate::runtime::logs::{Batch, Channel, Entry, LogRing, Reader, ReaderOptions};
use crate::runtime::output::{NoOutput, Output, Outputs, ProcessOutput};
use crate::server::MAX_MESSAGE_BYTES;
use crate::service::Answers;

/// The channel of the daemon's own log, and of what it says of an executable's.
const DAEMON: &str = "auraed";
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The service.
#[derive(Clone, Debug)]
pub struct Observe<O> {
    daemon: LogRing,
    outputs: O,
}

impl<O: Outputs<Error: Reply>> Observe<O> {
    /// A service over the daemon's own log and what is known of executables' output.
    #[must_use]
    pub fn service(daemon: LogRing, outputs: O) -> ObserveServiceServer<Self> {
        ObserveServiceServer::new(Self { daemon, outputs })
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn daemon_log(&self, _permit: &Permit<Node>) -> Answers<GetAuraeDaemonLogStreamResponse> {
        let options = ReaderOptions { follow: true, ..ReaderOptions::default() };
        let items = batches(self.daemon.reader(options))
            .flat_map(|batch| stream::iter(items(batch, |_| DAEMON.to_owned())));
        Box::pin(items.map(|item| Ok(GetAuraeDaemonLogStreamResponse { item: Some(item) })))
    }

    async fn executable_log(
        &self,
        permit: Permit<Executable>,
        options: ReaderOptions,
    ) -> Result<Answers<GetExecutableLogsResponse>, Status> {
        let Executable { cell, name } = permit.resource();
        let output = self.outputs.of_executable(cell.as_ref(), name);
        let zone = match output.map_err(|error| reply::status(&error))? {
            Output::Here(ring) => return Ok(entries(ring.reader(options))),
            Output::Inside(zone) => zone,
        };
        let room = zone.room().map_err(|error| reply::status(&error))?;
        let request = GetExecutableLogsRequest {
            cell_name: None,
            executable_name: name.to_string(),
            follow: options.follow,
            tail: options.tail,
            since: options.since.map(timestamp),
            channel_type: channel_type(options.channel).into(),
        };
        let request = route::request(permit.principal(), &zone, request);
        let answers = client(&zone).get_executable_logs(request).await;
        forward(zone, room, answers)
    }

    async fn process_log(
        &self,
        asked: ProcessLogs,
    ) -> Result<Answers<GetSubProcessStreamResponse>, Status> {
        let ProcessLogs { permit, pid, options, request } = asked;
        match self.outputs.of_process(pid).map_err(|error| reply::status(&error))? {
            ProcessOutput::Here { name, ring } => {
                let items = batches(ring.reader(options)).flat_map(move |batch| {
                    stream::iter(items(batch, |channel| item_channel(&name, channel)))
                });
                let answers =
                    items.map(|item| Ok(GetSubProcessStreamResponse { item: Some(item) }));
                Ok(Box::pin(answers))
            }
            ProcessOutput::Inside { zone, pid: inside } => {
                match may_read_in(&permit, zone.path(), &request) {
                    Ok(true) => {}
                    Ok(false) => return Err(reply::status(&NoOutput::Process(pid))),
                    Err(denied) => return Err(reply::status(&denied)),
                }
                let room = zone.room().map_err(|error| reply::status(&error))?;
                let request = GetSubProcessStreamRequest {
                    channel_type: channel_type(options.channel).into(),
                    process_id: inside,
                };
                let request = route::request(permit.principal(), &zone, request);
                let answers = client(&zone).get_sub_process_stream(request).await;
                forward(zone, room, answers)
            }
        }
    }
}

/// Whether the caller may see whatever process of a zone it asks for; an error where it may, and may not do what
/// it asks for. Which of the cells inside the process is in only the zone knows.
fn may_read_in(permit: &Permit<Node>, zone: CellPath, request: &[u8]) -> Result<bool, Denied> {
    // What runs on the node was decided over as the node's.
    if zone.split_first().0.is_of_node() {
        return Ok(permit.sees(None));
    }
    if !permit.sees_all_in(&zone) {
        return Ok(false);
    }
    permit.holds_on(&Object::Zone(Some(zone)), request).map(|()| true)
}

fn client(zone: &Zone) -> ObserveServiceClient<Connection> {
    let origin = http::Uri::from_static("http://zone");
    ObserveServiceClient::with_origin(zone.connection(), origin)
}

#[tonic::async_trait]
impl<O: Outputs<Error: Reply>> ObserveService for Observe<O> {
    type GetAuraeDaemonLogStreamStream = Answers<GetAuraeDaemonLogStreamResponse>;
    type GetSubProcessStreamStream = Answers<GetSubProcessStreamResponse>;
    type GetPosixSignalsStreamStream = Answers<GetPosixSignalsStreamResponse>;
    type GetExecutableLogsStream = Answers<GetExecutableLogsResponse>;

    async fn get_aurae_daemon_log_stream(
        &self,
        mut request: Request<GetAuraeDaemonLogStreamRequest>,
    ) -> Result<Response<Self::GetAuraeDaemonLogStreamStream>, Status> {
        let permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        Ok(Response::new(self.daemon_log(&permit)))
    }

    async fn get_sub_process_stream(
        &self,
        request: Request<GetSubProcessStreamRequest>,
    ) -> Result<Response<Self::GetSubProcessStreamStream>, Status> {
        let asked = admit::observe::process_logs(request).map_err(|error| reply::status(&error))?;
        Ok(Response::new(self.process_log(asked).await?))
    }

    async fn get_posix_signals_stream(
        &self,
        mut request: Request<GetPosixSignalsStreamRequest>,
    ) -> Result<Response<Self::GetPosixSignalsStreamStream>, Status> {
        admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        Err(reply::status(&Unsupported {
            what: "the stream of signals",
            instead: "aurae.cells.v0.CellService/Wait tells which signal ended an executable",
        }))
    }

    async fn get_executable_logs(
        &self,
        request: Request<GetExecutableLogsRequest>,
    ) -> Result<Response<Self::GetExecutableLogsStream>, Status> {
        let ExecutableLogs { permit, options } =
            admit::observe::executable_logs(request).map_err(|error| reply::status(&error))?;
        Ok(Response::new(self.executable_log(permit, options).await?))
    }
}

/// A zone's stream as it is, but for the connection's own errors. It takes up `room` while it is open.
pub(super) fn forward<T: Send + 'static>(
    zone: Zone,
    room: Room,
    answers: Result<Response<Streaming<T>>, Status>,
) -> Result<Answers<T>, Status> {
    let answers = answers.map_err(|status| reply::from_zone(&zone.path(), status))?.into_inner();
    Ok(Box::pin(answers.map(move |answer| {
        let _room = &room;
        answer.map_err(|status| reply::from_zone(&zone.path(), status))
    })))
}

fn batches(reader: Reader) -> impl Stream<Item = Batch> + Send {
    stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) })
}

fn entries(reader: Reader) -> Answers<GetExecutableLogsResponse> {
    Box::pin(batches(reader).map(|batch| Ok(response(batch))))
}

fn response(batch: Batch) -> GetExecutableLogsResponse {
    GetExecutableLogsResponse {
        entries: batch.entries.into_iter().map(log_entry).collect(),
        missed_entries: batch.missed_entries,
        missed_bytes: batch.missed_bytes,
    }
}

fn log_entry(entry: Entry) -> LogEntry {
    LogEntry {
        unix_nanos: entry.unix_nanos,
        channel_type: channel_type(Some(entry.channel)).into(),
        data: entry.data,
        partial: entry.partial,
    }
}

fn channel_type(channel: Option<Channel>) -> LogChannelType {
    match channel {
        None => LogChannelType::Unspecified,
        Some(Channel::Stdout) => LogChannelType::Stdout,
        Some(Channel::Stderr) => LogChannelType::Stderr,
    }
}

fn timestamp(unix_nanos: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: unix_nanos.div_euclid(NANOS_PER_SECOND),
        // Less than a second of nanoseconds fits.
        nanos: i32::try_from(unix_nanos.rem_euclid(NANOS_PER_SECOND)).unwrap_or(0),
    }
}

/// The items of v0 for a batch. What was missed is an item of the daemon's own: v0 has no field for it.
fn items(batch: Batch, channel: impl Fn(Channel) -> String) -> Vec<LogItem> {
    let seconds = |entry: &Entry| entry.unix_nanos.div_euclid(NANOS_PER_SECOND);
    let missed = (batch.missed_entries > 0).then(|| LogItem {
        channel: DAEMON.to_owned(),
        line: format!(
            "{} lines ({} bytes) are missing here: they came faster than they were read",
            batch.missed_entries, batch.missed_bytes
        ),
        timestamp: batch.entries.first().map_or(0, seconds),
    });
    let entries = batch.entries.iter().map(|entry| LogItem {
        channel: channel(entry.channel),
        line: String::from_utf8_lossy(&entry.data).into_owned(),
        timestamp: seconds(entry),
    });
    missed.into_iter().chain(entries).collect()
}

fn item_channel(name: &str, channel: Channel) -> String {
    match channel {
        Channel::Stdout => format!("{name}::stdout"),
        Channel::Stderr => format!("{name}::stderr"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aurae_authz::{Action, Contract, Form, Policies, Principal, Question, authorize_inside};
    use aurae_model::ExecutableName;
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::runtime::executables::NoSuchExecutable;

    /// One executable, `app`, whose process is 42.
    #[derive(Clone)]
    struct OneExecutable(LogRing);

    impl Outputs for OneExecutable {
        type Error = NoOutput;

        fn of_executable(
            &self,
            cell: Option<&CellPath>,
            name: &ExecutableName,
        ) -> Result<Output, NoOutput> {
            match (cell, name.as_str()) {
                (Some(cell), _) => Err(NoOutput::NoCells(cell.clone())),
                (None, "app") => Ok(Output::Here(self.0.clone())),
                (None, _) => Err(NoSuchExecutable(name.clone()).into()),
            }
        }

        fn of_process(&self, pid: i32) -> Result<ProcessOutput, NoOutput> {
            match pid {
                42 => Ok(ProcessOutput::Here { name: "app".into(), ring: self.0.clone() }),
                _ => Err(NoOutput::Process(pid)),
            }
        }
    }

    fn observe(ring: &LogRing) -> Observe<OneExecutable> {
        Observe { daemon: LogRing::new(0), outputs: OneExecutable(ring.clone()) }
    }

    fn permitted<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        let permit = authorize_inside(&Principal::parent(), Action::new("/x")).unwrap();
        request.extensions_mut().insert(permit);
        request
    }

    fn logs_of(name: &str) -> GetExecutableLogsRequest {
        GetExecutableLogsRequest { executable_name: name.into(), ..Default::default() }
    }

    async fn all<T>(answers: Answers<T>) -> Vec<T> {
        answers.map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn bytes_that_are_not_utf_8_survive() {
        let ring = LogRing::new(4096);
        ring.push(Channel::Stdout, b"\xff\xfe", false);
        ring.push(Channel::Stderr, b"begun", true);
        let answer = observe(&ring).get_executable_logs(permitted(logs_of("app"))).await.unwrap();
        let [response] = all(answer.into_inner()).await.try_into().unwrap();
        let entries = response.entries;
        assert_eq!(entries[0].data.as_ref(), b"\xff\xfe");
        assert_eq!(entries[0].channel_type(), LogChannelType::Stdout);
        assert!(!entries[0].partial && entries[0].unix_nanos > 0);
        assert!(entries[1].partial);
        assert_eq!(entries[1].channel_type(), LogChannelType::Stderr);
    }

    #[tokio::test]
    async fn a_stream_of_a_process_ends_with_it_and_names_the_channel() {
        let ring = LogRing::new(4096);
        ring.push(Channel::Stdout, b"\xffout", false);
        ring.push(Channel::Stderr, b"err", false);
        ring.close();
        let wire = GetSubProcessStreamRequest { process_id: 42, ..Default::default() };
        let answer = observe(&ring).get_sub_process_stream(permitted(wire)).await.unwrap();
        let items = all(answer.into_inner()).await.into_iter().map(|answer| answer.item.unwrap());
        let items: Vec<_> = items.map(|item| (item.channel, item.line)).collect();
        let expected = [("app::stdout", "\u{fffd}out"), ("app::stderr", "err")];
        assert_eq!(items, expected.map(|(channel, line)| (channel.to_owned(), line.to_owned())));
    }

    #[tokio::test]
    async fn a_client_of_v0_is_told_what_it_missed() {
        let ring = LogRing::new(4096);
        for _ in 0..1000 {
            ring.push(Channel::Stdout, b"0123456789", false);
        }
        ring.close();
        let wire = GetSubProcessStreamRequest { process_id: 42, ..Default::default() };
        let answer = observe(&ring).get_sub_process_stream(permitted(wire)).await.unwrap();
        let items = all(answer.into_inner()).await;
        let first = items[0].item.clone().unwrap();
        assert_eq!(first.channel, "auraed");
        let missed = 1000 - (items.len() - 1);
        assert!(
            first.line.starts_with(&format!("{missed} lines ({} bytes)", missed * 10)),
            "{first:?}"
        );
    }

    #[tokio::test]
    async fn what_does_not_exist_is_not_found() {
        let observe = observe(&LogRing::new(0));
        let refused = observe.get_executable_logs(permitted(logs_of("other"))).await.err().unwrap();
        assert_eq!(refused.code(), Code::NotFound);
        assert_eq!(refused.message(), "executable other does not exist");
        let wire = GetSubProcessStreamRequest { process_id: 7, ..Default::default() };
        let refused = observe.get_sub_process_stream(permitted(wire)).await.err().unwrap();
        assert_eq!(refused.code(), Code::NotFound);
    }

    #[test]
    fn the_output_of_a_process_is_for_those_who_may_read_it_where_it_was_found() {
        let contract = Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET).unwrap();
        let text = "permit (principal in Role::\"reader\", action in Action::\"read\", resource);\n\
             forbid (principal, action in Action::\"observe\", resource in Cell::\"cells/deaf\");\n\
             forbid (principal, action, resource in Cell::\"cells/blind\");\n\
             forbid (principal, action in Action::\"observe\", resource in Cell::\"cells/web/cells/deaf\");";
        let policies = Policies::parse(Arc::new(contract), [("test.cedar", text)]).unwrap();
        let policies = Arc::new(policies);
        let principal = &Principal::named(Form::Spiffe, "spiffe://a/reader/x").unwrap();
        let method = policies.contract().action("observe.GetSubProcessStream").unwrap();
        let object = &Object::Zone(None);
        let asked = Question { principal, method, object, request: None };
        let permit = policies.authorize(asked).unwrap().narrow(Node).unwrap();
        let wire = GetSubProcessStreamRequest { process_id: 42, ..Default::default() };
        let may_read = |zone: &str| {
            let zone = CellPath::parse(zone, "a test").unwrap();
            may_read_in(&permit, zone, &wire.encode_to_vec())
        };
        assert_eq!(may_read("open"), Ok(true));
        assert_eq!(may_read("blind"), Ok(false), "it is told that there is no such process");
        for zone in ["deaf", "web"] {
            let denied = may_read(zone).unwrap_err();
            assert!(!denied.is_hidden(), "{denied}");
            assert!(denied.to_string().contains(&format!("on cells/{zone}: ")), "{denied}");
        }
    }

    #[tokio::test]
    async fn the_stream_of_signals_says_what_to_use_instead() {
        let observe = observe(&LogRing::new(0));
        let wire = GetPosixSignalsStreamRequest::default();
        let refused = observe.get_posix_signals_stream(permitted(wire)).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(refused.message().contains("CellService/Wait"), "{refused}");
    }
}
