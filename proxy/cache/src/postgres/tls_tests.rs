//! A real PostgreSQL behind TLS, which lets in who has a password or a certificate.

use super::{
    PostgresSettings,
    site::Site,
    stage::{Instance, PORT, Server, settings},
};
use crate::{
    generations::Target,
    outer::{
        StoreTls,
        stage::{Authority, Question},
    },
};
use std::net::Ipv4Addr;

/// No other test's, so that the port can always be had.
fn own_address() -> String {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, a | 0x80, b, c).to_string()
}

fn server(authority: &Authority, address: &str) -> Server {
    let (certificate, key) = authority.sign(address);
    let files = [("server.crt", &*certificate), ("server.key", &key), ("ca.crt", &authority.pem)];
    let listen = format!("listen_addresses={address}");
    let settings = ["ssl=on", "ssl_ca_file=ca.crt", &listen];
    let server = Server::start(PORT, &files, &settings);
    server.sql("CREATE USER cache PASSWORD 's3cret'; GRANT CREATE ON SCHEMA public TO cache");
    server
}

#[tokio::test]
async fn it_is_used_behind_tls_with_a_password_and_refused_with_less() {
    let (authority, other, address) = (Authority::new(), Authority::new(), own_address());
    let _server = server(&authority, &address);
    let with = |mode: &str, password: &str, tls: StoreTls| PostgresSettings {
        user: Some("cache".to_owned()),
        password: Some(password.to_owned()),
        tls,
        ..settings(format!("postgres://{address}/postgres{mode}"))
    };
    let ca = |of: &Authority| StoreTls { ca: Some(of.pem.clone().into_bytes()), client: None };
    for good in [
        with("?sslmode=verify-full", "s3cret", ca(&authority)),
        with("?sslmode=require", "s3cret", authority.tls(&address)),
        with("", "s3cret", ca(&authority)),
    ] {
        let a = Instance::up_with(good).await;
        let question = Question::new("question");
        a.share(&question, b"answer").await;
        assert!(a.find(&question).await.is_some());
        assert!(a.purge(Target::Tag("question")).await);
    }
    let elsewhere = PostgresSettings {
        // The same server under a name that its certificate does not have.
        ..with("?sslmode=require", "s3cret", ca(&authority))
    };
    let elsewhere = PostgresSettings {
        url: elsewhere
            .url
            .replace(&format!("//{address}"), "//localhost")
            .replace("sslmode", &format!("hostaddr={address}&sslmode")),
        ..elsewhere
    };
    for bad in [
        with("?sslmode=disable", "s3cret", StoreTls::default()),
        with("?sslmode=verify-full", "secret", ca(&authority)),
        with("?sslmode=require", "s3cret", ca(&other)),
        // What it was signed by is no concern of the system's.
        with("?sslmode=require", "s3cret", StoreTls::default()),
        elsewhere,
    ] {
        // Where the system trusts nobody, that is said at once.
        let Ok(site) = Site::new(&bad) else { continue };
        assert!(site.connect(std::time::Duration::from_secs(10)).await.is_err(), "{}", bad.url);
    }
}
