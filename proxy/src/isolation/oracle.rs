//! Whether two calls may have one answer, judged by what was sent and nothing else.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header, request};
use serde_json::Value;

/// Who callers are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Identity {
    /// Their first credential.
    Credential,
    /// What this field says, and their user in `x-user`.
    Header(&'static str),
}

/// A call as it came.
#[derive(Debug)]
pub(super) struct Sent {
    identity: Identity,
    route: String,
    /// Its route forwards only what is keyed.
    is_sealed: bool,
    method: Method,
    path: String,
    query: String,
    pub(super) headers: HeaderMap,
    body: Bytes,
}

#[derive(Debug, PartialEq)]
enum Owner {
    All,
    Tenant(Vec<u8>),
    User(Vec<u8>, Vec<u8>),
}

/// What the request line, or the service, may be overruled by.
const REWRITES: [&str; 6] = [
    "x-original-url",
    "x-rewrite-url",
    "x-envoy-original-path",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];
const PLACES: [&str; 5] =
    ["host", "forwarded", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix"];
const PROVIDERS: [&str; 4] =
    ["anthropic-version", "openai-organization", "openai-beta", "content-encoding"];

impl Sent {
    pub(super) fn new(
        identity: Identity,
        is_trusted: bool,
        route: &str,
        (head, body): (request::Parts, Bytes),
    ) -> Self {
        let mut headers = head.headers;
        // What is for one hop, or claimed by who is not believed, is as if it were not said.
        let hops = headers.get_all(header::CONNECTION).iter();
        let hops: Vec<String> = hops
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
            .filter(|name| name != "host")
            .collect();
        let claims = ["x-user", "forwarded", "x-forwarded-host", "x-forwarded-proto"];
        let tenant = match identity {
            Identity::Header("x-tenant") => Some("x-tenant"),
            Identity::Header(_) | Identity::Credential => None,
        };
        let is_claim = |name: &str| {
            let user = name == "x-user" && matches!(identity, Identity::Credential);
            !user && claims.into_iter().chain(tenant).any(|claim| claim == name)
        };
        let gone: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                let is_hop = hops.iter().any(|hop| hop == name.as_str());
                is_hop || !is_trusted && is_claim(name.as_str())
            })
            .cloned()
            .collect();
        gone.into_iter().for_each(|name| {
            headers.remove(name);
        });
        Self {
            identity,
            is_sealed: route.starts_with("sealed"),
            route: route.trim_start_matches("sealed-").to_owned(),
            method: head.method,
            path: meant(head.uri.path()),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers,
            body,
        }
    }

    fn first(&self, name: &str) -> Vec<u8> {
        self.headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default()
    }

    fn said(&self, name: &str) -> Vec<&[u8]> {
        self.headers.get_all(name).iter().map(|value| value.as_bytes()).collect()
    }

    fn tenant(&self) -> Vec<u8> {
        if let Identity::Header(name) = self.identity {
            return self.first(name);
        }
        let fields = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
        let credential = fields.iter().map(|name| self.first(name)).find(|it| !it.is_empty());
        credential
            .or_else(|| {
                let mut pairs = self.query.split('&').filter_map(|pair| pair.strip_prefix("key="));
                pairs.find(|key| !key.is_empty()).map(|key| key.as_bytes().to_vec())
            })
            .unwrap_or_else(|| self.said("cookie").join(&b"; "[..]))
    }

    /// Whoever is of this caller's tenant says the same in that field, or nothing.
    fn says_by_its_tenant(&self, name: &str) -> bool {
        if self.owner() == Owner::All {
            return false;
        }
        if let Identity::Header(own) = self.identity {
            return name == own;
        }
        let order = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "?key", "cookie"];
        let place = |wanted: &str| order.iter().position(|it| *it == wanted);
        let is_said = |it: &&&str| match **it {
            "?key" => self.query.split('&').any(|it| it.len() > 4 && it.starts_with("key=")),
            field => !self.first(field).is_empty(),
        };
        let first = order.iter().find(is_said).and_then(|it| place(it)).unwrap_or(order.len());
        place(name).is_some_and(|place| place <= first)
    }

    fn owner(&self) -> Owner {
        match (&*self.route, self.identity) {
            ("shared", _) | ("http", Identity::Credential) => Owner::All,
            ("user", _) => Owner::User(self.tenant(), self.first("x-user")),
            _ => Owner::Tenant(self.tenant()),
        }
    }

    fn is_json(&self) -> bool {
        self.route != "bytes" || {
            let kind = self.first("content-type").to_ascii_lowercase();
            kind.starts_with(b"application/json")
        }
    }
}

