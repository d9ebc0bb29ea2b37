//! Whole command lines against a node that is made up: what they say, what they ask, how they exit.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

#[path = "sessions/interruptions.rs"]
mod interruptions;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use support::Bed;
use time::{Duration, OffsetDateTime};

#[test]
fn cells_are_allocated_listed_inspected_and_freed() {
    Bed::new().session(
        "cells",
        &[
            &["cell", "allocate", "web", "--cell-cpu-weight", "5", "--memory-max", "64MiB"],
            &["cell", "allocate", "taken"],
            &["cell", "allocate", ""],
            &["cell", "list"],
            &["cell", "list", "--output", "json"],
            &["cell", "inspect", "web"],
            &["cell", "start", "web", "main", "--executable-command", "true"],
            &["cell", "wait", "web", "main"],
            &["cell", "signal", "web", "main", "TERM"],
            &["cell", "stop", "web", "main"],
            &["cell", "free", "web"],
            &["cell", "free", "absent"],
        ],
    );
}

#[test]
fn arguments_become_the_fields_that_they_name() {
    let bed = Bed::new();
    let limits = [
        "cell",
        "allocate",
        "web",
        "--cell-cpu-max",
        "400ms",
        "--cpu-period",
        "250",
        "--memory-max",
        "1.5GiB",
        "--memory-oom-group",
        "--isolate-process",
        "--isolate-network=false",
        "--io-devices",
        "device=/dev/vda,read-bytes-per-second=1MiB",
        "--io-devices",
        r#"{"device": "8:0"}"#,
    ];
    assert!(bed.run(&limits).status.success());
    let start = [
        "cell",
        "start",
        "",
        "main",
        "--env",
        "A=1",
        "--executable-env",
        "B=x=y",
        "--uid",
        "7",
        "--",
        "sh",
        "-c",
        "exit 0",
    ];
    assert!(bed.run(&start).status.success());
    assert!(bed.run(&["cell", "stop", "web", "main", "--grace-period", "1.5s"]).status.success());
    assert!(bed.run(&["cell", "signal", "web", "main", "sigkill", "--tree"]).status.success());
    assert!(
        bed.run(&["observe", "get-sub-process-stream", "42", "--channel-type", "stderr"])
            .status
            .success()
    );
    support::assert_snapshot("requests", &(bed.fake.calls().join("\n") + "\n"));
}

#[test]
fn the_node_and_its_daemon_are_asked() {
    Bed::new().session(
        "node",
        &[
            &["discovery", "discover"],
            &["discovery", "discover", "-o", "json"],
            &["health", "check", "--service", "ready"],
            &["health", "check", "--service", "nonsense"],
            &["node", "info"],
            &["node", "kernel-log"],
            &["node", "power-off"],
            &["node", "reboot", "--timeout", "50ms"],
            &["observe", "get-aurae-daemon-log-stream"],
            &["observe", "get-sub-process-stream", "42"],
            &["observe", "get-sub-process-stream", "42", "-o", "json"],
            &["observe", "get-posix-signals-stream"],
        ],
    );
}

#[test]
fn a_wrong_command_line_is_a_usage_error_that_says_what_is_right() {
    Bed::new().session(
        "usage",
        &[
            &["sell", "list"],
            &["cell", "lst"],
            &["cell", "start", "web"],
            &["cell", "allocate", "web", "--memory-max", "much"],
            &["cell", "allocate", "web", "--cpu-weight", "-1"],
            &["cell", "allocate", "web", "--io-devices", "disk=/dev/vda"],
            &["cell", "signal", "web", "main", "NOPE"],
            &["cell", "start", "web", "main", "--env", "novalue"],
            &["cell", "start", "web", "main", "--args", "a", "--", "b"],
            &["observe", "get-sub-process-stream", "42", "--channel-type", "stdin"],
            &["--node", "a", "--all", "cell", "list"],
            &["--socket", "localhost:8080", "cell", "list"],
            &["--timeout", "soon", "cell", "list"],
            &["--zone", "we_b", "cell", "list"],
            &["--zone", "cells/web/pods/p1", "cell", "list"],
        ],
    );
}

