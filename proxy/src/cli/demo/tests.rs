//! The demo with a few calls: its books agree, and what it prints fits a terminal.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(flavor = "multi_thread")]
async fn the_books_of_callers_ledger_and_provider_agree() {
    let stage = Stage::set().await.unwrap();
    let (tally, books) = play(&stage, Load::of_calls(4), |_| {}).await.unwrap();
    assert_eq!(books.verdict(), Ok(()));
    let total = &tally.total;
    assert_eq!(total.calls, 28 * 4);
    assert_eq!(total.memory + total.collapsed + total.upstream, total.calls);
    assert!(total.memory + total.collapsed > 0, "nothing was repeated: {total:?}");
    assert!(total.spent > 0 && total.saved > 0 && total.unpriced == 0, "{total:?}");
    assert!(tally.classes.iter().all(|line| line.calls > 0));
    assert_eq!(tally.tenants.len(), 3);
    assert_eq!(books.most_at_once, 4, "the load never filled the provider");
    let pages = [
        page::opening(&stage, &Load::default_for(LENGTH)),
        page::tables(&tally),
        page::audit(&books),
        page::invitation(&stage),
    ];
    for line in pages.iter().flat_map(|page| page.lines()) {
        assert!(line.chars().count() <= 80, "too long for a terminal: {line}");
    }
    let dir = stage.dir();
    assert!(dir.exists());
    stage.strike().await;
    assert!(!dir.exists());
}

#[test]
fn books_that_differ_are_no_success() {
    let pair = tally::Pair { what: "tokens in", ours: 5, theirs: 6, they: "provider" };
    let good = Books { pairs: Vec::new(), failures: 0, most_at_once: 4, limit_exceeded: 0 };
    assert_eq!(good.verdict(), Ok(()));
    let differ = Books { pairs: vec![pair], ..good.clone() };
    let said = differ.verdict().unwrap_err();
    assert_eq!(said, "demo: tokens in: the ledger has 5, the provider 6");
    assert!(Books { limit_exceeded: 1, ..good.clone() }.verdict().is_err());
    assert!(Books { failures: 1, ..good }.verdict().is_err());
}

/// Goal: `POST /api/drain` ends the demo as it ends `tollgate run`, whenever it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_asked_for_over_http_ends_the_demo() {
    // After the load, and in the middle of it.
    for (calls, waits) in [(1, true), (1_000_000, false)] {
        let stage = Stage::set().await.unwrap();
        let (console, dir) = (stage.console().unwrap(), stage.dir());
        let demo = Demo { exit: false };
        let still_up = tokio::sync::Notify::new();
        let tell = |page: &str| {
            if page.contains("still up") {
                still_up.notify_one();
            }
        };
        let shown = demo.play_on(stage, Load::of_calls(calls), std::future::pending(), tell);
        let asked = async {
            if waits {
                still_up.notified().await;
            }
            let mut stream = tokio::net::TcpStream::connect(console).await.unwrap();
            let order = "POST /api/drain HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                         content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(order.as_bytes()).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        };
        let both = async { tokio::join!(shown, asked) };
        let (shown, said) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 202 ") && said.contains("\"deadline_s\":1.0"), "{said}");
        assert!(shown.is_ok() && !dir.exists());
    }
}
