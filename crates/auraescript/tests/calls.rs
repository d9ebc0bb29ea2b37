//! Calls to a node, over real mutual TLS.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(dead_code, reason = "each test file uses a part of the support")]

#[path = "support/fake_node.rs"]
mod fake_node;
mod support;

use std::time::{Duration, Instant};

use fake_node::FakeNode;
use support::{Outcome, Scripts};

fn run_on(node: &FakeNode, text: &str) -> Outcome {
    let text = format!(
        "import {{ connect, fanOut, nodeNames, Code, ConnectError, LogChannelType }} from '@aurae/sdk';\n{text}"
    );
    let scripts = Scripts::new(&[("main.ts", &text)]);
    scripts.outcome(scripts.command(&["main.ts"]).env("AURAE_CONFIG", node.config()))
}

/// Waits until so many calls that go on for ever have ended at the node.
fn wait_for_ended(node: &FakeNode, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while *node.state.ended.lock().unwrap() < count {
        assert!(Instant::now() < deadline, "a call goes on at the node");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_unary_call_answers_a_message() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect();
const { healthy, version } = await node.discovery.discover({});
console.log(healthy, version);
",
    )
    .prints("true 1.2.3\n");
}

#[test]
fn every_kind_of_field_makes_the_round_trip() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect('one');
await node.cells.allocate({ cell: { name: 'a', cpu: { weight: 5n, max: -1n }, cpuset: { cpus: '0-1' }, isolateProcess: true, io: { devices: [{ device: '/dev/vda', readBytesPerSecond: 18446744073709551615n }] } } });
const { cell } = await node.cells.inspect({ cellName: 'a' });
console.log(node.name, cell?.cpu?.weight, cell?.cpu?.max, cell?.cpu?.period, cell?.cpuset?.cpus, cell?.isolateProcess, cell?.io?.devices[0]?.readBytesPerSecond, cell?.memory);
",
    )
    .prints("one 5n -1n undefined 0-1 true 18446744073709551615n undefined\n");
    assert_eq!(node.state.cells(), ["a"]);
}

#[test]
fn an_error_has_code_text_metadata_and_the_line_that_called() {
    let node = FakeNode::start();
    let outcome = run_on(
        &node,
        "const node = await connect();
try {
  await node.cells.allocate({ cell: {} });
} catch (error) {
  if (!(error instanceof ConnectError)) throw error;
  console.log(Code[error.code], error.rawMessage, error.metadata.get('hint'));
  console.log(error.stack?.includes('main.ts') ?? false);
}
await node.cells.free({ cellName: 'gone' });
",
    );
    assert_eq!(
        outcome.stdout,
        "FailedPrecondition Field = cell.name; Required give it one\ntrue\n"
    );
    outcome.fails_with(
        "error: Uncaught ConnectError: [not_found] no cell gone
    at DIR/main.ts:10:18
  --> DIR/main.ts:10:18
    |
 10 | await node.cells.free({ cellName: 'gone' });
    |                  ^
",
    );
}

#[test]
fn a_value_of_the_wrong_type_names_the_field() {
    let node = FakeNode::start();
    let outcome = run_on(
        &node,
        "const node = await connect();
await node.cells.allocate({ cell: { name: 'x', memory: { max: 'much' } } } as any);
",
    );
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("aurae.cells.v0.MemoryController.max"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--> DIR/main.ts:3:"), "{}", outcome.stderr);
    assert!(node.state.cells().is_empty());
}

#[test]
fn a_zone_is_sent_with_every_call() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const zone = await connect({ zone: 'cells/web/cells/api' });
console.log((await zone.discovery.discover({}, { headers: { 'x-mine': '1' } })).version);
try {
  for await (const _ of zone.observe.getExecutableLogs({ executableName: 'main' }));
} catch (error) {
  console.log((error as ConnectError).rawMessage);
}
console.log((await (await connect()).discovery.discover({})).version);
",
    )
    .prints("cells/web/cells/api\nasked in cells/web/cells/api\n1.2.3\n");
}

#[test]
fn headers_go_out_and_come_back() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect();
let echoed: Headers | undefined;
await node.discovery.discover({}, { headers: { echo: 'back', 'echo-bin': btoa('\\x00\\xff').replace(/=+$/, '') }, onHeader: (h) => { echoed = h; } });
console.log(echoed?.get('echo'), [...atob(echoed?.get('echo-bin') ?? '')].map((c) => c.charCodeAt(0)));
",
    )
    .prints("back [0, 255]\n");
}

#[test]
fn a_stream_is_an_async_iterator_and_ends_with_its_error() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect();
try {
  for await (const { sequence, message } of node.node.kernelLog({ tail: 2 })) console.log(sequence, message);
} catch (error) {
  console.log(ConnectError.from(error).message);
}
",
    )
    .prints("0n record 0\n1n record 1\n[data_loss] the log was cut\n");
}

