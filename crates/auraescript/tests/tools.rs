//! `auraescript types` and `auraescript check`.

#![expect(dead_code, reason = "each test file uses a part of the support")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use support::Scripts;

#[test]
fn declarations_and_a_configuration_are_written() {
    let scripts = Scripts::new(&[]);
    let outcome = scripts.run(&["types", "types"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let config = std::fs::read_to_string(scripts.path().join("types/tsconfig.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let paths = config["compilerOptions"]["paths"].as_object().unwrap();
    for name in ["@aurae/sdk", "aurae:sdk", "aurae:runtime", "@bufbuild/protobuf"] {
        let file = paths[name][0].as_str().unwrap();
        let text = std::fs::read_to_string(scripts.path().join("types").join(file)).unwrap();
        assert!(text.contains("export"), "{name}: {file}");
    }
}

#[test]
fn checking_without_a_compiler_says_how_to_get_one() {
    let scripts = Scripts::new(&[("main.ts", "")]);
    let outcome =
        scripts.outcome(scripts.command(&["check", "main.ts"]).env("PATH", "/nonexistent"));
    outcome.fails_with(
        "error: TypeScript's compiler is not there: looked for node_modules/.bin/tsc in DIR and above, and for tsc on the PATH
  help: `npm install typescript` beside the script gets it, or name it with --tsc
",
    );
}

/// A compiler that shows what it was told, and fails if told to.
const COMPILER: &str = "#!/bin/sh\ncat \"$2\"\nif grep -q bad.ts \"$2\"; then echo; echo 'bad.ts(1,1): error TS1'; exit 2; fi\n";

#[test]
fn the_compilers_verdict_is_ours() {
    let scripts =
        Scripts::new(&[("good.ts", ""), ("bad.ts", ""), ("node_modules/.bin/tsc", COMPILER)]);
    let compiler = scripts.path().join("node_modules/.bin/tsc");
    std::fs::set_permissions(compiler, std::fs::Permissions::from_mode(0o755)).unwrap();

    let good = scripts.run(&["check", "good.ts"]);
    assert_eq!((good.code, good.stderr.as_str()), (0, ""));
    let config: serde_json::Value = serde_json::from_str(&good.stdout).unwrap();
    assert_eq!(config["files"], serde_json::json!(["DIR/good.ts"]));
    assert_eq!(config["compilerOptions"]["noEmit"], true);

    let bad = scripts.run(&["check", "good.ts", "bad.ts"]);
    assert_eq!(bad.code, 1);
    assert!(bad.stdout.ends_with("bad.ts(1,1): error TS1\n"), "{}", bad.stdout);
}