#[test]
fn without_a_configuration_or_a_daemon_the_error_says_what_to_do() {
    let bed = Bed::new();
    std::fs::write(bed.path().join("odd"), "[auth]\nca = 1\n").unwrap();
    bed.session(
        "connection",
        &[
            &["--config", "absent", "cell", "list"],
            &["--config", "odd", "cell", "list"],
            &["--socket", "/no/such.sock", "cell", "list"],
            &["--node", "db1", "cell", "list"],
        ],
    );
    let mut command = bed.aer(&["cell", "list"]);
    let output = command.env_remove("AURAE_CONFIG").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let home = bed.path().join(".aurae/config");
    assert!(said.contains(home.to_str().unwrap()) && said.contains("/etc/aurae/config"), "{said}");
}

#[test]
fn a_client_of_another_authority_is_told_so() {
    let (bed, other) = (Bed::new(), Bed::new());
    for file in ["me.crt", "me.key"] {
        std::fs::copy(other.path().join(file), bed.path().join(file)).unwrap();
    }
    bed.session("stranger", &[&["cell", "list"]]);
}

/// Puts another certificate in the place of the client's, by the node's own authority.
fn replace_certificate(bed: &Bed, change: impl FnOnce(&mut CertificateParams)) {
    let read = |name: &str| std::fs::read_to_string(bed.path().join(name)).unwrap();
    let authority_key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let authority = Issuer::from_ca_cert_pem(&read("ca.crt"), authority_key).unwrap();
    let mut params = CertificateParams::default();
    change(&mut params);
    let certificate = params.signed_by(&KeyPair::from_pem(&read("me.key")).unwrap(), &authority);
    std::fs::write(bed.path().join("me.crt"), certificate.unwrap().pem()).unwrap();
}