/// Why the answer of `stored` is not for `sent`; `None`: it may be.
pub(super) fn apart(stored: &Sent, sent: &Sent) -> Option<&'static str> {
    if stored.owner() != sent.owner() {
        return Some("another's answer");
    }
    if stored.is_sealed != sent.is_sealed {
        return Some("what was asked for with a head as it came");
    }
    let is_http = sent.route == "http";
    if is_http != (stored.route == "http") {
        return Some("another mode's answer");
    }
    let differs = |names: &[&str]| names.iter().any(|name| stored.said(name) != sent.said(name));
    if differs(&REWRITES) {
        return Some("a field that overrules the request line");
    }
    let is_for_all = sent.owner() == Owner::All;
    if is_for_all && differs(&PLACES) {
        return Some("a field that says which place is meant");
    }
    let says_kind = |call: &Sent| !call.said("content-type").is_empty();
    if is_for_all && !is_http && sent.route != "bytes" && says_kind(stored) != says_kind(sent) {
        return Some("a body of a kind that is not said");
    }
    let varies = String::from_utf8_lossy(&stored.first("x-vary")).to_ascii_lowercase();
    let varies = varies.split(',').map(str::trim).filter(|name| *name != "accept-encoding");
    for name in varies.filter(|name| HeaderName::from_bytes(name.as_bytes()).is_ok()) {
        let plain = |call: &Sent| call.said(name).join(&b","[..]).to_ascii_lowercase();
        if name != "origin" && !stored.says_by_its_tenant(name) && plain(stored) != plain(sent) {
            // Order and white space of lists mean nothing.
            let mut words = [plain(stored), plain(sent)].map(|text| {
                text.into_iter().filter(u8::is_ascii_alphanumeric).collect::<Vec<u8>>()
            });
            words.iter_mut().for_each(|word| word.sort_unstable());
            if words.first() != words.last() {
                return Some("a field that the answer says to depend on");
            }
        }
    }
    if is_http {
        return apart_by_url(stored, sent);
    }
    if stored.route != sent.route && !are_ruled_alike(&stored.route, &sent.route) {
        return Some("another rule's answer");
    }
    if differs(&PROVIDERS) {
        return Some("a provider's own field");
    }
    if stored.method != sent.method || stored.path != sent.path || stored.query != sent.query {
        return Some("another method, path or query");
    }
    match &*sent.route {
        "ruled" if differs(&["x-flavour", "x-kb"]) => return Some("a field that the route names"),
        "sealed" if differs(&["x-flavour"]) => return Some("a field that the route names"),
        "named" if differs(&["x-app"]) => return Some("a field that the route names"),
        _ => {}
    }
    (!is_one_body(stored, sent)).then_some("another question")
}

fn apart_by_url(stored: &Sent, sent: &Sent) -> Option<&'static str> {
    let credentials = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    if stored.owner() == Owner::All && credentials.iter().any(|it| !stored.said(it).is_empty()) {
        return Some("what an authorised caller was given");
    }
    if stored.method != Method::GET || stored.said("host") != sent.said("host") {
        return Some("another method or host");
    }
    (stored.path != sent.path || stored.query != sent.query).then_some("another URL")
}

/// Routes whose rules about keys are the same share answers: they go to one upstream.
fn are_ruled_alike(one: &str, other: &str) -> bool {
    let plain = ["user", "shared", "disk", "tenant"];
    plain.contains(&one) && plain.contains(&other)
}

fn is_one_body(stored: &Sent, sent: &Sent) -> bool {
    if !stored.is_json() || !sent.is_json() {
        return stored.body == sent.body
            && stored.first("content-type") == sent.first("content-type");
    }
    let read = |call: &Sent| serde_json::from_slice::<Value>(&call.body).ok();
    let (Some(mut one), Some(mut other)) = (read(stored), read(sent)) else {
        return stored.body == sent.body;
    };
    if sent.route == "named" {
        let named = |body: &Value| body.get("messages").cloned();
        return match (named(&one), named(&other)) {
            (Some(one), Some(other)) => is_alike(&one, &other),
            (one, other) => one == other,
        };
    }
    let form = if sent.route == "bytes" { &[][..] } else { &["stream", "stream_options"] };
    for body in [&mut one, &mut other] {
        let Some(members) = body.as_object_mut() else { continue };
        let ignored = if sent.route == "ruled" { &["user"][..] } else { &[] };
        form.iter().chain(ignored).for_each(|name| {
            members.remove(*name);
        });
    }
    is_alike(&one, &other)
}

/// Numbers are alike if they are the same number; all else to the byte.
fn is_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one == other,
            _ => one.as_f64() == other.as_f64(),
        },
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(name, value)| other.get(name).is_some_and(|other| is_alike(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (one, other) => one == other,
    }
}

/// A path with all its escapes read and its dots resolved.
fn meant(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) if *byte == b'%' => {
                bytes.push(code);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => bytes.push(*byte),
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}
