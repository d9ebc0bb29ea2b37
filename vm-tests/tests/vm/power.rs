//! How a node ends, and what it does when its start goes wrong.

use std::time::Duration;

use aurae_proto::cells::{DeviceRule, Executable, Security};
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::node::{InfoRequest, PowerOffRequest, RebootRequest};
use vm_tests::{Api, Node, cell, eventually, eventually_within, shell};
use xtask::testbed::node::TIME_TO_ANSWER;

/// Starts an executable that says on the console, which it may write to, when it is told to stop, and
/// waits until it listens.
async fn start_polite(api: &Api, cell: &str) {
    let script = "trap 'echo stopped in order > /dev/console; exit' TERM; echo ready; while :; do sleep 1; done";
    let console = DeviceRule { device: "/dev/console".to_owned(), access: "w".to_owned() };
    let security = Some(Security { devices: vec![console], ..Security::default() });
    let polite = Executable { security, ..shell("polite", script) };
    api.try_start(cell, polite).await.expect("it starts");
    eventually("the executable listens", async || {
        (!api.kept_logs(cell, "polite").await.is_empty()).then_some(())
    })
    .await;
}

/// When the machine was started; `None` while it is not there.
async fn boot_time(node: &Node) -> Option<i64> {
    let api = node.try_api().await?;
    let mut client = api.node.clone();
    let info = client.info(InfoRequest {});
    let info = tokio::time::timeout(Duration::from_secs(5), info).await.ok()?.ok()?;
    info.into_inner().boot_time.map(|time| time.seconds)
}

/// Waits until the machine was started later than at `before`. A second is the clock's own doubt.
async fn comes_back(node: &Node, before: i64) {
    eventually_within(TIME_TO_ANSWER, "the node comes back", async || {
        (boot_time(node).await? > before + 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn power_off_ends_the_machine_and_what_runs_on_it() {
    let node = Node::boot("power-off").await;
    let api = node.api().await;
    api.allocate(cell("busy")).await;
    start_polite(&api, "busy").await;
    api.node.clone().power_off(PowerOffRequest {}).await.expect("it begins");
    node.wait_until_off().await;
    assert!(node.console().contains("stopped in order"), "the executable got no SIGTERM");
}

#[tokio::test]
async fn the_power_button_shuts_down_in_order() {
    let node = Node::boot("power-button").await;
    let api = node.api().await;
    start_polite(&api, "").await;
    node.press_power_button().await;
    assert!(node.console().contains("stopped in order"), "the executable got no SIGTERM");
}

#[tokio::test]
async fn sigterm_to_pid_1_shuts_down() {
    let node = Node::boot("sigterm").await;
    let api = node.api().await;
    api.start("", "kill", "kill -TERM 1").await;
    node.wait_until_off().await;
}

#[tokio::test]
async fn a_node_that_reboots_comes_back_empty() {
    let node = Node::boot("reboot").await;
    let api = node.api().await;
    let before = boot_time(&node).await.expect("it is up");
    api.allocate(cell("forgotten")).await;
    api.node.clone().reboot(RebootRequest {}).await.expect("it begins");
    comes_back(&node, before).await;
    assert!(node.api().await.list().await.is_empty());
}

#[tokio::test]
async fn ctrl_alt_del_reboots() {
    let node = Node::boot("ctrl-alt-del").await;
    let before = boot_time(&node).await.expect("it is up");
    let keys = r#"{"keys":[{"type":"qcode","data":"ctrl"},{"type":"qcode","data":"alt"},{"type":"qcode","data":"delete"}]}"#;
    node.monitor("send-key", keys);
    comes_back(&node, before).await;
}

#[tokio::test]
async fn a_failed_phase_is_told_and_the_api_is_there() {
    let node = Node::boot_with("degraded", |options| {
        options.append.push("aurae.no-such-setting=1".to_owned());
        options.append.push("aurae.modules=no_such_module".to_owned());
    })
    .await;
    let api = node.api().await;
    let info = api.node.clone().info(InfoRequest {}).await.expect("info").into_inner();
    let told = format!("{:?}", info.degraded);
    assert!(told.contains("no-such-setting"), "{told}");
    assert!(told.contains("no_such_module"), "{told}");
    let discovered =
        api.discovery.clone().discover(DiscoverRequest {}).await.expect("discover").into_inner();
    assert!(!discovered.healthy);
    // Degraded is not useless.
    api.allocate(cell("still")).await;
    assert_eq!(api.run("still", "echo works").await.success(), "works\n");
    assert!(node.console().contains("no-such-setting"));
}

#[tokio::test]
async fn a_node_without_a_usable_certificate_stays_up_and_says_why() {
    let node = Node::start_with("broken-pki", |options| {
        options.files.file("etc/aurae/pki/server.key", 0o600, b"not a key".to_vec());
    })
    .await;
    node.console_says("server.key").await;
    // It did not panic or exit: the power button still works.
    node.press_power_button().await;
}

#[tokio::test]
async fn a_static_address_needs_no_dhcp() {
    let node = Node::boot_with("static", |options| {
        options.append.push("aurae.net=eth0:10.0.2.15/24,10.0.2.2".to_owned());
    })
    .await;
    let api = node.api().await;
    let info = api.node.clone().info(InfoRequest {}).await.expect("info").into_inner();
    let interface = info.interfaces.iter().find(|it| it.name == "eth0").expect("eth0");
    assert!(interface.addresses.contains(&"10.0.2.15/24".to_owned()), "{interface:?}");
    assert!(info.degraded.is_empty(), "{:?}", info.degraded);
}