#[test]
fn a_stream_of_many_messages_arrives_whole_and_in_order() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect();
let next = 0n;
try {
  for await (const { sequence } of node.node.kernelLog({ tail: 2000 })) {
    if (sequence !== next++) throw new Error(`${sequence}`);
  }
} catch (error) {
  console.log(next, ConnectError.from(error).code === Code.DataLoss);
}
",
    )
    .prints("2000n true\n");
}

#[test]
fn aborting_ends_the_call_here_and_at_the_node() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect();
const stop = new AbortController();
setTimeout(() => stop.abort(), 50);
try {
  await node.discovery.discover({}, { signal: stop.signal, headers: { never: '1' } });
} catch (error) {
  console.log(Code[ConnectError.from(error).code]);
}
const streaming = new AbortController();
try {
  for await (const { message } of node.node.kernelLog({ tail: 1, follow: true }, { signal: streaming.signal })) {
    console.log(message);
    streaming.abort();
  }
} catch (error) {
  console.log(Code[ConnectError.from(error).code]);
}
await node.discovery.discover({});
",
    )
    .prints("Canceled\nrecord 0\nCanceled\n");
    wait_for_ended(&node, 2);
}

#[test]
fn a_deadline_ends_the_call() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect();
const code = async (call: Promise<unknown>) => Code[ConnectError.from(await call.catch((e) => e)).code];
console.log(await code(node.discovery.discover({}, { timeoutMs: 50, headers: { never: '1' } })));
const follow = async () => { for await (const _ of node.node.kernelLog({ follow: true }, { timeoutMs: 50 })); };
console.log(await code(follow()));
",
    )
    .prints("DeadlineExceeded\nDeadlineExceeded\n");
    wait_for_ended(&node, 2);
}

#[test]
fn calls_run_at_the_same_time() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect();
const stop = new AbortController();
const never = Array.from({ length: 20 }, () => node.discovery.discover({}, { signal: stop.signal, headers: { never: '1' } }));
const answers = await Promise.all(Array.from({ length: 50 }, () => node.discovery.discover({})));
stop.abort();
const settled = await Promise.allSettled(never);
console.log(answers.length, settled.filter(({ status }) => status === 'rejected').length);
",
    )
    .prints("50 20\n");
}

#[test]
fn leaving_the_loop_over_logs_ends_the_call_and_the_script() {
    let node = FakeNode::start();
    run_on(
        &node,
        "const node = await connect();
await using cell = await node.cell('logs');
const program = await cell.start('p', 'printf \"a\\\\nb\\\\377\\\\nrest\"');
for await (const line of program.logs()) console.log(line.output, line.text, line.bytes.length, line.partial);
for await (const line of program.logs()) { console.log(line.text); break; }
console.log((await program.wait()).exitStatus?.reason);
",
    )
    .prints("stdout a 1 false\nstdout b\u{fffd} 2 false\nstdout rest 4 true\na\n{ case: \"code\", value: 0 }\n");
    assert!(node.state.cells().is_empty());
}

#[test]
fn several_nodes_are_asked_at_once_and_fail_one_by_one() {
    let node = FakeNode::start();
    run_on(
        &node,
        "console.log(await nodeNames());
const outcomes = await fanOut(['one', 'socket', 'down', 'unknown'], async (node) => (await node.discovery.discover({})).version);
for (const o of outcomes) console.log(o.node, o.ok ? o.value : o.error.name);
const down = outcomes[2]!;
console.log(!down.ok && down.error.message.includes('127.0.0.1:1') && down.error.message.includes('help:'));
",
    )
    .prints("[\"down\", \"one\", \"socket\"]\none 1.2.3\nsocket 1.2.3\ndown ConnectError\nunknown ConfigError\ntrue\n");
}

#[test]
fn the_command_line_can_name_configuration_and_node() {
    let node = FakeNode::start();
    let scripts = Scripts::new(&[(
        "main.ts",
        "import { connect } from '@aurae/sdk';\nconsole.log((await connect()).name);\n",
    )]);
    let config = node.config();
    let arguments = ["--config", config.to_str().unwrap(), "--node", "one", "main.ts"];
    scripts.run(&arguments).prints("one\n");
}

#[test]
fn a_closed_connection_says_so() {
    let node = FakeNode::start();
    let outcome = run_on(
        &node,
        "const node = await connect();\nnode.close();\nawait node.discovery.discover({});\n",
    );
    assert!(outcome.stderr.contains("closed by this script"), "{}", outcome.stderr);
}

