//! Certificates that are exchanged while clients are connected.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aurae_kernel::signals::listen;
use rustix::process::Signal;
use time::Duration as Length;

use super::*;
use crate::daemon::reload::Reloader;

/// How often the certificates are exchanged under load.
const SWAPS: u64 = 20;

impl Fixture {
    /// Reads the files again when they change, as the daemon does.
    fn watch(&self) {
        let mut reloader = Reloader::new(self.health.clone());
        let tls = self.tls.clone();
        let reload = move || tls.reload().map_err(|error| crate::reply::text(&error));
        reloader.add("certificates", self.tls.files().paths(), Box::new(reload));
        let hang_up = listen(Signal::HUP.as_raw()).unwrap();
        tokio::spawn(reloader.run(self.shutdown.clone(), hang_up));
    }

    async fn eventually(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect(what);
    }
}

/// A log stream of the server's, which has begun.
async fn open_stream(
    client: &Client,
) -> tonic::Streaming<aurae_proto::observe::GetAuraeDaemonLogStreamResponse> {
    let mut observe = ObserveServiceClient::new(client.channel());
    let request = GetAuraeDaemonLogStreamRequest {};
    let mut stream = observe.get_aurae_daemon_log_stream(request).await.unwrap().into_inner();
    tracing::info!("something to read");
    stream.message().await.unwrap().unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_exchanged_under_load_and_no_call_fails() {
    let fixture = Arc::new(Fixture::start());
    fixture.watch();
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..6 {
        let identity = fixture.pki.client(&format!("client-{number}"), |_| {});
        let node = pki::node(fixture.address, identity);
        let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
        clients.spawn(async move {
            let mut client = Client::connect(&node).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                // Half of them connect anew for each call.
                if number % 2 == 0 {
                    client = Client::connect(&node).await.unwrap();
                }
                let mut discovery = DiscoveryServiceClient::new(client.channel());
                let answer = discovery.discover(DiscoverRequest {}).await;
                answer.map_err(|status| client.explain(status)).unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for swap in 1..=SWAPS {
        let before = (fixture.tls.expiry(), calls.load(Ordering::Relaxed));
        fixture.pki.issue_server(Length::days(365 + i64::try_from(swap).unwrap()));
        fixture.eventually("a new certificate", |it| it.tls.expiry() != before.0).await;
        let calls = Arc::clone(&calls);
        let more = move |_: &Fixture| calls.load(Ordering::Relaxed) > before.1 + 6;
        fixture.eventually("calls after it", more).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("no call failed");
    }
    assert!(fixture.health.degraded().is_empty());
    fixture.shutdown.request(Intent::Exit);
}

#[tokio::test]
async fn who_is_revoked_is_cut_off_and_nobody_else_is() {
    let (fixture, list) = Fixture::with_list();
    let bad = fixture.connect(fixture.pki.client("bad", |_| {})).await;
    let good = fixture.connect(fixture.pki.client("good", |_| {})).await;
    let (mut cut, mut kept) = (open_stream(&bad).await, open_stream(&good).await);
    fs::write(&list, fixture.pki.revoke(&["bad"], Length::days(1))).unwrap();
    fixture.tls.reload().unwrap();

    let end =
        tokio::time::timeout(PATIENCE, async { while let Ok(Some(_)) = cut.message().await {} });
    end.await.expect("the connection was ended");
    fixture.logged(&["ending a connection", "not trusted any more", "was revoked by"]).await;
    tracing::info!("one more line");
    assert!(kept.message().await.unwrap().is_some());
    fixture.discover(fixture.pki.identity("bad", fixture.pki.path("ca.crt"))).await.unwrap_err();
}

#[tokio::test]
async fn the_clients_of_an_authority_that_was_dropped_are_cut_off() {
    let (old, new) = (Pki::called("old", None), Pki::called("new", None));
    let both = [&new, &old].map(|pki| fs::read_to_string(pki.path("ca.crt")).unwrap()).concat();
    let only = fs::read_to_string(new.path("ca.crt")).unwrap();
    fs::write(old.path("trusted.crt"), both).unwrap();
    let files = TlsFiles { authority: old.path("trusted.crt"), ..old.server() };
    let fixture = Fixture::with(old, &files);
    new.client("renewed", |_| {});
    let before = fixture.client().await;
    let after = fixture.connect(new.identity("renewed", fixture.pki.path("ca.crt"))).await;
    let (mut cut, mut kept) = (open_stream(&before).await, open_stream(&after).await);
    fs::write(fixture.pki.path("trusted.crt"), only).unwrap();
    fixture.tls.reload().unwrap();

    let end =
        tokio::time::timeout(PATIENCE, async { while let Ok(Some(_)) = cut.message().await {} });
    end.await.expect("the connection was ended");
    fixture.logged(&["ending a connection", "signed by CN=old, which is none of"]).await;
    tracing::info!("one more line");
    assert!(kept.message().await.unwrap().is_some());
}

#[tokio::test]
async fn a_bad_set_is_told_of_and_the_one_before_stays() {
    let fixture = Fixture::start();
    fixture.watch();
    let key = fs::read(fixture.pki.path("server.key")).unwrap();
    fs::write(fixture.pki.path("server.key"), "no key").unwrap();
    fixture.eventually("degraded", |it| !it.health.degraded().is_empty()).await;
    let degraded = &fixture.health.degraded()[0];
    assert_eq!(degraded.phase, "certificates");
    assert!(degraded.message.contains("server.key"), "{degraded:?}");
    fixture.discover(fixture.pki.client("alice", |_| {})).await.unwrap();
    fs::write(fixture.pki.path("server.key"), key).unwrap();
    fixture.eventually("recovered", |it| it.health.degraded().is_empty()).await;
    fixture.shutdown.request(Intent::Exit);
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told_of() {
    let fixture = Fixture::start();
    // A minute has passed, so of three and a half more than a third is left, and of one less.
    fixture.pki.issue_server(Length::seconds(150));
    fixture.tls.reload().unwrap();
    fixture.logged(&["took up new certificates"]).await;
    fixture.pki.issue_server(Length::seconds(20));
    fixture.tls.reload().unwrap();
    let line = fixture.logged(&["the node's certificate expires in", "server.crt"]).await;
    assert!(line.contains("WARN"), "{line}");
}
