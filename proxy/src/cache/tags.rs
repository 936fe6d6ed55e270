//! The route's tags, filled in for a call: by them its answer can be purged.

use super::Ask;
use crate::{
    identity::Caller,
    inspect::AskBody,
    route::{Route, decoded},
};
use http::{HeaderValue, request};
use smallvec::SmallVec;
use tollgate_config::{TagPart, TagTemplate};

/// The longest tag, filled in; a longer one is dropped.
const TAG_BYTES_MAX: usize = 256;
/// The most tags that one template makes of fields that came more than once.
const TAGS_MAX: usize = 64;

/// The route's tags, filled in for a call.
pub(super) fn filled(
    route: &Route,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
) -> Vec<Box<str>> {
    let templates = &route.config.cache.tags;
    if templates.is_empty() {
        return Vec::new();
    }
    let body = templates.iter().flat_map(|tag| &tag.parts);
    let needs_body = body.into_iter().any(|part| matches!(part, TagPart::Body(_)));
    let body: Option<serde_json::Value> = match (&ask.body, needs_body) {
        (AskBody::Whole(bytes, _), true) => serde_json::from_slice(bytes).ok(),
        _ => None,
    };
    let words = Words { ask, head, caller, body };
    templates.iter().flat_map(|template| words.fill(template)).collect()
}

struct Words<'a> {
    ask: &'a Ask,
    head: &'a request::Parts,
    caller: &'a Caller,
    body: Option<serde_json::Value>,
}

impl Words<'_> {
    /// An absent part drops the tag; a field of several lines makes one for each, so that a
    /// purge of any of them finds the answer.
    fn fill(&self, template: &TagTemplate) -> impl Iterator<Item = Box<str>> + use<> {
        let mut tags = vec![String::new()];
        for part in &template.parts {
            let words = self.words(part);
            let longer =
                tags.iter().flat_map(|tag| words.iter().map(move |word| tag.clone() + word));
            tags = longer.take(TAGS_MAX).collect();
        }
        tags.retain(|tag| !tag.is_empty() && tag.len() <= TAG_BYTES_MAX);
        tags.into_iter().map(String::into_boxed_str)
    }

    /// All that a part comes to.
    fn words(&self, part: &TagPart) -> SmallVec<[String; 1]> {
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let one = |word: Option<String>| word.into_iter().collect();
        match part {
            TagPart::Literal(text) => one(Some(text.clone())),
            TagPart::Header(name) => {
                self.head.headers.get_all(name).iter().filter_map(text).collect()
            }
            TagPart::Query(name) => parameters(self.head.uri.query(), name).collect(),
            TagPart::Segment(place) => {
                let segment = self.ask.path.split('/').skip(1).nth(*place);
                one(segment.filter(|segment| !segment.is_empty()).map(str::to_owned))
            }
            TagPart::Body(pointer) => one(self.member(pointer)),
            TagPart::Tenant => one(Some(self.caller.tenant.as_str().to_owned())),
            TagPart::User => one(self.caller.user.as_ref().and_then(text)),
            TagPart::Project => one(self.caller.project.as_ref().and_then(text)),
            TagPart::Model => one(self.ask.model().map(ToString::to_string)),
        }
    }

    fn member(&self, pointer: &str) -> Option<String> {
        match self.body.as_ref()?.pointer(pointer)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            serde_json::Value::Bool(flag) => Some(flag.to_string()),
            serde_json::Value::Null
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => None,
        }
    }
}

/// Every value of a parameter, as it is meant: a purge names `a b`, whether the call wrote `a%20b`
/// or `a+b`.
fn parameters(query: Option<&str>, name: &str) -> impl Iterator<Item = String> {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let values = pairs.filter(move |(own, _)| decoded(own).eq(name.bytes()));
    values.filter_map(|(_, value)| String::from_utf8(decoded(value).collect()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_gives_all_that_it_was_given_however_that_is_written() {
        let all = |query: &str| parameters(Some(query), "kb").collect::<Vec<_>>();
        assert_eq!(all("kb=a%20b&x=1&%6bb=a+b&kb"), ["a b", "a b", ""]);
        assert_eq!(all("kb=%ff&kb=1"), ["1"], "what is no text is no tag");
        assert_eq!(parameters(None, "kb").count(), 0);
    }
}
