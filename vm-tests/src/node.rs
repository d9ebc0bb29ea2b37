//! Nodes, shared and own.

use std::fmt::Debug;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aurae_client::{Address, Config, Identity};
use tokio::sync::{
    OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore, SemaphorePermit,
};
use xtask::testbed::node::{Node as BedNode, Options};
use xtask::testbed::pki::Pki;
use xtask::testbed::qemu::Lifetime;
use xtask::workspace::Workspace;

use crate::api::Api;
use crate::eventually;

/// The shared node carries a hundred cells in one of the tests.
const SHARED_MEMORY_MIB: u32 = 1024;
/// Nodes of tests' own that run at once, beside the shared one: each keeps a core busy.
const OWN_NODES: usize = 1;
/// How long an orderly shutdown may take under emulation.
const TIME_TO_STOP: Duration = Duration::from_secs(90);

/// How often the power button is pressed, and how long each press has to do something.
const PRESSES: u32 = 6;
const TIME_BETWEEN_PRESSES: Duration = Duration::from_secs(10);

static SHARED: OnceCell<Result<Node, String>> = OnceCell::const_new();
/// Held for reading by tests that share the node, for writing by one that is alone on it.
static USERS: RwLock<()> = RwLock::const_new(());
static OWN: Semaphore = Semaphore::const_new(OWN_NODES);

/// A node that runs our binary as PID 1.
#[derive(Debug)]
pub struct Node {
    bed: Mutex<BedNode>,
    configuration: PathBuf,
    name: String,
    _permit: Option<SemaphorePermit<'static>>,
}

