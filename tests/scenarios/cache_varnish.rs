//! A CDN before us, as Varnish is one: it answers from what we tell it, and a purge by our tags, or the
//! end of the time that is left here, has it ask again.

use crate::cache_stage::{assert_hit, assert_miss, by_url};
use http::Method;
use serde_json::json;
use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use tollgate_tests::{Client, Reply, World, until};

/// It purges by the tags of `xkey`, for who asks with PURGE.
const VCL: &str = r#"
vcl 4.1;
import xkey;
backend default { .host = "HOST"; .port = "PORT"; }
sub vcl_recv {
    if (req.method == "PURGE") {
        set req.http.purged = xkey.purge(req.http.x-tag);
        return (synth(200, req.http.purged));
    }
}
sub vcl_backend_response { set beresp.grace = 0s; }
sub vcl_deliver { set resp.http.x-hits = obj.hits; }
"#;

struct Varnish {
    dir: TempDir,
    child: Child,
}

impl Varnish {
    fn before(world: &World) -> Self {
        let dir = TempDir::new().unwrap();
        let to = world.app.addresses().listeners[0];
        let vcl = VCL.replace("HOST", &to.ip().to_string()).replace("PORT", &to.port().to_string());
        std::fs::write(dir.path().join("default.vcl"), vcl).unwrap();
        let child = Command::new("varnishd")
            .args(["-F", "-j", "none", "-a", "127.0.0.1:0", "-s", "malloc,16m"])
            .args(["-p", "thread_pools=1", "-p", "thread_pool_min=10", "-p", "shortlived=0", "-n"])
            .arg(dir.path().join("varnish"))
            .arg("-f")
            .arg(dir.path().join("default.vcl"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("varnishd is installed (Debian: apt-get install varnish varnish-modules)");
        Self { dir, child }
    }

    /// It has chosen its port itself.
    async fn client(&self) -> Client {
        let say = || async {
            let said = Command::new("varnishadm")
                .arg("-n")
                .arg(self.dir.path().join("varnish"))
                .args(["-t", "5", "debug.listen_address"])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let mut words = said.split_whitespace().skip(1);
            let (host, port) = (words.next()?, words.next()?);
            format!("{host}:{port}").parse::<SocketAddr>().ok().filter(|to| to.port() != 0)
        };
        let to = until("varnish", say, Option::is_some).await.unwrap();
        let client = Client::new(to);
        let is_up = || async { client.get("/static/up").await.status.as_u16() };
        until("its first answer", is_up, |status| *status == 200).await;
        client
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // Its child goes with it.
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap();
    }
}

async fn get(cdn: &Client, path: &str) -> Reply {
    let reply = cdn.send(Method::GET, path, &[("host", "site.example")], "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

fn is_from_cdn(reply: &Reply) -> bool {
    reply.header("x-hits") != "0"
}

#[tokio::test]
async fn varnish_holds_what_it_is_told_to_and_purges_it_by_our_tags() {
    let world = by_url()
        .set("routes.0.cache.cdn", json!({ "control": "cache-control", "tags": "xkey" }))
        .set("routes.0.cache.tags", json!(["path:{path.2}"]))
        .start()
        .await;
    let varnish = Varnish::before(&world);
    let cdn = varnish.client().await;
    // Nobody says for how long, and varnish would not know: here it is by heuristic.
    let path = "/static/a?last-modified=Sat%2C%2001%20Jan%202000%2000%3A00%3A00%20GMT";
    let other = "/static/b?cache-control=max-age%3D600";
    for path in [path, other] {
        let first = get(&cdn, path).await;
        assert_miss(&first);
        assert!(!is_from_cdn(&first) && is_from_cdn(&get(&cdn, path).await));
    }
    let calls = world.standin.counts().calls;
    let purge = cdn.send("PURGE".parse().unwrap(), "/", &[("x-tag", "path:a")], "").await;
    assert_eq!(purge.status, 200, "{purge:?}");
    let again = get(&cdn, path).await;
    assert!(!is_from_cdn(&again));
    // Purged there, and still ours to give.
    assert_hit(&again);
    assert!(is_from_cdn(&get(&cdn, other).await));
    assert_eq!(world.standin.counts().calls, calls);
}

#[tokio::test]
async fn varnish_tells_apart_what_we_tell_apart_and_keeps_nothing_that_is_somebodys_own() {
    let world = by_url()
        .set("routes.0.cache.cdn", json!({ "control": "cache-control", "tags": "xkey" }))
        .start()
        .await;
    let varnish = Varnish::before(&world);
    let cdn = varnish.client().await;
    let path = "/static/a?cache-control=max-age%3D600";
    let ask = async |headers: &[(&str, &str)]| {
        let headers = [&[("host", "site.example")], headers].concat();
        cdn.send(Method::GET, path, &headers, "").await
    };
    assert!(!is_from_cdn(&ask(&[("x-forwarded-host", "evil.example")]).await));
    assert!(!is_from_cdn(&ask(&[]).await), "what was made for another host is not for all");
    assert!(is_from_cdn(&ask(&[]).await));
    let own = "/static/own?cache-control=private%2C%20max-age%3D600&set-cookie=a%3Db";
    for _ in 0..2 {
        assert!(!is_from_cdn(&get(&cdn, own).await));
    }
}
