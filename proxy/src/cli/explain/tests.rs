//! What is explained is what would be done.

use super::*;
use crate::{
    cli::admin::exchange,
    standin::{Options, StandIn},
};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_cache::{generations::Target, key::CacheKey};
use tollgate_config::{Overrides, ProcessEnvironment, load};

const CONFIGURATION: &str = "
listeners: [{ address: '127.0.0.1:0', trusted: [10.0.0.0/8] }]
upstreams:
  model:
    endpoints: [{ url: 'http://127.0.0.1:8000' }]
stores: { redis: { urls: ['redis://127.0.0.1:1'] } }
identity: { tenant: { header: x-tenant }, user: { header: x-user } }
classes:
  - { name: vip, weight: 8 }
  - { name: normal, weight: 4, default: true }
routes:
  - name: chat
    match: { path: /v1/chat/completions, methods: [POST] }
    upstream: model
    class: { header: x-priority, map: { vip: vip } }
    max_body: 64KiB
    cache:
      mode: content
      ttl: 1h
      tiers: [{ name: memory, ttl: 10m }, redis]
      key: { versions: { kb: { header: x-kb } } }
      tags: ['kb:{header.x-kb}', 'user:{user}']
  - { name: rest, match: { path_prefix: /v1 }, upstream: model, cache: off }
cache: { namespace: test }
";

const CHAT: &str = "POST /v1/chat/completions HTTP/1.1
host: h
x-tenant: acme
x-user: ann
x-priority: vip
x-kb: 7

{\"model\":\"gpt-4o\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}
";

async fn explained(text: &str, peer: [u8; 4]) -> String {
    let overrides = Overrides::default();
    let (config, _) = load(CONFIGURATION, Path::new("."), &overrides, &ProcessEnvironment).unwrap();
    let request = request::read(text.as_bytes()).unwrap();
    let from = From { peer: IpAddr::from(peer), version: String::new() };
    explain(config, Some(request), from).await.unwrap()
}

#[tokio::test]
async fn a_credential_in_the_query_and_the_form_are_no_members_of_a_key() {
    let text = CONFIGURATION
        .replace("{ path: /v1/chat/completions, methods: [POST] }", "{ path_prefix: /v1beta }");
    let overrides = Overrides::default();
    let (config, _) = load(&text, Path::new("."), &overrides, &ProcessEnvironment).unwrap();
    let request = CHAT.replace(
        "/v1/chat/completions",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=secret&fields=a",
    );
    let request = request::read(request.as_bytes()).unwrap();
    let from = From { peer: IpAddr::from([10, 0, 0, 1]), version: String::new() };
    let page = explain(config, Some(request), from).await.unwrap();
    let (_asked, page) = page.split_once('\n').unwrap();
    assert!(page.contains("gemini, generated content, streamed"), "{page}");
    assert!(page.contains("path = /v1beta/models/gemini-2.5-flash:generateContent\n"), "{page}");
    assert!(page.contains("query = fields=a\n"), "{page}");
    assert!(page.contains("model = gemini-2.5-flash\n"), "{page}");
    assert!(!page.contains("secret"), "{page}");
}

#[tokio::test]
async fn a_price_per_request_is_not_shown_as_one_of_tokens() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("own.csv"), "model,per,input\nrank,request,0.002\n").unwrap();
    let text = format!("{CONFIGURATION}\nprices: {{ files: [own.csv] }}\n");
    let overrides = Overrides::default();
    let (config, _) = load(&text, dir.path(), &overrides, &ProcessEnvironment).unwrap();
    let request = request::read(CHAT.replace("gpt-4o", "rank").as_bytes()).unwrap();
    let from = From { peer: IpAddr::from([10, 0, 0, 1]), version: String::new() };
    let page = explain(config, Some(request), from).await.unwrap();
    assert!(page.contains("rank (): 0.002 USD per request"), "{page}");
}

#[tokio::test]
async fn a_mistake_in_a_price_file_names_the_file_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("own.csv"), "model,per,input\nrank,request,x\n").unwrap();
    let text = format!("{CONFIGURATION}\nprices: {{ files: [own.csv] }}\n");
    let overrides = Overrides::default();
    let (config, _) = load(&text, dir.path(), &overrides, &ProcessEnvironment).unwrap();
    let from = From { peer: IpAddr::from([10, 0, 0, 1]), version: String::new() };
    let Err(Failure::Input(lines)) = explain(config, None, from).await else { panic!() };
    assert_eq!(lines[0].matches("own.csv").count(), 1, "{lines:?}");
}

