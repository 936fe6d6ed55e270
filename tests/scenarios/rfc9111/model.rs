//! The table against the policy alone: the smallest cache that does what `tollgate_cache::rfc9111`
//! says, without sockets, tiers or time. What fails here is the policy or the table, what fails
//! only in [`super::run`] is the proxy around it.

use super::{
    case::{Case, Expect, Step},
    run::{Place, judge, place},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use std::{collections::HashMap, fmt::Write as _};
use tollgate_cache::rfc9111::{
    conditional::{self, Given},
    date, invalidate,
    range::{self, Cut},
    request::{Kind, Request},
    reuse::{self, Failure, Reuse, Why},
    store::{self, Rules, Stored, Times, Verdict},
    update::{self, Freshens, Head},
    vary,
};
use tollgate_tests::{Reply, Seen};

#[derive(Clone)]
struct Kept {
    status: StatusCode,
    fields: HeaderMap,
    body: String,
    stored: Stored,
}

/// What is kept for a URL: the fields it depends on, by the newest answer, and the answers.
#[derive(Default)]
struct Variants {
    names: Vec<HeaderName>,
    kept: HashMap<Vec<u8>, Kept>,
}

struct Answer {
    status: StatusCode,
    fields: HeaderMap,
    body: String,
}

#[derive(Default)]
struct Model {
    urls: HashMap<String, Variants>,
    rules: Rules,
    now_ms: u64,
    /// What the upstream says next; `None`: it hangs up.
    upstream: Option<Answer>,
    asked: Vec<Seen>,
}

/// One call on its way through.
struct Call {
    method: Method,
    uri: Uri,
    fields: HeaderMap,
    request: Request,
}

#[test]
fn the_table_holds_for_the_policy_alone() {
    let mut report = String::new();
    let table = super::table();
    for (number, case) in table.iter().enumerate() {
        if let Err(why) = run(number, case) {
            writeln!(report, "{}: {why}", case.name).unwrap();
        }
    }
    assert!(report.is_empty(), "{report}");
}

fn run(number: usize, case: &Case) -> Result<(), String> {
    let place = place(number, "http://a.example".into());
    let mut model = Model { now_ms: place.now_s * 1_000, ..Model::default() };
    let steps: Vec<&Step> = case.steps.iter().flatten().collect();
    for (at, step) in steps.iter().enumerate() {
        model.asked.clear();
        model.upstream = answer(&place, step, at);
        if !matches!(step.expect, Expect::Settles(_)) {
            model.now_ms += 1;
        }
        let reply = model.call(call(&place, step));
        judge(step, at, &steps, &reply, &model.asked, &place)
            .map_err(|why| format!("step {at}: {why}\n    {reply:?}\n    {:?}", model.asked))?;
    }
    Ok(())
}

fn fields(place: &Place, lines: super::case::Lines) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        let value = place.fill(value);
        let name: HeaderName = name.parse().unwrap();
        fields.append(name, HeaderValue::from_str(value.trim()).unwrap());
    }
    fields
}

fn call(place: &Place, step: &Step) -> Call {
    let mut fields = fields(place, step.lines);
    if !step.sent.is_empty() {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(step.sent.len()));
    }
    let host = fields.get(header::HOST).map_or("a.example", |host| host.to_str().unwrap());
    let uri = format!("http://{host}{}{}", place.base, step.at).parse().unwrap();
    let method: Method = step.method.parse().unwrap();
    let request = Request::read(&method, &fields);
    Call { method, uri, fields, request }
}

