//! TLS on both sides: which HTTP is spoken, and who is trusted.

use http::{Method, StatusCode, Version};
use serde_json::{Value, json};
use tollgate_tests::{Authority, Certified, Client, TlsFront, World};

fn files(certified: &Certified) -> Value {
    json!({ "certificate": certified.certificate, "private_key": certified.private_key })
}

/// A world whose listener speaks TLS as `localhost`.
async fn secure() -> (World, Authority) {
    let builder = World::builder();
    let authority = Authority::new(builder.dir(), "ca");
    let tls = json!({ "certificates": [files(&authority.sign("localhost"))] });
    let world = builder.set("listeners.0.tls", tls).start().await;
    (world, authority)
}

#[tokio::test]
async fn alpn_decides_which_http_is_spoken() {
    let (world, authority) = secure().await;
    for (offered, spoken) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["h2"], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let client = Client::tls(world.addr(), &authority, offered).await;
        let reply = client.send(Method::POST, "/echo", &[("x-own", "1")], "body").await;
        assert_eq!((reply.status, reply.version), (StatusCode::OK, spoken), "{offered:?}");
        assert_eq!(reply.json()["body"], "body");
        assert_eq!(reply.echoed("x-forwarded-proto"), ["https"]);
        assert_eq!(reply.echoed("host"), [world.addr().to_string()], "{offered:?}");
    }
}

#[tokio::test]
async fn who_speaks_no_tls_to_a_tls_listener_gets_nothing() {
    let (world, _authority) = secure().await;
    let mut wire = world.wire().await;
    wire.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let said = wire.closed().await;
    assert!(!said.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&said));
    assert_eq!(world.standin.counts().calls, 0);
}

#[tokio::test]
async fn the_certificate_is_the_one_for_the_name() {
    let builder = World::builder();
    let (first, second) =
        (Authority::new(builder.dir(), "ca1"), Authority::new(builder.dir(), "ca2"));
    let certificates = json!([files(&first.sign("other.test")), files(&second.sign("localhost"))]);
    let world =
        builder.set("listeners.0.tls", json!({ "certificates": certificates })).start().await;
    // Trusts the second one's authority only, and asks for its name.
    let reply = Client::tls(world.addr(), &second, &["h2"]).await.get("/echo").await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn a_caller_without_the_certificate_that_is_asked_for_is_not_served() {
    let builder = World::builder();
    let authority = Authority::new(builder.dir(), "ca");
    let tls = json!({
        "certificates": [files(&authority.sign("localhost"))],
        "client_ca": authority.file,
    });
    let world = builder.set("listeners.0.tls", tls).start().await;

    let stranger = Client::tls(world.addr(), &authority, &["http/1.1"]).await;
    assert!(stranger.try_open(Method::GET, "/echo", &[], "").await.is_err());
    assert_eq!(world.standin.counts().calls, 0);

    let known = authority.sign("caller.test");
    let client = Client::tls_as(world.addr(), &authority, &["http/1.1"], &known).await;
    assert_eq!(client.get("/echo").await.status, StatusCode::OK);
}

/// Goal: an upstream with TLS is used if, and only if, it is who it says.
#[tokio::test]
async fn an_upstream_is_trusted_by_its_own_authority_only() {
    let own = World::builder();
    let authority = Authority::new(own.dir(), "own");
    let stranger = Authority::new(own.dir(), "stranger");
    let behind = World::new().await;
    let front = TlsFront::start(&authority.sign("127.0.0.1"), behind.standin.addr()).await;
    let misnamed = TlsFront::start(&authority.sign("other.test"), behind.standin.addr()).await;
    let url = |front: &TlsFront| format!("https://{}", front.addr());

    for (url, ca, works) in [
        (url(&front), Some(&authority.file), true),
        (url(&front), Some(&stranger.file), false),
        (url(&front), None, false),
        (url(&misnamed), Some(&authority.file), false),
        // No TLS there at all.
        (format!("https://{}", behind.standin.addr()), Some(&authority.file), false),
    ] {
        let tls = ca.map_or(json!({}), |ca| json!({ "ca": ca }));
        let world = World::builder().upstream(&*url).set("upstreams.model.tls", tls).start().await;
        let reply = world.client.get("/echo").await;
        if works {
            assert_eq!(reply.status, StatusCode::OK, "{url} {ca:?}");
            assert_eq!(reply.json()["version"], "HTTP/1.1");
            let host = url.trim_start_matches("https://");
            assert_eq!(reply.echoed("host"), [host], "https upstreams are told their own");
            world.client.get("/echo").await;
            assert_eq!(front.opened(), 1, "a handshake is paid once");
        } else {
            assert_eq!(reply.refusal(), (502, "upstream_unreachable"), "{url} {ca:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start() {
    let builder = World::builder();
    let authority = Authority::new(builder.dir(), "ca");
    let (one, other) = (authority.sign("localhost"), authority.sign("other.test"));
    let mixed = json!({ "certificate": one.certificate, "private_key": other.private_key });
    let tls = json!({ "certificates": [mixed] });
    let error = builder.set("listeners.0.tls", tls).try_start().await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("localhost.crt") && error.contains("key"), "{error}");
}