#[test]
fn a_request_that_cannot_be_read_is_a_wrong_input() {
    #[derive(Debug, clap::Parser)]
    struct Typed {
        #[command(flatten)]
        explain: Explain,
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tollgate.yaml");
    fs::write(&file, CONFIGURATION).unwrap();
    let words = ["explain", "-c", file.to_str().unwrap(), "--request", "/nope"];
    let typed = <Typed as clap::Parser>::try_parse_from(words).unwrap();
    let Err(Failure::Input(lines)) = typed.explain.execute() else { panic!() };
    assert!(lines[0].contains("--request /nope"), "{lines:?}");
}

fn key(page: &str) -> &str {
    let line = page.lines().find(|line| line.starts_with("key ")).unwrap();
    line.split_whitespace().nth(1).unwrap()
}

#[tokio::test]
async fn a_model_call_is_explained_member_by_member() {
    insta::assert_snapshot!(explained(CHAT, [10, 0, 0, 1]).await);
}

#[tokio::test]
async fn what_does_not_matter_leaves_the_key_and_what_matters_changes_it() {
    let page = explained(CHAT, [10, 0, 0, 1]).await;
    let same = CHAT.replace("\"stream\":true,", "").replace("\":[", "\" : [");
    assert_eq!(key(&explained(&same, [10, 0, 0, 1]).await), key(&page));
    for (from, to) in [("acme", "other"), ("x-kb: 7", "x-kb: 8"), ("hi", "ho"), ("gpt-4o", "o1")] {
        let other = explained(&CHAT.replace(from, to), [10, 0, 0, 1]).await;
        assert_ne!(key(&other), key(&page), "{from} → {to}");
    }
}

const TEMPLATE: &str = "
upstreams: { model: { endpoints: [{ url: 'http://127.0.0.1:8000' }] } }
routes:
  - name: search
    upstream: model
    dialect: http
    cache:
      mode: content
      key: { of: [body./q, header.x-kb, path.2], ignore: [/q/id], include_headers: [x-session] }
      when: { request: [{ pointer: /q/t, in: [a, b] }], temperature_max: 1 }
      ttl_rules:
        - { headers: { x-kb: '8' }, ttl: 5m }
        - { answer: { /kind: faq }, ttl: 24h }
      upstream_ttl: true
      jitter_percent: 10
";

async fn of_template(text: &str) -> String {
    let overrides = Overrides::default();
    let (config, _) = load(TEMPLATE, Path::new("."), &overrides, &ProcessEnvironment).unwrap();
    let request = request::read(text.as_bytes()).unwrap();
    let from = From { peer: IpAddr::from([127, 0, 0, 1]), version: String::new() };
    explain(config, Some(request), from).await.unwrap()
}

#[tokio::test]
async fn a_key_by_template_is_explained_by_what_it_is_of() {
    let asked = "POST /kb/hours?x=1 HTTP/1.1\nhost: h\nx-kb: 7\nx-session: s\n\n{\"q\":{\"id\":1,\"t\":\"a\"}}";
    let page = of_template(asked).await;
    for member in [
        "            {header.x-session} = s\n",
        "            {header.x-kb} = 7\n",
        "            {path.2} = hours\n",
        "            of = body./q header.x-kb path.2\n",
        "            without = /q/id\n",
    ] {
        assert!(page.contains(member), "{member}{page}");
    }
    let same = asked.replace("\"id\":1", "\"id\":2");
    assert_eq!(key(&of_template(&same).await), key(&page));
    let kept = "kept for    1d by ttl_rules[1] if the answer fits: /kind = \"faq\"
            1h by ttl
            less where the upstream says so, none where it forbids it
            and up to 10 % less, by the key\n";
    assert!(page.contains(kept), "{page}");
    let page = of_template(&asked.replace("x-kb: 7", "x-kb: 8")).await;
    assert!(page.contains("kept for    5m by ttl_rules[0]\n            less"), "{page}");
    let page = of_template(&asked.replace("\"a\"", "\"c\"")).await;
    assert!(
        page.contains("bypass: when\n            when.request wants /q/t = \"a\" or \"b\""),
        "{page}"
    );
    let page = of_template(&asked.replace("{\"q\"", "{\"temperature\":1.5,\"q\"")).await;
    assert!(page.contains("temperature is 1.5, when.temperature_max 1"), "{page}");
    let page = of_template(&asked.replace("x-kb: 7\n", "")).await;
    assert!(page.contains("bypass: key-part-absent"), "{page}");
}

#[tokio::test]
async fn the_claims_of_a_stranger_are_not_believed() {
    let page = explained(CHAT, [192, 0, 2, 1]).await;
    assert!(page.contains("not a trusted peer"), "{page}");
    assert!(page.contains("bypass: anonymous"), "{page}");
    assert!(page.contains("normal (the default"), "{page}");
}

#[tokio::test]
async fn a_refusal_is_explained_with_its_status_and_reason() {
    let page = explained("GET /nowhere HTTP/1.1\nhost: h\n\n", [10, 0, 0, 1]).await;
    assert!(page.contains("404 no_route"), "{page}");
    let page = explained("GET /v1/%2f HTTP/1.1\nhost: h\n\n", [10, 0, 0, 1]).await;
    assert!(page.contains("400 bad_request"), "{page}");
    let long = CHAT.replace("hi", &"x".repeat(70_000));
    let page = explained(&long, [10, 0, 0, 1]).await;
    assert!(page.contains("413 body_too_large"), "{page}");
}

#[tokio::test]
async fn a_call_that_is_not_cached_says_why() {
    let page = explained("GET /v1/models HTTP/1.1\nhost: h\n\n", [10, 0, 0, 1]).await;
    assert!(page.contains("bypass: off"), "{page}");
    let stored = CHAT.replace("x-kb: 7", "x-kb: 7\ncache-control: no-store");
    let page = explained(&stored, [10, 0, 0, 1]).await;
    assert!(page.contains("bypass: no-store"), "{page}");
    let only = CHAT.replace("x-kb: 7", "x-kb: 7\ncache-control: only-if-cached");
    let page = explained(&only, [10, 0, 0, 1]).await;
    assert!(page.contains("504 not_cached unless"), "{page}");
    assert_eq!(key(&page), key(&explained(CHAT, [10, 0, 0, 1]).await));
}

#[tokio::test]
async fn the_routes_are_listed_where_no_request_is_given() {
    let (config, _) =
        load(CONFIGURATION, Path::new("."), &Overrides::default(), &ProcessEnvironment).unwrap();
    let from = From { peer: IpAddr::from([127, 0, 0, 1]), version: String::new() };
    let page = explain(config, None, from).await.unwrap();
    assert!(page.contains("POST, /v1/chat/completions"), "{page}");
    assert!(page.contains("x-priority (vip = vip) from anyone, else normal"), "{page}");
}

/// A proxy that runs, a provider behind it, and a configuration that says so.
struct Running {
    app: app::App,
    standin: StandIn,
    config: Config,
    _dir: tempfile::TempDir,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let standin = StandIn::start(Options::default(), listener, &tasks, stop.clone());
        let any = || Some("127.0.0.1:0".to_owned());
        let (listen, admin, metrics) = (any(), any(), any());
        let data_dir = Some(dir.path().to_owned());
        let overrides = Overrides { listen, admin, metrics, data_dir };
        let (mut config, _) =
            load(CONFIGURATION, Path::new("."), &overrides, &ProcessEnvironment).unwrap();
        config.upstreams[0].endpoints[0].port = standin.addr().port();
        config.listeners[0].trusted = None;
        config.redis = None;
        let app = app::App::start(config.clone()).await.unwrap();
        Self { app, standin, config, _dir: dir, tasks, stop }
    }

    /// Sends the chat, and says how many calls the provider has had.
    async fn calls_after_a_chat(&self) -> u64 {
        let (head, body) = request::read(CHAT.as_bytes()).unwrap();
        let request = http::Request::from_parts(head, http_body_util::Full::new(body));
        let stream = TcpStream::connect(self.app.addresses().listeners[0]).await.unwrap();
        let (status, _) = exchange(stream, request).await.unwrap();
        assert_eq!(status, http::StatusCode::OK);
        self.standin.counts().calls
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_is_explained_is_the_key_that_a_running_instance_uses() {
    let running = Running::start().await;
    assert_eq!(running.calls_after_a_chat().await, 1);
    assert_eq!(running.calls_after_a_chat().await, 1, "not stored");
    let request = request::read(CHAT.as_bytes()).unwrap();
    let from = From { peer: IpAddr::from([127, 0, 0, 1]), version: String::new() };
    let page = explain(running.config.clone(), Some(request), from).await.unwrap();
    let key = CacheKey::from_hex(key(&page)).unwrap();
    let tiers = &running.app.parts.cache.tiers;
    tiers.purge(Target::Key(CacheKey::from_hex(&"0".repeat(64)).unwrap())).await;
    assert_eq!(running.calls_after_a_chat().await, 1, "another key was purged");
    tiers.purge(Target::Key(key)).await;
    assert_eq!(running.calls_after_a_chat().await, 2, "its key was purged");
    running.app.drain_within(Duration::ZERO, Duration::from_secs(1)).await;
    running.stop.cancel();
    running.tasks.close();
    running.tasks.wait().await;
}