fn answer(place: &Place, step: &Step, at: usize) -> Option<Answer> {
    if step.answer.hangs_up {
        return None;
    }
    let body = place.body(&step.answer, at);
    let mut fields = fields(place, step.answer.fields);
    if step.answer.status != 304 {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let status = StatusCode::from_u16(step.answer.status).unwrap();
    Some(Answer { status, fields, body })
}

impl Model {
    fn times(&self) -> Times {
        Times { request_ms: self.now_ms, response_ms: self.now_ms }
    }

    fn call(&mut self, call: Call) -> Reply {
        let Some(kept) = self.find(&call).filter(|_| call.request.passed.is_none()) else {
            return self.miss(&call);
        };
        match reuse::reuse(&kept.stored, &call.request, self.now_ms) {
            Reuse::NotCached => refusal(504),
            Reuse::Miss(why) => self.forward(&call, why),
            Reuse::Fresh { fresh_for_ms, .. } => {
                self.give(&call, kept, format!("hit; ttl={}", fresh_for_ms / 1_000))
            }
            Reuse::Stale { why, .. } => {
                if why == Why::WhileRevalidate {
                    self.validate(&call, kept.clone(), "background");
                }
                self.give(&call, kept, "hit; ttl=-1".into())
            }
            Reuse::Revalidate(_) if call.request.kind == Kind::Head => self.head(&call, kept),
            Reuse::Revalidate(why) => {
                let fwd = if why == "stale" { "stale" } else { "request" };
                self.validate(&call, kept, fwd)
            }
        }
    }

    fn find(&self, call: &Call) -> Option<Kept> {
        let url = self.urls.get(&call.uri.to_string())?;
        url.kept.get(&vary::secondary(&url.names, &call.fields)).cloned()
    }

    /// Nothing of use is kept.
    fn miss(&mut self, call: &Call) -> Reply {
        if call.request.control.only_if_cached && call.request.passed.is_none() {
            return refusal(504);
        }
        let known = self.urls.get(&call.uri.to_string()).is_some_and(|url| !url.kept.is_empty());
        let fwd = match call.request.passed {
            Some(_) => "bypass",
            None if known => "vary-miss",
            None => "uri-miss",
        };
        self.forward(call, fwd)
    }

    fn forward(&mut self, call: &Call, fwd: &str) -> Reply {
        let Some(answer) = self.ask(call, call.fields.clone()) else { return refusal(502) };
        let (request, times) = (&call.request, self.times());
        if request.invalidates() {
            for path in invalidate::voided(&call.uri, answer.status, &answer.fields) {
                let authority = call.uri.authority().unwrap();
                self.urls.remove(&format!("http://{authority}{path}"));
            }
        }
        let verdict = match request.kind {
            Kind::Post => store::judge_posted(
                &call.uri,
                request,
                answer.status,
                &answer.fields,
                times,
                &self.rules,
            ),
            Kind::Get | Kind::Head | Kind::Safe | Kind::Unsafe => {
                store::judge(request, answer.status, &answer.fields, times, &self.rules)
            }
        };
        let stored = verdict.is_ok();
        if let Ok(verdict) = verdict {
            self.keep(call, &answer, verdict);
        }
        passed_on(answer, format!("fwd={fwd}{}", if stored { "; stored" } else { "" }))
    }

    fn keep(&mut self, call: &Call, answer: &Answer, verdict: Verdict) {
        let mut fields = answer.fields.clone();
        for name in &verdict.drop {
            fields.remove(name);
        }
        if verdict.lacks_date {
            fields.insert(header::DATE, date::format(self.now_ms / 1_000));
        }
        let url = self.urls.entry(call.uri.to_string()).or_default();
        if url.names != verdict.vary {
            *url = Variants { names: verdict.vary, kept: HashMap::new() };
        }
        let (status, body) = (answer.status, answer.body.clone());
        let kept = Kept { status, fields, body, stored: verdict.stored };
        url.kept.insert(vary::secondary(&url.names, &call.fields), kept);
    }

    fn put(&mut self, call: &Call, kept: Option<Kept>) {
        let url = self.urls.entry(call.uri.to_string()).or_default();
        let secondary = vary::secondary(&url.names, &call.fields);
        match kept {
            Some(kept) => url.kept.insert(secondary, kept),
            None => url.kept.remove(&secondary),
        };
    }

    fn validate(&mut self, call: &Call, kept: Kept, fwd: &str) -> Reply {
        let mut question = call.fields.clone();
        conditional::validation(&kept.fields, &mut question);
        let answer = self.ask(call, question);
        let failure = match &answer {
            None => Some(Failure::Unreachable),
            Some(answer) if answer.status.is_server_error() => {
                Some(Failure::Status(answer.status.as_u16()))
            }
            Some(_) => None,
        };
        let stands_in =
            |failure| reuse::on_error(&kept.stored, &call.request, self.now_ms, failure).is_some();
        if failure.is_some_and(stands_in) {
            return self.give(call, kept, "hit; ttl=-1".into());
        }
        let Some(answer) = answer else { return refusal(502) };
        let times = self.times();
        if answer.status == StatusCode::NOT_MODIFIED {
            if update::freshened(&[&kept.fields], &answer.fields) == Freshens::Nothing {
                self.put(call, None);
                return self.forward(call, fwd);
            }
            let kept = self.renew(call, kept, &answer.fields);
            return self.give(call, kept, format!("fwd={fwd}; fwd-status=304"));
        }
        let verdict =
            store::judge(&call.request, answer.status, &answer.fields, times, &self.rules);
        if let Ok(verdict) = verdict {
            self.keep(call, &answer, verdict);
        }
        passed_on(answer, format!("fwd={fwd}"))
    }

    fn renew(&mut self, call: &Call, mut kept: Kept, newer: &HeaderMap) -> Kept {
        let (request, times) = (&call.request, self.times());
        let found =
            update::renew(&mut kept.fields, kept.status, newer, request, times, &self.rules);
        match found {
            Ok(verdict) => {
                kept.stored = verdict.stored;
                self.put(call, Some(kept.clone()));
            }
            Err(_) => self.put(call, None),
        }
        kept
    }

    fn head(&mut self, call: &Call, kept: Kept) -> Reply {
        let Some(answer) = self.ask(call, call.fields.clone()) else { return refusal(502) };
        let len = kept.body.len().try_into().unwrap();
        match update::head(&kept.fields, len, answer.status, &answer.fields) {
            Head::Freshens => {
                let kept = self.renew(call, kept, &answer.fields);
                return self.give(call, kept, "fwd=stale".into());
            }
            Head::Voids => self.put(call, None),
            Head::Nothing => {}
        }
        passed_on(answer, "fwd=stale".into())
    }

    fn give(&self, call: &Call, kept: Kept, status: String) -> Reply {
        let Kept { status: code, fields, body, stored } = kept;
        let given = conditional::evaluate(&call.request.conditions, code, &fields, self.now_ms);
        let len = body.len().try_into().unwrap();
        let (code, mut fields, body) = match given {
            Given::NotModified => {
                (StatusCode::NOT_MODIFIED, conditional::not_modified(&fields), String::new())
            }
            Given::Whole => match range::cut(&call.request, code, &fields, len) {
                Cut::Whole => (code, fields, body),
                Cut::Part { first, last } => {
                    let mut part = range::part_fields(&call.request, &fields);
                    part.insert(header::CONTENT_RANGE, range::content_range(first, last, len));
                    part.insert(header::CONTENT_LENGTH, HeaderValue::from(last - first + 1));
                    let (first, last) = (first.try_into().unwrap(), usize::try_from(last).unwrap());
                    let body = body.get(first..=last).unwrap().to_owned();
                    (StatusCode::PARTIAL_CONTENT, part, body)
                }
                Cut::Unsatisfiable => {
                    let mut none = HeaderMap::new();
                    none.insert(header::CONTENT_RANGE, range::unsatisfied(len));
                    (StatusCode::RANGE_NOT_SATISFIABLE, none, String::new())
                }
            },
        };
        let age_s = stored.age_ms(self.now_ms) / 1_000;
        fields.insert(header::AGE, HeaderValue::from(age_s));
        reply(code, fields, body, &status)
    }

    fn ask(&mut self, call: &Call, question: HeaderMap) -> Option<Answer> {
        let path = call.uri.path_and_query().unwrap();
        let mut head = format!("{} {path} HTTP/1.1\r\n", call.method);
        for (name, value) in &question {
            write!(head, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
        }
        self.asked.push(Seen { head, body: Vec::new(), cut: false, connection: 0 });
        let answer = self.upstream.as_ref()?;
        let (status, fields, body) = (answer.status, answer.fields.clone(), answer.body.clone());
        Some(Answer { status, fields, body })
    }
}

fn passed_on(answer: Answer, status: String) -> Reply {
    let mut fields = answer.fields;
    for name in tollgate_cache::rfc9111::fields::of_this_hop(&fields) {
        fields.remove(name);
    }
    reply(answer.status, fields, answer.body, &status)
}

fn refusal(status: u16) -> Reply {
    reply(StatusCode::from_u16(status).unwrap(), HeaderMap::new(), String::new(), "fwd=bypass")
}

fn reply(status: StatusCode, mut headers: HeaderMap, body: String, said: &str) -> Reply {
    headers.insert("cache-status", HeaderValue::try_from(format!("tollgate; {said}")).unwrap());
    Reply { status, version: Version::HTTP_11, headers, body: Bytes::from(body), cut: false }
}
