//! Asks upstreams which version of their models they run, beside the calls.
//!
//! For services whose answers do not say it. Every endpoint is asked: while a rollout goes on they
//! differ, and what they say together is an epoch of its own, so that nothing of it is taken for
//! the old version or the new. One that does not answer is left out; while none does, the epoch
//! stays. What was answered between a rollout and the next poll is kept under the version before,
//! and goes with it.

use super::{Destination, Parts};
use crate::{
    body::Outgoing,
    upstream::{Endpoint, HostRule, UpstreamError},
};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{self, Instant};
use tollgate_cache::{
    canonical::{Bounds, NotCanonical, canonicalise},
    pointer::Pointer,
    versions::{Observed, Said},
};
use tollgate_config::VersionPoll;

/// What a list of models takes, many times over; a server that is slower is busy.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Some thousand models with all that is said of them.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const MODELS_MAX: usize = 1024;
/// How often it is looked whether a new configuration has other upstreams to ask.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Where an upstream is asked.
#[derive(Debug)]
pub(crate) struct Poll {
    path: Box<str>,
    pointer: Pointer,
    /// The list of models, and where an element has the model's name.
    list: Option<(Pointer, Pointer)>,
    interval: Duration,
    /// The last time has not come to an end.
    asking: AtomicBool,
    heard: Mutex<Heard>,
}

/// What was heard of an upstream's versions so far.
#[derive(Debug, Default)]
struct Heard {
    /// What was said of each model the last time.
    said: HashMap<String, String>,
    /// Those that were not listed the last time.
    gone: BTreeSet<String>,
    /// No model's version was.
    is_silent: bool,
}

/// What was not heard any more, or not at all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing {
    all: bool,
    models: Vec<String>,
}

/// More models than this that are not listed any more, and it is as if they had never been.
const GONE_MAX: usize = 4 * MODELS_MAX;

impl Heard {
    /// What is missing of what all endpoints have `said`, if it was not before: so each is told once.
    fn miss(&mut self, said: &BTreeMap<String, BTreeSet<String>>) -> Missing {
        let was_silent = std::mem::replace(&mut self.is_silent, said.is_empty());
        if said.is_empty() {
            return Missing { all: !was_silent, models: Vec::new() };
        }
        self.gone.retain(|model| !said.contains_key(model));
        let gone = self.said.keys().filter(|model| !said.contains_key(*model));
        let models: Vec<String> =
            gone.filter(|model| !self.gone.contains(*model)).cloned().collect();
        self.gone.extend(models.iter().cloned());
        if self.gone.len() > GONE_MAX {
            self.said.retain(|model, _| said.contains_key(model));
            self.gone.clear();
        }
        Missing { all: false, models }
    }
}

/// Why an endpoint did not say its version.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer did not come within {TIMEOUT:?}, or has more than {BODY_BYTES_MAX} bytes")]
    Body,
    #[error("its answer is no JSON that is read in one way")]
    Json(#[from] NotCanonical),
    #[error("its path cannot be asked for")]
    Path(#[from] http::Error),
}

impl Poll {
    pub(super) fn new(poll: &VersionPoll) -> Option<Self> {
        let pointer = |text: &str| Pointer::parse(text).ok();
        let list = match &poll.list {
            None => None,
            Some(list) => Some((pointer(&list.pointer)?, pointer(&list.id)?)),
        };
        Some(Self {
            path: poll.path.as_str().into(),
            pointer: pointer(&poll.pointer)?,
            list,
            interval: poll.interval,
            asking: AtomicBool::new(false),
            heard: Mutex::default(),
        })
    }

    /// The name under which the version of `model` is remembered.
    pub(crate) fn model<'a>(&self, model: &'a str) -> &'a str {
        if self.list.is_some() { model } else { "" }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_missing(&self, upstream: &str, said: &BTreeMap<String, BTreeSet<String>>) {
        let Missing { all, models } = self.heard().miss(said);
        if all {
            tracing::warn!(
                upstream,
                path = &*self.path,
                "no version is said where it is asked for: the versions before stay, and where there is \
                 none, nothing is kept"
            );
        }
        for model in models {
            tracing::warn!(
                upstream,
                model,
                "a model is not listed any more; what is kept of it stays good for its version before"
            );
        }
    }

    /// The models of an answer and their versions.
    fn read(&self, form: &[u8]) -> Vec<(String, String)> {
        let Some((list, id)) = &self.list else {
            return version_at(&self.pointer, form)
                .map(|v| (String::new(), v))
                .into_iter()
                .collect();
        };
        let Some(list) = list.find(form) else { return Vec::new() };
        let elements = (0..MODELS_MAX)
            .map_while(|place| Pointer::parse(&format!("/{place}")).ok()?.find(list));
        let version =
            |element| Some((version_at(id, element)?, version_at(&self.pointer, element)?));
        elements.filter_map(version).collect()
    }
}

/// The text or number that a pointer leads to.
fn version_at(pointer: &Pointer, form: &[u8]) -> Option<String> {
    match serde_json::from_slice(pointer.find(form)?).ok()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => None,
    }
}

/// Asks all upstreams that are to be asked, each in its interval, until the end.
pub(super) fn poll(parts: &Arc<Parts>) {
    let weak = Arc::downgrade(parts);
    let over = parts.shutdown.over.clone();
    parts.tasks.spawn(async move {
        let mut due: HashMap<Box<str>, Instant> = HashMap::new();
        loop {
            let Some(parts) = weak.upgrade() else { return };
            let now = Instant::now();
            let mut next = now + LOOK_INTERVAL;
            let snapshot = parts.snapshot.load_full();
            due.retain(|name, _| {
                snapshot.destinations.iter().any(|to| *to.upstream.name == **name)
            });
            for destination in &snapshot.destinations {
                let Some(poll) = &destination.version_poll else { continue };
                let at = due.entry((&*destination.upstream.name).into()).or_insert(now);
                if *at <= now {
                    *at = now + poll.interval;
                    if !poll.asking.swap(true, Ordering::AcqRel) {
                        parts.tasks.spawn(ask_all(parts.clone(), destination.clone()));
                    }
                }
                next = next.min(*at);
            }
            drop((parts, snapshot));
            tokio::select! {
                () = over.cancelled() => return,
                () = time::sleep_until(next) => {}
            }
        }
    });
}