#[test]
fn a_client_whose_certificate_is_refused_is_told_what_is_wrong_with_it_and_what_to_do() {
    let bed = Bed::new();
    let said = || {
        let output = bed.run(&["cell", "list"]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let expect = |parts: [&str; 2]| {
        let said = said();
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
    };
    let now = OffsetDateTime::now_utc();
    replace_certificate(&bed, |params| {
        (params.not_before, params.not_after) =
            (now - Duration::days(9), now - Duration::hours(30));
    });
    expect(["me.crt expired yesterday, at 20", "hint: `aer pki client DIR NAME --force` makes a"]);
    replace_certificate(&bed, |params| {
        (params.not_before, params.not_after) =
            (now + Duration::minutes(150), now + Duration::days(9));
    });
    expect(["me.crt is not valid yet: it is from in 2 hours, at 20", "hint: check this machine's"]);
    replace_certificate(&bed, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    expect(["me.crt is not for clients: its extended", "me.crt a server's? `aer pki client"]);
}

#[test]
fn several_nodes_say_each_what_came_of_it() {
    let bed = Bed::new();
    bed.add_nodes(&[("a", true), ("b", false), ("c", true)]);
    bed.session(
        "nodes",
        &[
            &["--all", "discovery", "discover"],
            &["--all", "discovery", "discover", "-o", "json"],
            &["--node", "c", "--node", "a", "cell", "free", "web"],
            &["--node", "a", "--node", "c", "cell", "free", "absent"],
            &["--node", "a", "discovery", "discover"],
            &["--node", "b", "--node", "a", "node", "kernel-log"],
            &["--node", "nobody", "discovery", "discover"],
            &["--all", "run", "web", "--", "true"],
        ],
    );
}

#[test]
fn logs_are_lines_with_or_without_their_time() {
    Bed::new().session(
        "logs",
        &[
            &["logs", "web", "main", "--timestamps"],
            &["logs", "web", "main", "--tail", "3", "--stream", "stdout"],
            &["logs", "web", "main", "-o", "json"],
        ],
    );
}

#[test]
fn changes_are_lines() {
    Bed::new()
        .session("watch", &[&["cell", "watch"], &["cell", "watch", "--after", "7", "-o", "json"]]);
}

#[test]
fn every_call_says_which_zone_it_is_for() {
    let bed = Bed::new();
    for (variable, arguments, zone) in [
        ("", &["--zone", "web/api", "cell", "list"][..], " in cells/web/cells/api"),
        ("", &["cell", "free", "db", "--zone", "cells/web"], " in cells/web"),
        ("", &["--zone", "web", "logs", "", "main"], " in cells/web"),
        ("", &["--zone", "web", "run", "job", "--", "hello"], " in cells/web"),
        ("web", &["cell", "list"], " in cells/web"),
        ("web", &["--zone", "db", "cell", "list"], " in cells/db"),
        ("web", &["--zone", "", "cell", "list"], "Request"),
    ] {
        let before = bed.fake.calls().len();
        let output = bed.aer(arguments).env("AURAE_ZONE", variable).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let calls = bed.fake.calls().split_off(before);
        assert!(!calls.is_empty() && calls.iter().all(|call| call.ends_with(zone)), "{calls:?}");
    }
}

#[test]
fn logs_keep_every_byte() {
    let output = Bed::new().run(&["logs", "web", "main"]);
    assert_eq!(output.stdout, b"hello\nno line end, and not UTF-8: \xff\x00");
    assert_eq!(output.stderr, b"oops\n");
}

#[test]
fn run_shows_every_byte_and_exits_as_the_command_did() {
    let bed = Bed::new();
    let output =
        bed.run(&["run", "--memory-max", "64MiB", "--env", "A=1", "web", "--", "hello", "-x"]);
    assert_eq!(output.stdout, b"hello\nno line end, and not UTF-8: \xff\x00");
    assert_eq!(output.stderr, b"oops\n");
    assert_eq!(output.status.code(), Some(0));
    let calls = bed.fake.calls();
    assert!(calls[0].contains("max: Some(67108864)"), "{}", calls[0]);
    assert!(calls[1].contains(r#"args: ["hello", "-x"], env: {"A": "1"}"#), "{}", calls[1]);
    assert_eq!(bed.fake.called().last().unwrap(), "Free");
}

#[test]
fn run_frees_the_cell_however_it_ends() {
    let bed = Bed::new();
    bed.session(
        "run",
        &[
            &["run", "web", "--", "fail"],
            &["run", "web", "--", "hog"],
            &["run", "web", "--", "crash"],
            &["run", "web", "--", "absent"],
            &["run", "web", "--", "forbidden"],
            &["run", "stuck", "--", "true"],
        ],
    );
    let count = |name: &str| bed.fake.called().iter().filter(|call| *call == name).count();
    assert_eq!((count("Allocate"), count("Free")), (6, 6));
}

#[test]
fn run_leaves_alone_the_cell_that_it_did_not_make() {
    let bed = Bed::new();
    bed.session("run_taken", &[&["run", "taken", "--", "true"]]);
    assert_eq!(bed.fake.called(), ["Allocate"]);
}

#[test]
fn ctrl_c_stops_the_command_frees_the_cell_and_exits_130() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let bed = Bed::new();
        let mut child = start_until(&bed, &["run", "web", "--", "sleep"], "ready\n");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{}", stderr_of(&mut child));
        let called = bed.fake.called();
        assert_eq!(called[called.len() - 2..], ["Stop", "Free"], "{called:?}");
    }
}

#[test]
fn a_run_whose_time_is_over_is_stopped_and_exits_124() {
    let bed = Bed::new();
    let output = bed.run(&["run", "--timeout", "50ms", "web", "--", "sleep"]);
    assert_eq!(output.status.code(), Some(124));
    assert_eq!(output.stderr, b"note: the time for the command is over\n");
    let called = bed.fake.called();
    assert_eq!(called[called.len() - 2..], ["Stop", "Free"], "{called:?}");
}

#[test]
fn a_reader_that_goes_away_ends_the_run_and_frees_the_cell() {
    let bed = Bed::new();
    let mut child = bed.aer(&["run", "web", "--", "sleep"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert_eq!(bed.fake.called().last().unwrap(), "Free");
}

#[test]
fn a_stream_says_what_comes_when_it_comes() {
    let bed = Bed::new();
    let mut child = start_until(&bed, &["health", "watch", "--service", "ready"], "serving\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_frees_the_cell_even_if_nobody_hears_how_it_ended() {
    let bed = Bed::new();
    let mut child = bed.aer(&["run", "web", "--", "hog"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!(bed.fake.called().last().unwrap(), "Free");
}

#[test]
fn exec_shows_what_comes_and_exits_as_the_command_did() {
    let bed = Bed::new();
    let mut child = bed
        .aer(&["exec", "-i", "--user", "7:8", "web/api", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"ready\nhello\n"[..]));
    let [call] = bed.fake.calls().try_into().unwrap();
    for part in ["cells/web/cells/api", "uid: Some(7), gid: Some(8), stdin: true", "[\"cat\"]"] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
}

#[test]
fn exec_passes_signals_on() {
    let bed = Bed::new();
    let mut child = start_until(&bed, &["exec", "web", "--", "sleep"], "ready\n");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(stderr_of(&mut child), "note: the command was ended by SIGTERM\n");
}

#[test]
fn an_end_that_is_not_told_is_no_success() {
    let output = Bed::new().run(&["exec", "web", "--", "sudden"]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(output.stderr, b"error: the node does not say how it ended\n");
}

#[test]
fn a_terminal_is_raw_meanwhile_and_as_before_afterwards() {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};
    let bed = Bed::new();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
    let end = || Stdio::from(theirs.try_clone().unwrap());
    let before = tcgetattr(&theirs).unwrap();
    let mut child = bed
        .aer(&["exec", "-it", "web", "--", "sh"])
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    while !shown.contains("rows: 24") {
        let mut chunk = [0; 512];
        let count = rustix::io::read(&ours, &mut chunk).unwrap();
        shown.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    assert!(!tcgetattr(&theirs).unwrap().local_modes.contains(LocalModes::ICANON), "{shown}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{shown}");
    assert_eq!(tcgetattr(&theirs).unwrap().local_modes, before.local_modes);
}

/// Starts a command, and waits until it wrote that line.
fn start_until(bed: &Bed, arguments: &[&str], expected: &str) -> Child {
    let mut child =
        bed.aer(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, expected, "{}", stderr_of(&mut child));
    child
}

fn stderr_of(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
    text
}

#[test]
fn help_is_what_the_proto_files_say() {
    Bed::new().session(
        "help",
        &[
            &["--help"],
            &["cell", "--help"],
            &["cell", "allocate", "--help"],
            &["cell", "start", "-h"],
            &["cell", "signal", "-h"],
            &["observe", "--help"],
            &["health", "check", "-h"],
            &["run", "-h"],
            &["exec", "-h"],
            &["attach", "-h"],
            &["logs", "-h"],
            &["cp", "--help"],
            &["pki", "init", "--help"],
            &["help", "node", "power-off"],
        ],
    );
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let bed = Bed::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = bed.run(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            script.contains("get-sub-process-stream") && script.contains("memory-max"),
            "{shell}"
        );
    }
    assert!(bed.run(&["man", "man1"]).status.success());
    for page in ["aer.1", "aer-cell-start.1", "aer-run.1", "aer-pki-init.1"] {
        assert!(bed.path().join("man1").join(page).exists(), "{page}");
    }
}
