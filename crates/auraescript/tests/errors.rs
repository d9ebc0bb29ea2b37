//! What the author of a script sees when something is wrong with it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(dead_code, reason = "each test file uses a part of the support")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Scripts, run};

#[test]
fn a_syntax_error_shows_the_place() {
    run("const a = 1;\nconst b: number = ;\n").fails_with(
        "error: Uncaught SyntaxError: Unexpected token
  --> DIR/main.ts:2:19
   |
 2 | const b: number = ;
   |                   ^
",
    );
}

#[test]
fn a_syntax_error_of_an_imported_file_names_that_file() {
    let scripts =
        Scripts::new(&[("main.ts", "import './lib.js';"), ("lib.js", "let x = 1;\nlet x = 2;\n")]);
    let outcome = scripts.run(&["main.ts"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("`x` has already been declared"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--> DIR/lib.js:1:5"), "{}", outcome.stderr);
}

#[test]
fn an_error_shows_the_line_as_it_was_written() {
    run("interface Much {\n  is: string;\n  erased: number;\n}\n\nenum E { A, B }\n\nfunction fail(): never {\n  throw new TypeError('no B');\n}\n\nconsole.log(E.A);\nfail();\n")
        .fails_with(
            "error: Uncaught TypeError: no B
    at fail (DIR/main.ts:9:13)
    at DIR/main.ts:13:1
  --> DIR/main.ts:9:13
   |
 9 |   throw new TypeError('no B');
   |             ^
",
        );
}

#[test]
fn a_type_mismatch_at_run_time_is_an_error_with_its_place() {
    let outcome = run("const names: any = 5;\n\nfor (const name of names) console.log(name);\n");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.starts_with("error: Uncaught TypeError: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--> DIR/main.ts:3:"), "{}", outcome.stderr);
}

#[test]
fn a_missing_file_is_named_with_what_imports_it() {
    let scripts = Scripts::new(&[
        ("main.ts", "import { x } from './lib/cells';\nx();"),
        ("lib/cells.ts", ""),
    ]);
    scripts.run(&["main.ts"]).fails_with(
        "error: Uncaught Error: cannot find module \"./lib/cells\": there is no file DIR/lib/cells
    imported from DIR/main.ts
  help: did you mean \"./lib/cells.ts\"?
",
    );
}

#[test]
fn a_missing_export_is_named() {
    let outcome = run("import { nothing } from '@aurae/sdk';\nnothing();\n");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("nothing"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("aurae:sdk"), "{}", outcome.stderr);
}

#[test]
fn a_rejected_promise_that_nobody_awaits_fails_the_run() {
    run("async function later() {\n  await null;\n  throw new Error('lost');\n}\nlater();\nsetTimeout(() => console.log('not reached'), 10_000);\n")
        .fails_with(
            "error: Uncaught (in promise) Error: lost
    at later (DIR/main.ts:3:13)
  --> DIR/main.ts:3:13
   |
 3 |   throw new Error('lost');
   |             ^
",
        );
}

#[test]
fn a_rejection_that_is_handled_in_the_same_turn_is_none() {
    run("const p = Promise.reject(new Error('x'));\np.catch(() => console.log('handled'));\n")
        .prints("handled\n");
}

#[test]
fn what_is_thrown_need_not_be_an_error() {
    run("throw { code: 7 };").fails_with("error: Uncaught { code: 7 }\n");
}

#[test]
fn causes_and_parts_of_an_error_are_shown() {
    let outcome = run(
        "throw new AggregateError([new Error('one')], 'both', { cause: new RangeError('why') });",
    );
    for part in ["AggregateError: both", "- Error: one", "Caused by: RangeError: why"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
}

#[test]
fn an_error_in_a_timer_fails_the_run() {
    run("setTimeout(() => {\n  throw new Error('late');\n}, 1);\n").fails_with(
        "error: Uncaught Error: late
    at DIR/main.ts:2:13
  --> DIR/main.ts:2:13
   |
 2 |   throw new Error('late');
   |             ^
",
    );
}

#[test]
fn a_promise_that_nothing_settles_is_reported() {
    run("console.log('before');\nawait new Promise(() => {});\n").fails_with(
        "error: DIR/main.ts waits at its top level for a promise that nothing will settle: no timer is set and no call is open\n",
    );
}

#[test]
fn too_deep_a_recursion_is_an_error_of_the_script() {
    let outcome = run(
        "const f = (): number => 1 + f();\ntry { f(); } catch (e) { console.log((e as Error).name); }\n",
    );
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "RangeError\n"), "{}", outcome.stderr);
}

#[test]
fn memory_is_limited_and_the_limit_is_named() {
    let text =
        "const all: string[] = [];\nfor (let i = 0; ; i++) all.push('x'.repeat(1000) + i);\n";
    let scripts = Scripts::new(&[("main.ts", text)]);
    let outcome = scripts.run(&["--memory-limit", "32", "main.ts"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("out of memory"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("a script may use 32 MiB; --memory-limit changes that"));
}

/// Starts a script, waits until it has said `ready`, and sends SIGINT.
fn interrupt(text: &str) -> support::Outcome {
    let scripts = Scripts::new(&[("main.ts", text)]);
    let mut child = scripts
        .command(&["main.ts"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let directory = scripts.path();
    support::Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::new(),
        stderr: String::from_utf8(output.stderr)
            .unwrap()
            .replace(directory.to_str().unwrap(), "DIR"),
    }
}

#[test]
fn ctrl_c_ends_an_endless_loop() {
    let outcome = interrupt(
        "console.log('ready');\nfunction spin() {\n  for (let i = 0; ; i++) Math.sqrt(i);\n}\nspin();\n",
    );
    assert_eq!(outcome.code, 130);
    assert!(
        outcome.stderr.starts_with("interrupted\n    at spin (DIR/main.ts:3:"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn ctrl_c_ends_an_endless_loop_of_a_promise() {
    let text = "await null;\nconsole.log('ready');\nconst p = Promise.resolve().then(() => { for (;;) {} });\nawait p;\n";
    assert_eq!(interrupt(text).code, 130);
}

#[test]
fn ctrl_c_cannot_be_caught() {
    let text =
        "console.log('ready');\nfor (;;) { try { for (;;) {} } catch {} finally { continue; } }\n";
    assert_eq!(interrupt(text).code, 130);
}

#[test]
fn ctrl_c_ends_a_script_that_waits() {
    let outcome =
        interrupt("console.log('ready');\nawait new Promise((r) => setTimeout(r, 600_000));\n");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (130, "interrupted\n"));
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_the_script() {
    // The script is in a system call that does not end: opening a FIFO that nobody writes to.
    let scripts = Scripts::new(&[(
        "main.ts",
        "import { readTextFileSync } from 'aurae:runtime';\nconsole.log('ready');\nreadTextFileSync('fifo');\n",
    )]);
    let fifo = scripts.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut child = scripts.command(&["main.ts"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = rustix::process::Pid::from_child(&child);
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_script_that_does_not_exist_is_named() {
    let scripts = Scripts::new(&[]);
    scripts.run(&["nothing.ts"]).fails_with(
        "error: failed to read the script nothing.ts: No such file or directory (os error 2)\n",
    );
}

#[test]
fn an_unknown_option_is_named() {
    Scripts::new(&[("main.ts", "")]).run(&["--bogus", "main.ts"]).fails_with(
        "error: --bogus is not an option of `auraescript run`; a script of that name is ./--bogus\n",
    );
}

#[test]
fn a_missing_configuration_names_every_place() {
    run("import { connect } from '@aurae/sdk';\nawait connect();\n").fails_with(
        "error: Uncaught ConfigError: no client configuration found: looked at /nonexistent/.aurae/config, /etc/aurae/config, /var/lib/aurae/config; write one of them (`aer pki init DIR --client NAME` makes certificates and a configuration), or name a file with --config or AURAE_CONFIG
    at DIR/main.ts:2:7
  --> DIR/main.ts:2:7
   |
 2 | await connect();
   |       ^
",
    );
}

#[test]
fn an_unknown_key_of_a_configuration_is_named() {
    let scripts = Scripts::new(&[
        ("main.ts", "import { connect } from '@aurae/sdk';\nawait connect();\n"),
        ("config", "[system]\nsokcet = \"x\"\n"),
    ]);
    let outcome = scripts.run(&["--config", "config", "main.ts"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("unknown field `sokcet`"), "{}", outcome.stderr);
}