async fn ask_all(parts: Arc<Parts>, destination: Arc<Destination>) {
    let Some(poll) = &destination.version_poll else { return };
    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut is_whole = true;
    for endpoint in &destination.upstream.endpoints {
        let asked = tokio::select! {
            () = parts.shutdown.over.cancelled() => {
                is_whole = false;
                break;
            }
            asked = ask(&destination, endpoint, poll) => asked,
        };
        match asked {
            Ok(found) => {
                for (model, version) in found {
                    said.entry(model).or_default().insert(version);
                }
            }
            Err(error) => {
                is_whole = false;
                tracing::warn!(
                    endpoint = &*endpoint.name,
                    error = &*super::with_causes(&error),
                    "the version of its models was asked for and not said"
                );
            }
        }
    }
    if is_whole {
        poll.tell_missing(&destination.upstream.name, &said);
    }
    let (name, now_ms) = (&destination.upstream.name, crate::cache::now_ms());
    for (model, versions) in said {
        let together = Vec::from_iter(versions).join(",");
        let before = poll.heard().said.insert(model.clone(), together.clone());
        let (versions, said) = (&parts.cache.versions, Said::of([together.as_bytes()]));
        // Said the same as before, it may be that another instance has heard of the next one first.
        let changed = before.is_some_and(|before| before != together);
        let noted = match changed {
            true => versions.moved(name, &model, said, now_ms),
            false => versions.observe(name, &model, said, now_ms),
        };
        if changed && noted == Observed::DoNotStore {
            tracing::warn!(
                upstream = &**name,
                "what was said for a model's version is none; the one before stays"
            );
        }
    }
    poll.asking.store(false, Ordering::Release);
}

async fn ask(
    destination: &Destination,
    endpoint: &Arc<Endpoint>,
    poll: &Poll,
) -> Result<Vec<(String, String)>, PollError> {
    let deadline = Instant::now() + TIMEOUT;
    let host = match &destination.upstream.host {
        HostRule::Name(name) => name.clone(),
        HostRule::Preserve | HostRule::Upstream => endpoint.host.clone(),
    };
    let request = Request::get(&*poll.path)
        .header(header::HOST, host)
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .body(Outgoing::Whole(Bytes::new()))?;
    let upstream = &destination.upstream;
    let (response, lease) =
        upstream.try_send(endpoint, request, deadline, &mut |_| {}).await.map_err(|it| it.error)?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(PollError::Status(status));
    }
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
    let body = time::timeout_at(deadline, body).await;
    let body = body.ok().and_then(Result::ok).ok_or(PollError::Body)?.to_bytes();
    lease.give_back();
    Ok(poll.read(&canonicalise(&body, &[], Bounds::default())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_config::VersionList;

    fn read(list: Option<&str>, pointer: &str, answer: &str) -> Vec<(String, String)> {
        let list = list.map(|list| VersionList { pointer: list.into(), id: "/id".into() });
        let config = VersionPoll {
            path: "/v1/models".into(),
            pointer: pointer.into(),
            list,
            interval: Duration::from_secs(1),
        };
        let form = canonicalise(answer.as_bytes(), &[], Bounds::default()).unwrap();
        Poll::new(&config).unwrap().read(&form)
    }

    fn own(model: &str, version: &str) -> (String, String) {
        (model.into(), version.into())
    }

    #[test]
    fn what_is_not_said_any_more_is_told_once() {
        let mut heard = Heard::default();
        let said = |models: &[&str]| -> BTreeMap<String, BTreeSet<String>> {
            models.iter().map(|model| ((*model).to_owned(), BTreeSet::new())).collect()
        };
        let gone = |models: &[&str]| {
            let models = models.iter().map(ToString::to_string).collect();
            Missing { all: false, models }
        };
        let silent = Missing { all: true, models: Vec::new() };
        assert_eq!(heard.miss(&said(&[])), silent, "from the start");
        assert_eq!(heard.miss(&said(&[])), Missing::default());
        for model in ["a", "b"] {
            heard.said.insert(model.to_owned(), String::new());
        }
        assert_eq!(heard.miss(&said(&["a", "b"])), Missing::default());
        assert_eq!(heard.miss(&said(&["a"])), gone(&["b"]));
        assert_eq!(heard.miss(&said(&["a"])), Missing::default());
        assert_eq!(heard.miss(&said(&["a", "b"])), Missing::default());
        assert_eq!(heard.miss(&said(&["b"])), gone(&["a"]));
        assert_eq!(heard.miss(&said(&[])), silent);
        assert_eq!(heard.miss(&said(&["b"])), Missing::default(), "of a no news");
    }

    #[test]
    fn versions_are_read_for_each_model_or_for_all() {
        let models = r#"{"data":[{"id":"a","root":"a-1","created":7},{"id":"b","root":2},{"id":"c"},{"root":"x"}]}"#;
        assert_eq!(read(Some("/data"), "/root", models), [own("a", "a-1"), own("b", "2")]);
        assert_eq!(read(None, "/data/0/root", models), [own("", "a-1")]);
        assert_eq!(read(None, "/model_sha", models), []);
        assert_eq!(read(Some("/nothing"), "/root", models), []);
    }
}