#[test]
fn the_libraries_can_be_imported_by_their_names() {
    let node = FakeNode::start();
    run_on(
        &node,
        "import { create, toBinary, fromBinary, toJson } from '@bufbuild/protobuf';
import { timestampFromMs, TimestampSchema } from '@bufbuild/protobuf/wkt';
import { CellSchema } from '@aurae/sdk/cells';
import { Code as Other, ConnectError as Same } from '@connectrpc/connect';
const cell = create(CellSchema, { name: 'c' });
console.log(toJson(CellSchema, fromBinary(CellSchema, toBinary(CellSchema, cell))), toJson(TimestampSchema, timestampFromMs(0)));
const node = await connect();
try { await node.cells.free({ cellName: 'x' }); } catch (e) { console.log(e instanceof Same, (e as Same).code === Other.NotFound); }
",
    )
    .prints("{ name: \"c\" } 1970-01-01T00:00:00Z\ntrue true\n");
}

/// Describes the fake node's service of streams from the client, as generated code would.
const ECHO: &str = "
import { create, createFileRegistry } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FieldDescriptorProto_Label, FieldDescriptorProto_Type } from '@bufbuild/protobuf/wkt';
const method = (name: string, serverStreaming: boolean) => ({ name, inputType: '.test.Word', outputType: '.test.Word', clientStreaming: true, serverStreaming });
const file = create(FileDescriptorProtoSchema, {
  name: 'test.proto', package: 'test', syntax: 'proto3',
  messageType: [{ name: 'Word', field: [{ name: 'text', jsonName: 'text', number: 1, type: FieldDescriptorProto_Type.STRING, label: FieldDescriptorProto_Label.OPTIONAL }] }],
  service: [{ name: 'Echo', method: [method('Chat', true), method('Collect', false)] }],
});
const service = createFileRegistry(file, () => undefined).getService('test.Echo')!;
const node = await connect();
const echo = node.client(service) as any;
";

#[test]
fn messages_go_out_and_come_in_at_the_same_time() {
    let node = FakeNode::start();
    let script = "
const heard: string[] = [];
let answered = (_: unknown) => {};
async function* words() {
  for (const text of ['one', 'two', 'three']) {
    const answer = new Promise((resolve) => { answered = resolve; });
    yield { text };
    await answer;
  }
}
for await (const { text } of echo.chat(words())) {
  heard.push(text);
  answered(text);
}
console.log(heard);
";
    run_on(&node, &format!("{ECHO}{script}")).prints("[\"one\", \"two\", \"three\"]\n");
}

#[test]
fn many_messages_of_the_client_wait_their_turn_and_get_one_answer() {
    let node = FakeNode::start();
    // Encoded messages put together are the message with the last one's field.
    let script = "
let sent = 0;
async function* words() { for (; sent < 500; sent++) yield { text: `word ${sent}` }; }
console.log((await echo.collect(words())).text, sent);
async function* broken() { yield { text: 'x' }; throw new Error('no more'); }
console.log(await echo.collect(broken()).then(() => 'answered', (e: Error) => e.message));
";
    run_on(&node, &format!("{ECHO}{script}")).prints("word 499 500\n[canceled] no more\n");
}

#[test]
fn what_changes_nothing_is_asked_again_when_the_daemon_is_replaced_and_the_rest_is_not() {
    let node = FakeNode::start();
    *node.state.refusals.lock().unwrap() = 3;
    run_on(&node, "console.log((await (await connect()).discovery.discover({})).version);\n")
        .prints("1.2.3\n");
    assert_eq!(*node.state.asked.lock().unwrap(), 4);

    *node.state.refusals.lock().unwrap() = 1;
    run_on(
        &node,
        "const node = await connect();
await node.cells.free({ cellName: 'a' }).catch((error) => console.log(error.rawMessage));
",
    )
    .prints("the daemon is being replaced\n");
    assert_eq!(*node.state.asked.lock().unwrap(), 5);
}

#[test]
fn logs_and_changes_go_on_where_they_were_when_the_daemon_is_replaced() {
    let node = FakeNode::start();
    *node.state.refusals.lock().unwrap() = 3;
    run_on(
        &node,
        "const node = await connect();
const numbers = [];
for await (const { sequence } of node.cells.watch({ onlyNew: true })) numbers.push(sequence);
console.log(numbers.join(' '));
",
    )
    .prints("10 20 30 40\n");

    *node.state.refusals.lock().unwrap() = 3;
    run_on(
        &node,
        "const node = await connect();
await node.cells.allocate({ cell: { name: 'a' } });
const cellName = 'a', executable = { name: 'it', command: 'seq 1 7' };
await node.cells.start({ cellName, executable });
const texts = [];
for await (const { entries } of node.observe.getExecutableLogs({ cellName, executableName: 'it' })) {
  texts.push(...entries.map(({ data }) => new TextDecoder().decode(data)));
}
console.log(texts.join(' '));
",
    )
    .prints("1 2 3 4 5 6 7\n");
}
