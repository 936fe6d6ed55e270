//! That nothing is learned or asked across scopes, with made-up callers and what each scope has
//! really seen.

use super::*;
use crate::{
    app::{self, Snapshot},
    cli::Scratch,
};
use proptest::{prelude::*, sample::select, test_runner::TestRunner};
use std::collections::{BTreeMap, HashSet};
use tollgate_config::{Config, Overrides, ProcessEnvironment, load};

const CONFIGURATION: &str = "
upstreams:
  model:
    endpoints: [{ url: 'http://127.0.0.1:1' }]
    model_version: { from: static, value: '1' }
identity: { tenant: { header: x-tenant }, user: { header: x-user } }
prices: { book: none }
routes:
  - name: user
    match: { headers: { x-route: user } }
    upstream: model
    cache: { mode: content, scope: user, prefetch: { per: { header: x-session }, successors_max: 8, precision_min: 1%, budget: { calls_per_minute: 1000 } } }
  - name: shared
    match: { headers: { x-route: shared } }
    upstream: model
    cache: { mode: content, scope: shared, prefetch: { per: { header: x-session }, successors_max: 8, precision_min: 1%, budget: { calls_per_minute: 1000 } } }
  - name: tenant
    upstream: model
    cache: { mode: content, prefetch: { per: user, successors_max: 8, precision_min: 1%, budget: { calls_per_minute: 1000 } } }
";

/// A made-up call.
#[derive(Clone, Debug)]
struct Call {
    route: &'static str,
    tenant: &'static str,
    user: &'static str,
    session: &'static str,
    host: &'static str,
    credential: &'static str,
    question: u8,
}

impl Call {
    /// Who may profit from it: as the design says, not as the code does.
    fn scope(&self) -> (&'static str, &'static str, &'static str, &'static str) {
        let user = if self.route == "user" { self.user } else { "" };
        (self.route, self.tenant, user, self.host)
    }

    fn session(&self) -> &'static str {
        if self.route == "tenant" { self.user } else { self.session }
    }
}

fn call() -> impl Strategy<Value = Call> {
    let ab = || select(vec!["a", "b"]);
    let route = select(vec!["user", "shared", "tenant"]);
    (route, ab(), ab(), ab(), select(vec!["h", "h", "h", "i"]), ab(), 0..3_u8).prop_map(
        |(route, tenant, user, session, host, credential, question)| Call {
            route,
            tenant,
            user,
            session,
            host,
            credential,
            question,
        },
    )
}

async fn laboratory() -> (Arc<Parts>, Scratch) {
    let dir = Scratch::new().unwrap();
    let overrides = Overrides::default();
    let (config, _) =
        load(CONFIGURATION, std::path::Path::new("."), &overrides, &ProcessEnvironment).unwrap();
    let config = Config { data_dir: dir.path().to_owned(), ..config };
    (Arc::new(app::parts(Arc::new(config)).await.unwrap()), dir)
}

/// What would be asked ahead after `call`: the bodies, and in whose name.
fn step(parts: &Arc<Parts>, snapshot: &Snapshot, call: &Call) -> Vec<Request<Bytes>> {
    let body = format!("{{\"model\":\"m\",\"messages\":[{{\"n\":{}}}]}}", call.question);
    let request = Request::post("/v1/chat/completions")
        .header("host", call.host)
        .header("x-route", call.route)
        .header("x-tenant", call.tenant)
        .header("x-user", call.user)
        .header("x-session", call.session)
        .header("authorization", call.credential)
        .header("idempotency-key", "1")
        .body(Bytes::from(body))
        .unwrap();
    let (head, body) = request.into_parts();
    let path: Arc<str> = Arc::from(head.uri.path());
    let route = snapshot.routes.choose(&head, &path).unwrap();
    let operation = route.operation(&head.method, &path);
    let body = inspect::AskBody::Whole(body, inspect::Held::default());
    let ask = cache::ask(parts, route, operation, &path, &head, body);
    let caller = snapshot.sources.read(&head.headers, &head.uri).unwrap();
    let prefetch = route.prefetch.as_ref().unwrap();
    let (scope, ask, head, caller) = (prefetch.scope, &ask, &head, &caller);
    let asked = Asked { route, scope, ask, head, caller };
    let likely = prefetch.step(&asked, ask.content().unwrap(), Had::It);
    let request = |(name, held): (Name, Arc<Held>)| {
        assert_eq!(held.name_for(&asked), name, "what is likely is this caller's");
        held.request_for(&asked).unwrap()
    };
    likely.into_iter().map(request).collect()
}

fn question_of(body: &Bytes) -> u8 {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    u8::try_from(body["messages"][0]["n"].as_u64().unwrap()).unwrap()
}

#[test]
fn nothing_is_learned_of_another_scope_and_nothing_asked_in_anothers_name() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _context = runtime.enter();
    let calls = prop::collection::vec(call(), 1..150);
    let asked_ahead = std::cell::Cell::new(0);
    let run = |calls: Vec<Call>| {
        let (parts, _dir) = runtime.block_on(laboratory());
        let snapshot = parts.snapshot.load_full();
        // What each scope has seen follow what, and who asked what last.
        let mut seen: BTreeMap<_, u32> = BTreeMap::new();
        let mut last = BTreeMap::new();
        let mut asked = HashSet::new();
        for call in &calls {
            let (scope, question) = (call.scope(), call.question);
            asked.insert((scope, question));
            let before = last.insert((scope, call.session()), question);
            if let Some(before) = before.filter(|before| *before != question) {
                *seen.entry((scope, before, question)).or_default() += 1;
            }
            for request in step(&parts, &snapshot, call) {
                asked_ahead.set(asked_ahead.get() + 1);
                let next = question_of(request.body());
                assert!(asked.contains(&(scope, next)), "{call:?}: {next} is another scope's");
                let times = seen.get(&(scope, question, next)).copied().unwrap_or(0);
                assert!(times >= 2, "{call:?}: {next} followed {times} times in its scope");
                let said = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
                assert_eq!(said("authorization"), call.credential);
                assert_eq!((said("x-tenant"), said("x-user")), (call.tenant, call.user));
                assert_eq!((said("host"), said("x-session")), (call.host, call.session));
                assert!(!request.headers().contains_key("idempotency-key"));
            }
        }
        Ok(())
    };
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) };
    TestRunner::new(config).run(&calls, run).unwrap();
    assert!(asked_ahead.get() > 20, "only {}: nothing was tried", asked_ahead.get());
}

#[test]
fn a_reload_keeps_what_was_learned_unless_callers_are_others() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _context = runtime.enter();
    let (parts, _dir) = runtime.block_on(laboratory());
    let snapshot = parts.snapshot.load_full();
    let again = |config: Config| {
        let config = Arc::new(config);
        let (meter, metrics) = (&parts.meter, &parts.metrics);
        Snapshot::new(config, meter, metrics, &parts.tasks, Some(&snapshot)).unwrap()
    };
    let is_kept = |after: &Snapshot| {
        let routes = snapshot.routes.iter().zip(after.routes.iter());
        let same = routes.map(|(before, after)| match (&before.prefetch, &after.prefetch) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            _ => false,
        });
        same.collect::<Vec<_>>()
    };
    let config = (*snapshot.config).clone();
    assert_eq!(is_kept(&again(config.clone())), [true, true, true]);
    let mut others = config.clone();
    others.identity.user = Some("x-other".to_owned());
    assert_eq!(is_kept(&again(others)), [false, false, false]);
    let mut wider = config;
    wider.routes[0].cache.scope = Scope::Tenant;
    assert_eq!(is_kept(&again(wider)), [false, true, true]);
}