impl Node {
    /// The node that the tests of this program share.
    pub async fn shared() -> Guard<RwLockReadGuard<'static, ()>> {
        let users = USERS.read().await;
        Guard { node: shared().await, _users: users }
    }

    /// The shared node, with no other test on it until the guard is dropped.
    ///
    /// No test's own node runs meanwhile either: what is measured must not share the host.
    pub async fn alone() -> Guard<(RwLockWriteGuard<'static, ()>, SemaphorePermit<'static>)> {
        // In this order: whoever waits for the end of another test's node must not hold up those that
        // share this one.
        let own = checked(OWN.acquire().await);
        let users = USERS.write().await;
        Guard { node: shared().await, _users: (users, own) }
    }

    /// Boots a node for one test, and waits until its API answers.
    pub async fn boot(name: &str) -> Self {
        Self::boot_with(name, |_| {}).await
    }

    /// Boots a node that is different.
    pub async fn boot_with(name: &str, change: impl FnOnce(&mut Options)) -> Self {
        let node = Self::start_with(name, change).await;
        node.wait_until_up().await;
        node
    }

    /// Starts a node that may not come up.
    pub async fn start_with(name: &str, change: impl FnOnce(&mut Options)) -> Self {
        let permit = checked(OWN.acquire().await);
        let mut options = options(name);
        change(&mut options);
        checked(blocking(move || start(options, Some(permit))).await)
    }

    /// Waits until the API answers. It blocks the test's thread, which has nothing else to do.
    pub async fn wait_until_up(&self) {
        if let Err(error) = self.bed().wait_until_up() {
            panic!("{error:#}");
        }
    }

    /// A connection of its own to the API.
    pub async fn api(&self) -> Api {
        let node = checked(self.config().default_node());
        Api::new(checked(aurae_client::Client::connect(&node).await))
    }

    /// A connection, unless the node is not there at the moment.
    pub async fn try_api(&self) -> Option<Api> {
        let node = checked(self.config().default_node());
        aurae_client::Client::connect(&node).await.ok().map(Api::new)
    }

    /// A connection as somebody else; whether the node lets them in shows at the first call.
    pub async fn api_as(&self, identity: Identity) -> Result<Api, aurae_client::ConnectError> {
        let node = aurae_client::Node::new("node", self.address(), identity);
        aurae_client::Client::connect(&node).await.map(Api::new)
    }

    /// Who the tests are to every node.
    pub fn testbed_identity() -> Identity {
        let pki = checked(Pki::ensure(&checked(Workspace::find())));
        Identity {
            ca_crt: pki.file("ca.crt"),
            client_crt: pki.client_crt(),
            client_key: pki.client_key(),
        }
    }

    /// Who the tests are to the node.
    pub fn identity(&self) -> Identity {
        checked(self.config().default_node()).identity
    }

    /// Makes another port of the guest reachable, and answers where.
    pub fn forward(&self, guest_port: u16) -> Address {
        let line = format!("hostfwd_add net tcp:127.0.0.1:0-:{guest_port}");
        self.monitor("human-monitor-command", &format!(r#"{{ "command-line": "{line}" }}"#));
        let monitor = self.bed().machine().monitor();
        let port = checked(monitor.and_then(|mut qemu| qemu.forwarded_port(guest_port)));
        checked(format!("127.0.0.1:{port}").parse())
    }

    /// Where the API listens.
    pub fn address(&self) -> Address {
        checked(format!("127.0.0.1:{}", self.bed().port()).parse())
    }

    /// The clients' configuration file.
    pub fn configuration(&self) -> &PathBuf {
        &self.configuration
    }

    /// What the node said on its console so far.
    pub fn console(&self) -> String {
        xtask::testbed::console::read(&self.bed().machine().console())
    }

    /// Waits until the node says something on its console, on a line or in it.
    pub async fn console_says(&self, what: &str) {
        let waiting = format!("the console says {what:?}");
        eventually(&waiting, async || self.console().contains(what).then_some(())).await;
    }

    /// Executes a command of QEMU's monitor.
    pub fn monitor(&self, command: &str, arguments: &str) {
        let arguments = checked(arguments.parse());
        checked(
            self.bed().machine().monitor().and_then(|mut qemu| qemu.execute(command, arguments)),
        );
    }

    /// Presses the power button until the machine is off: a press before anybody listens is lost.
    pub async fn press_power_button(&self) {
        for _ in 0..PRESSES {
            self.monitor("system_powerdown", "{}");
            if self.bed().machine().wait(TIME_BETWEEN_PRESSES).is_some() {
                break;
            }
        }
        self.wait_until_off().await;
    }

    /// Fails the test unless the machine switches itself off.
    pub async fn wait_until_off(&self) {
        let ended = self.bed().machine().wait(TIME_TO_STOP);
        match ended {
            Some(status) if status.success() => {}
            Some(status) => panic!("the machine of node {} ended with {status}", self.name),
            None => panic!("node {} was not off within {} s", self.name, TIME_TO_STOP.as_secs()),
        }
    }

    fn config(&self) -> Config {
        checked(Config::read(&self.configuration))
    }

    fn bed(&self) -> MutexGuard<'_, BedNode> {
        self.bed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_console_of_failure(&self) {
        if std::thread::panicking() {
            eprintln!("{}", self.bed().report(&format!("node {}:", self.name)));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.show_console_of_failure();
        self.bed().machine().kill();
    }
}

/// The shared node, while a test uses it.
#[derive(Debug)]
pub struct Guard<L> {
    node: &'static Node,
    _users: L,
}

impl<L> Deref for Guard<L> {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node
    }
}

impl<L> Drop for Guard<L> {
    fn drop(&mut self) {
        self.node.show_console_of_failure();
    }
}

/// Booted by the first test that asks; if that fails, all others fail at once with the same words.
async fn shared() -> &'static Node {
    let booted = SHARED
        .get_or_init(|| async {
            let mut options = options("shared");
            options.memory_mib = SHARED_MEMORY_MIB;
            blocking(move || {
                let node = start(options, None)?;
                node.bed().wait_until_up()?;
                Ok(node)
            })
            .await
            .map_err(|error: anyhow::Error| format!("{error:#}"))
        })
        .await;
    match booted {
        Ok(node) => node,
        Err(error) => panic!("the shared node did not come up: {error}"),
    }
}

fn options(name: &str) -> Options {
    let workspace = checked(Workspace::find());
    // More than one program of tests may run at once.
    let directory = workspace.testbed().join(format!("vm-tests/{name}-{}", std::process::id()));
    Options::new(name, directory, Lifetime::WithUs)
}

fn start(options: Options, permit: Option<SemaphorePermit<'static>>) -> anyhow::Result<Node> {
    let name = options.name.clone();
    let bed = BedNode::start(&Workspace::find()?, options)?;
    Ok(Node { configuration: bed.configuration(), bed: Mutex::new(bed), name, _permit: permit })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    checked(tokio::task::spawn_blocking(work).await)
}

#[track_caller]
fn checked<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}
