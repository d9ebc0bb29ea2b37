//! What a script can use: the language, modules, globals, its arguments.

#![expect(dead_code, reason = "each test file uses a part of the support")]

mod support;

use support::{Scripts, run, run_stdin};

/// Runs a script of checks: each line it prints is one that failed.
#[track_caller]
fn holds(checks: &str) {
    let prelude = "const check = (what: string, actual: unknown, expected: unknown) => {
  const [a, e] = [actual, expected].map((each) => JSON.stringify(each));
  if (a !== e) console.log(`${what}: ${a} instead of ${e}`);
};\n";
    run(&format!("{prelude}{checks}")).prints("");
}

#[test]
fn typescript_is_lowered() {
    run("enum Color { Red, Green = 5, Blue }
const enum Small { One = 1 }
namespace Deep { export namespace Inside { export const x = 3; } }
abstract class Base<T> { constructor(protected readonly value: T, public n?: number) {} abstract get(): T; }
class Sub extends Base<string> { get(): string { return this.value!; } }
function over(a: string): string; function over(a: number): number; function over(a: any) { return a; }
const tuple = [1, 'a'] as const satisfies readonly [number, string];
type T = typeof tuple; declare const nothing: T;
console.log(Color.Blue, Color[5], Small.One, Deep.Inside.x, new Sub('v').get(), over(1), <number>tuple[0]);
")
    .prints("6 Green 1 3 v 1 1\n");
}

#[test]
fn decorators_are_lowered() {
    run("const log: string[] = [];
const mark = (name: string) => (_target: any, member?: any, at?: any) => { log.push(`${name}:${member ?? 'class'}:${typeof at}`); };
function double(_t: any, _n: string, d: PropertyDescriptor) { const f = d.value; d.value = function () { return 2 * f.call(this); }; }
@mark('a') @mark('b')
class C { @mark('p') x = 1; @double y() { return 21; } z(@mark('arg') _q: number) {} }
console.log(new C().y(), log.join(' '));
")
    .prints("42 p:x:undefined arg:z:number b:class:undefined a:class:undefined\n");
}

#[test]
fn resources_are_disposed_in_reverse_however_the_block_ends() {
    run("await using last = { async [Symbol.asyncDispose]() { console.log('module'); } };
const make = (name: string) => ({ name, [Symbol.dispose]() { console.log('sync', name); }, async [Symbol.asyncDispose]() { await null; console.log('async', name); } });
function uses() { return typeof last; }
async function work() {
  using a = make('a');
  await using b = make('b');
  await using none = null;
  throw new Error(`with ${a.name} ${b.name} ${none}`);
}
await work().catch((e) => console.log(e.message));
try {
  using x = { [Symbol.dispose]() { throw new Error('x'); } };
  throw new Error('body');
} catch (e: any) { console.log(e.name, e.error.message, e.suppressed.message); }
console.log(uses());
")
    .prints("async b\nsync a\nwith a b null\nSuppressedError x body\nobject\nmodule\n");
}

#[test]
fn modules_are_files_json_and_what_is_embedded() {
    let scripts = Scripts::new(&[
        (
            "main.ts",
            "import { name, again } from './lib/a.ts';\nimport data from './data.json' with { type: 'json' };\nimport * as runtime from 'aurae:runtime';\nimport { args } from '@aurae/sdk/runtime';\nconst lazy = await import('./lib/b.js');\nconsole.log(name, again(), data.list, runtime.args === args, lazy.default, import.meta.main, import.meta.url.startsWith('file:///'), import.meta.filename.endsWith('/main.ts'));\n",
        ),
        (
            "lib/a.ts",
            "import type { Nothing } from './nothing.ts';\nimport b from './b.js';\nexport const name: string = 'a';\nexport const again = () => b;\n",
        ),
        ("lib/b.js", "export default import.meta.main ? 'main' : 'b';\n"),
        ("data.json", "{\"list\": [1, 2]}"),
    ]);
    scripts.run(&["main.ts"]).prints("a b [1, 2] true b true true true\n");
}

#[test]
fn an_import_map_gives_names_to_files() {
    let scripts = Scripts::new(&[
        ("main.ts", "import x from 'lib/x.ts';\nimport y from 'y';\nconsole.log(x, y);"),
        ("map.json", "{\"imports\": {\"lib/\": \"./deep/\", \"y\": \"./deep/y.ts\"}}"),
        ("deep/x.ts", "export default 'x';"),
        ("deep/y.ts", "export default 'y';"),
    ]);
    scripts.run(&["--import-map", "map.json", "main.ts"]).prints("x y\n");
}

#[test]
fn code_comes_from_the_command_line_and_from_standard_input_too() {
    let scripts = Scripts::new(&[("x.ts", "export const x: number = 7;")]);
    scripts.run(&["-e", "import { x } from './x.ts'; console.log(x as number)"]).prints("7\n");
    run_stdin("const x: number = 3; console.log(x);").prints("3\n");
}

#[test]
fn a_script_can_be_a_program() {
    let scripts = Scripts::new(&[(
        "program",
        "#!/usr/bin/env auraescript\nimport { args } from 'aurae:runtime';\nconst all: readonly string[] = args;\nconsole.log(all);\n",
    )]);
    scripts.run(&["./program", "-x", "--node", "a b"]).prints("[\"-x\", \"--node\", \"a b\"]\n");
}

#[test]
fn the_runtime_module_has_environment_files_and_exit() {
    let scripts = Scripts::new(&[(
        "main.ts",
        "import { env, exit, readTextFile, readTextFileSync, writeTextFile } from 'aurae:runtime';
await writeTextFile('out.txt', `${env.GREETING} ${env.NOT_THERE}`);
console.log(await readTextFile('out.txt'), readTextFileSync('out.txt').length);
await readTextFile('no.txt').catch((e) => console.log(e.message));
exit(7);
console.log('not reached');
",
    )]);
    let outcome = scripts.outcome(scripts.command(&["main.ts"]).env("GREETING", "häl"));
    assert_eq!(outcome.code, 7, "{}", outcome.stderr);
    assert_eq!(
        outcome.stdout,
        "häl undefined 13\nfailed to read no.txt: No such file or directory (os error 2)\n"
    );
}

#[test]
fn console_shows_values() {
    run("console.log('text', 1, -0, 10n, true, null, undefined, Symbol('s'), () => 1, class A {});
console.log({ a: 1, 'b-c': [1, , 2], [Symbol('k')]: new Set(['x']), get d() { return 1; } });
console.log(new Uint8Array([1, 2]), new Map([[{ k: 1 }, 'v']]), new Date(0), /x/g, Object.create(null));
const loop: any = { name: 'loop' }; loop.self = loop; console.log(loop);
console.log('%s is %d and %o, 100%%', 'x', 42, { y: 1 }, 'rest');
console.log({ deep: { deeper: { deepest: { bottom: { below: { lost: 1 } } } } } });
console.log(Array.from({ length: 40 }, (_, i) => i * 1000));
console.group('group'); console.log('in\\nside'); console.groupEnd(); console.log('out');
console.table([{ a: 1, b: 'x' }, { a: 22 }]);
console.log('lone \\ud800 surrogate');
console.log();
")
    .prints(
        "text 1 -0 10n true null undefined Symbol(s) [Function (anonymous)] [class: A]
{ a: 1, \"b-c\": [1, <empty>, 2], d: [Getter], [Symbol(k)]: Set(1) { \"x\" } }
Uint8Array(2) [1, 2] Map(1) { { k: 1 } => \"v\" } 1970-01-01T00:00:00.000Z /x/g [Object: null prototype] {}
{ name: \"loop\", self: [Circular] }
x is 42 and { y: 1 }, 100% rest
{ deep: { deeper: { deepest: { bottom: { below: [Object] } } } } }
[
  0,
  1000,
  2000,
  3000,
  4000,
  5000,
  6000,
  7000,
  8000,
  9000,
  10000,
  11000,
  12000,
  13000,
  14000,
  15000,
  16000,
  17000,
  18000,
  19000,
  20000,
  21000,
  22000,
  23000,
  24000,
  25000,
  26000,
  27000,
  28000,
  29000,
  30000,
  31000,
  32000,
  33000,
  34000,
  35000,
  36000,
  37000,
  38000,
  39000
]
group
  in
  side
out
   a   b
0  1   x
1  22
lone \u{fffd} surrogate

",
    );
}

#[test]
fn errors_go_to_standard_error() {
    let outcome = run(
        "console.error('e'); console.warn('w'); console.assert(1 > 2, 'math'); console.info('i');",
    );
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "i\n"));
    assert_eq!(outcome.stderr, "e\nw\nAssertion failed: math\n");
}

#[test]
fn timers_run_in_the_order_of_their_times() {
    run("setTimeout(() => console.log('b'), 20);
setTimeout((x: string) => console.log(x), 0, 'a');
const gone = setTimeout(() => console.log('never'), 5); clearTimeout(gone);
let n = 0; const every = setInterval(() => { console.log('tick', ++n); if (n === 3) clearInterval(every); }, 30);
queueMicrotask(() => console.log('first'));
")
    .prints("first\na\nb\ntick 1\ntick 2\ntick 3\n");
}

#[test]
fn text_is_encoded_and_decoded() {
    holds("const bytes = new TextEncoder().encode('aé€😀');
check('bytes', [...bytes], [97, 195, 169, 226, 130, 172, 240, 159, 152, 128]);
const decoder = new TextDecoder(); let text = '';
for (const byte of bytes) text += decoder.decode(new Uint8Array([byte]), { stream: true });
check('stream', text + decoder.decode(), 'aé€😀');
check('bom', new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 65])), 'A');
check('lossy', new TextDecoder().decode(new Uint8Array([65, 255])), 'A\\ufffd');
try { new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255])); console.log('not fatal'); } catch (e) { check('fatal', (e as Error).name, 'TypeError'); }
check('into', new TextEncoder().encodeInto('€€', new Uint8Array(4)), { read: 1, written: 3 });
check('base64', atob(btoa('xyz')), 'xyz');
");
}

#[test]
fn urls_follow_the_standard() {
    holds("const url = new URL('../c?x=1#h', 'https://me:pw@example.org:8443/a/b/');
check('href', url.href, 'https://me:pw@example.org:8443/a/c?x=1#h');
check('parts', [url.host, url.port, url.pathname, url.search, url.hash, url.origin], ['example.org:8443', '8443', '/a/c', '?x=1', '#h', 'https://example.org:8443']);
url.searchParams.append('y', 'a b&'); check('append', url.search, '?x=1&y=a+b%26');
url.search = '?z=%C3%A4+1'; check('reset', url.searchParams.get('z'), 'ä 1');
url.port = '443'; check('default port', url.host, 'example.org');
check('idna', new URL('https://bücher.example').hostname, 'xn--bcher-kva.example');
check('canParse', [URL.canParse('x'), URL.canParse('x:y')], [false, true]);
check('json', JSON.stringify({ url: new URL('a:b') }), '{\"url\":\"a:b\"}');
const params = new URLSearchParams({ a: '1', b: '2' }); params.set('a', '3'); params.delete('b'); params.append('a', '4');
check('params', [params.toString(), params.getAll('a'), params.has('a', '4'), params.size], ['a=3&a=4', ['3', '4'], true, 2]);
try { new URL('no'); console.log('parsed'); } catch (e) { check('invalid', (e as Error).name, 'TypeError'); }
");
}

#[test]
fn aborting_follows_the_standard() {
    holds("const controller = new AbortController(); const seen: string[] = [];
controller.signal.addEventListener('abort', () => seen.push('listener'), { once: true });
controller.signal.onabort = () => seen.push('handler');
const any = AbortSignal.any([new AbortController().signal, controller.signal]);
any.addEventListener('abort', { handleEvent() { seen.push('any'); } });
controller.abort(); controller.abort();
check('seen', seen, ['handler', 'listener', 'any']);
check('reason', [controller.signal.reason.name, any.aborted], ['AbortError', true]);
try { controller.signal.throwIfAborted(); console.log('no'); } catch (e) { check('thrown', (e as Error).name, 'AbortError'); }
const timeout = AbortSignal.timeout(5);
await new Promise<void>((done) => { timeout.onabort = () => done(); setTimeout(() => {}, 20); });
check('timeout', timeout.reason.name, 'TimeoutError');
check('abort', AbortSignal.abort('why').reason, 'why');
class Thing extends EventTarget {} const thing = new Thing(); let detail = 0;
thing.addEventListener('x', (event) => { detail = (event as CustomEvent).detail; event.preventDefault(); });
check('prevented', thing.dispatchEvent(new CustomEvent('x', { detail: 5, cancelable: true })), false);
check('detail', detail, 5);
");
}

#[test]
fn a_time_limit_does_not_keep_a_script_alive() {
    run("AbortSignal.timeout(3_600_000); console.log('over');").prints("over\n");
}

#[test]
fn values_are_cloned() {
    holds("const shared = { x: 1 };
const value: any = { d: new Date(5), m: new Map([[1, shared]]), s: new Set([shared]), b: new Uint8Array([1, 2]), r: /x/gi, e: new RangeError('e'), shared, n: 5n };
value.self = value;
const copy = structuredClone(value);
check('copies', [copy !== value, copy.d instanceof Date, copy.m.get(1) === copy.shared, copy.s.has(copy.shared), copy.self === copy, copy.n === 5n], [true, true, true, true, true, true]);
check('contents', [copy.d.getTime(), [...copy.b], copy.r.flags, copy.e instanceof RangeError, copy.e.message], [5, [1, 2], 'gi', true, 'e']);
try { structuredClone(() => 1); console.log('cloned'); } catch (e) { check('functions', (e as Error).name, 'DataCloneError'); }
");
}

#[test]
fn random_numbers_are_random() {
    holds("const a = crypto.randomUUID(); const b = crypto.randomUUID();
check('uuid', [/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(a), a !== b], [true, true]);
const words = crypto.getRandomValues(new Uint32Array(8));
check('values', new Set(words).size > 1, true);
try { crypto.getRandomValues(new Uint8Array(70_000)); console.log('too many'); } catch (e) { check('limit', (e as Error).name, 'RangeError'); }
");
}

#[test]
fn headers_follow_the_standard() {
    holds("const headers = new Headers({ 'X-A': ' 1 ' }); headers.append('x-a', '2'); headers.set('B', '3');
check('entries', [...headers], [['b', '3'], ['x-a', '1, 2']]);
check('get', [headers.get('X-a'), headers.get('none'), headers.has('b')], ['1, 2', null, true]);
check('copy', [...new Headers(headers)].length, 2);
try { headers.set('no spaces', '1'); console.log('set'); } catch (e) { check('name', (e as Error).name, 'TypeError'); }
");
}

#[test]
fn the_language_is_recent() {
    holds("check('iterators', [1, 2, 3].values().map((x) => x * 2).filter((x) => x > 2).toArray(), [4, 6]);
check('groups', Object.groupBy([1, 2, 3], (x) => (x % 2 ? 'odd' : 'even')), { odd: [1, 3], even: [2] });
check('arrays', [[3, 1].toSorted(), [1, 2].with(0, 9), [1, 2].at(-1)], [[1, 3], [9, 2], 2]);
check('async', await Array.fromAsync((async function* () { yield 1; yield 2; })()), [1, 2]);
check('private', new (class { #x = 1; has(o: object) { return #x in o; } })().has({}), false);
check('resolvers', typeof Promise.withResolvers().resolve, 'function');
check('sets', [...new Set([1, 2]).union(new Set([3]))], [1, 2, 3]);
");
}
