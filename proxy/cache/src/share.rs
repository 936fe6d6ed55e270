//! The body's share of a key: all of it, all but what a route ignores, or only what it names.
//!
//! A rule makes a form of the body and binds its own text to the form's digest: forms of two rules
//! never meet, so a route that looks at less cannot be given, or give, another route's answers.
//! Inside of a form every piece has its length in front.
//!
//! What a rule names and a call has not got makes no share at all, and never a shorter one: else
//! all calls without it would be one question.

use crate::{
    canonical::{Bounds, NotCanonical, canonicalise_without},
    key::BodyDigest,
    multipart::{self, NotMultipart},
    omit::Omit,
    pointer::Pointer,
};

/// A piece of a body that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyPart {
    /// All its bytes, as they came.
    Bytes,
    /// Of a JSON body.
    Value(Pointer),
    /// The parts of that name of a form, as many as there are: what they say, and of which kind it
    /// is, not how their files are called.
    Field(Box<[u8]>),
}

/// How a route makes its keys of bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Everything that the operator wrote about the route's keys. Empty: nothing.
    pub rule: Box<[u8]>,
    /// Only these. `None`: everything that is not ignored.
    pub of: Option<Box<[BodyPart]>>,
    /// Of JSON bodies.
    pub ignore: Omit,
}

/// Why a body has no share in a key. The call goes on without the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoShare {
    #[error(transparent)]
    Json(#[from] NotCanonical),
    #[error(transparent)]
    Form(#[from] NotMultipart),
    #[error("the route's key is of a part that this call has not got")]
    Absent,
}

impl NoShare {
    /// The closed, short name for `cache-status` and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Json(error) => error.reason(),
            Self::Form(_) => "not-form-data",
            Self::Absent => "key-part-absent",
        }
    }
}

/// Which kind of form, so that one kind never makes the bytes of another.
const JSON: &[u8] = b"json";
const FORM: &[u8] = b"form";
const BYTES: &[u8] = b"bytes";
const PARTS: &[u8] = b"parts";

impl Share {
    /// Of a body that a dialect knows as JSON. `own`: more that tells calls apart and is not said
    /// in what `of` names.
    ///
    /// # Errors
    /// [`NoShare`].
    pub fn of_json(&self, body: &[u8], omit: &Omit, own: &[u8]) -> Result<BodyDigest, NoShare> {
        if let Some(parts) = &self.of {
            return self.of_parts(parts, None, body, own);
        }
        let form = canonicalise_without(body, omit, Bounds::default())?;
        // Without a rule, a form is digested by itself, whatever the route.
        Ok(if self.rule.is_empty() { BodyDigest::of(&form) } else { self.digest(JSON, &form) })
    }

    /// Of any body. `kind`: its `content-type`, which decides how it is read: JSON by what it says,
    /// a form by its parts, all else by its bytes.
    ///
    /// # Errors
    /// [`NoShare`].
    pub fn of_any(&self, kind: Option<&[u8]>, body: &[u8]) -> Result<BodyDigest, NoShare> {
        if let Some(parts) = &self.of {
            return self.of_parts(parts, kind, body, b"");
        }
        if kind.is_some_and(is_json)
            && let Ok(json) = canonicalise_without(body, &self.ignore, Bounds::default())
        {
            let mut form = json_kind(kind);
            form.extend_from_slice(&json);
            return Ok(self.digest(JSON, &form));
        }
        let mut form = Vec::new();
        if let Some((kind, parts)) =
            kind.and_then(|kind| Some((kind, multipart::parts(kind, body).ok()?)))
        {
            // Beside the boundary, it may say how the parts are to be read.
            push(&mut form, &without_boundary(kind));
            for part in &parts {
                push(&mut form, part.name);
                push(&mut form, part.disposition);
                push_part(&mut form, part);
            }
            return Ok(self.digest(FORM, &form));
        }
        // What it was called decides how the service reads it.
        push(&mut form, if kind.is_some() { b"kind" } else { b"" });
        push(&mut form, kind.unwrap_or_default());
        form.extend_from_slice(body);
        Ok(self.digest(BYTES, &form))
    }

    fn of_parts(
        &self,
        named: &[BodyPart],
        kind: Option<&[u8]>,
        body: &[u8],
        own: &[u8],
    ) -> Result<BodyDigest, NoShare> {
        let has = |wanted: fn(&BodyPart) -> bool| named.iter().any(wanted);
        let json = has(|part| matches!(part, BodyPart::Value(_)))
            .then(|| canonicalise_without(body, &self.ignore, Bounds::default()))
            .transpose()?;
        let parts = has(|part| matches!(part, BodyPart::Field(_)))
            .then(|| multipart::parts(kind.unwrap_or_default(), body))
            .transpose()?;
        let mut form = if json.is_some() { json_kind(kind) } else { Vec::new() };
        push(&mut form, own);
        for part in named {
            match part {
                BodyPart::Bytes => push(&mut form, body),
                BodyPart::Value(pointer) => {
                    let value = json.as_ref().and_then(|json| pointer.find(json));
                    push(&mut form, value.ok_or(NoShare::Absent)?);
                }
                BodyPart::Field(name) => {
                    let all = parts.iter().flatten().filter(|part| *part.name == **name);
                    push_count(&mut form, all.clone().count());
                    all.clone().for_each(|part| push_part(&mut form, part));
                    all.clone().next().ok_or(NoShare::Absent)?;
                }
            }
        }
        Ok(self.digest(PARTS, &form))
    }

    fn digest(&self, kind: &[u8], form: &[u8]) -> BodyDigest {
        let mut rule = Vec::with_capacity(self.rule.len() + 16);
        push(&mut rule, kind);
        rule.extend_from_slice(&self.rule);
        BodyDigest::under(&rule, form)
    }
}

fn push_part(form: &mut Vec<u8>, part: &multipart::Part<'_>) {
    push_count(form, part.fields.len());
    for (name, value) in &part.fields {
        push(form, name);
        push(form, value);
    }
    push(form, part.content);
}

fn push(form: &mut Vec<u8>, piece: &[u8]) {
    push_count(form, piece.len());
    form.extend_from_slice(piece);
}

fn push_count(form: &mut Vec<u8>, count: usize) {
    form.extend_from_slice(&u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes());
}

/// What a JSON body's `content-type` adds to its form: nothing if it says no more than that it is
/// JSON, as most do. A vendor's type or another charset may be another question.
fn json_kind(kind: Option<&[u8]>) -> Vec<u8> {
    let mut form = Vec::new();
    if let Some(kind) = kind.filter(|kind| !is_plain_json(kind)) {
        push(&mut form, &kind.to_ascii_lowercase());
    }
    form
}

/// Whether a `content-type` says no more than that the body is JSON.
pub fn is_plain_json(kind: &[u8]) -> bool {
    let mut words = kind.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    words.next().is_some_and(|it| it.eq_ignore_ascii_case(b"application/json"))
        && words.all(|word| word.is_empty() || word.eq_ignore_ascii_case(b"charset=utf-8"))
}

/// The parameters of a form's `content-type`, but for the one that is another each time.
fn without_boundary(kind: &[u8]) -> Vec<u8> {
    let words = kind.split(|byte| *byte == b';').map(|word| word.trim_ascii().to_ascii_lowercase());
    let words: Vec<_> = words.filter(|word| !word.starts_with(b"boundary")).collect();
    words.join(&b';')
}

/// `application/json` and its kin, whatever stands behind a `;`.
fn is_json(kind: &[u8]) -> bool {
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    essence == b"application/json" || (essence.ends_with(b"+json") && essence.contains(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> BodyPart {
        BodyPart::Value(Pointer::parse(text).unwrap())
    }

    fn of(parts: &[BodyPart]) -> Share {
        let rule = format!("{parts:?}").into_bytes().into();
        Share { rule, of: Some(parts.into()), ignore: Omit::default() }
    }

    fn form(boundary: &str, parts: &[(&str, &str, &str)]) -> (String, String) {
        let mut body = String::new();
        for (name, kind, content) in parts {
            body += &format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"f\"\r\ncontent-type: {kind}\r\n\r\n{content}\r\n"
            );
        }
        (format!("multipart/form-data; boundary={boundary}"), format!("{body}--{boundary}--\r\n"))
    }

    fn of_form(
        share: &Share,
        boundary: &str,
        parts: &[(&str, &str, &str)],
    ) -> Result<BodyDigest, NoShare> {
        let (kind, body) = form(boundary, parts);
        share.of_any(Some(kind.as_bytes()), body.as_bytes())
    }

    #[test]
    fn a_named_part_that_is_absent_makes_no_share() {
        let share = of(&[value("/q"), value("/kb")]);
        assert!(share.of_any(None, br#"{"q":1,"kb":null}"#).is_ok());
        assert_eq!(share.of_any(None, br#"{"q":1}"#), Err(NoShare::Absent));
        assert_eq!(share.of_any(None, b"x").map_err(NoShare::reason), Err("not-json"));
        assert_eq!(
            share.of_any(None, br#"{"q":1,"q":2,"kb":1}"#).map_err(NoShare::reason),
            Err("duplicate-member")
        );
        let share = of(&[BodyPart::Field(b"image".as_slice().into())]);
        assert_eq!(of_form(&share, "b", &[("prompt", "a/b", "x")]), Err(NoShare::Absent));
        assert_eq!(share.of_any(None, b"x").map_err(NoShare::reason), Err("not-form-data"));
    }

    #[test]
    fn only_what_is_named_counts() {
        let share = of(&[value("/q"), value("/kb")]);
        let one = share.of_any(None, br#"{"q":"a","kb":1.0,"user":"ann"}"#);
        assert_eq!(one, share.of_any(None, br#"{"kb":1,"q":"\u0061","x":[1]}"#));
        assert_ne!(one, share.of_any(None, br#"{"kb":2,"q":"a"}"#));
        assert_ne!(one, share.of_any(None, br#"{"kb":"a","q":1}"#));
        let bytes = of(&[BodyPart::Bytes]);
        assert_eq!(bytes.of_any(Some(b"image/png"), b"x"), bytes.of_any(None, b"x"));
        assert_ne!(bytes.of_any(None, b"x"), bytes.of_any(None, b"y"));
    }

    #[test]
    fn a_form_is_what_its_parts_say_whatever_the_boundary() {
        let all = Share::default();
        let parts = [("image", "image/png", "x"), ("prompt", "text/plain", "y")];
        let swapped = [parts[1], parts[0]];
        let other_kind = [("image", "image/gif", "x"), parts[1]];
        assert_eq!(of_form(&all, "a", &parts), of_form(&all, "b", &parts));
        assert_ne!(of_form(&all, "a", &parts), of_form(&all, "a", &swapped), "a service may mind");
        let named = of(&[
            BodyPart::Field(b"image".as_slice().into()),
            BodyPart::Field(b"prompt".as_slice().into()),
        ]);
        let one = of_form(&named, "a", &parts);
        assert_eq!(one, of_form(&named, "b", &swapped));
        assert_eq!(one, of_form(&named, "b", &[parts[0], ("x", "a/b", "z"), parts[1]]));
        assert_ne!(one, of_form(&named, "a", &other_kind));
        assert_ne!(one, of_form(&named, "a", &[parts[0], parts[1], parts[1]]));
        assert_ne!(
            one,
            of_form(&named, "a", &[("image", "image/png", "y"), ("prompt", "text/plain", "x")])
        );
    }

    #[test]
    fn the_kind_of_a_body_counts_where_it_decides_how_it_is_read() {
        let all = Share::default();
        let json = Some(b"application/json; charset=utf-8".as_slice());
        assert_eq!(all.of_any(json, b"{\"a\":1.0}"), all.of_any(json, b"{ \"a\": 1 }"));
        let digests = [
            all.of_any(json, b"{\"a\":1}"),
            all.of_any(None, b"{\"a\":1}"),
            all.of_any(Some(b""), b"{\"a\":1}"),
            all.of_any(Some(b"text/plain"), b"{\"a\":1}"),
            all.of_any(json, b"{\"a\":1,\"a\":2}"),
            all.of_json(b"{\"a\":1}", &Omit::default(), b""),
        ];
        for (place, digest) in digests.iter().enumerate() {
            assert!(digest.is_ok() && !digests[..place].contains(digest), "{place}");
        }
    }

    fn json() -> impl Strategy<Value = String> {
        "\\{(\"[ab]\":[0-2],?)?(\"[cd]\":\"[xy]?\")?\\}".prop_map(|text| text.replace(",}", "}"))
    }

    fn rule() -> impl Strategy<Value = Vec<BodyPart>> {
        prop::collection::vec(
            prop_oneof![Just(BodyPart::Bytes), "/[a-d]".prop_map(|text| value(&text))],
            1..3,
        )
    }

    proptest! {
        #[test]
        fn two_rules_or_two_answers_to_one_rule_never_make_one_share(
            one in rule(), other in rule(), left in json(), right in json(),
        ) {
            let read = |rule: &[BodyPart], body: &str| -> Option<Vec<Vec<u8>>> {
                let form = canonicalise_without(body.as_bytes(), &Omit::default(), Bounds::default()).ok()?;
                rule.iter().map(|part| match part {
                    BodyPart::Value(pointer) => pointer.find(&form).map(<[u8]>::to_vec),
                    BodyPart::Bytes | BodyPart::Field(_) => Some(body.as_bytes().to_vec()),
                }).collect()
            };
            if let (Some(said), Some(other_said)) = (read(&one, &left), read(&other, &right)) {
                let digests = [of(&one).of_any(None, left.as_bytes()), of(&other).of_any(None, right.as_bytes())];
                prop_assert!(digests[0].is_ok());
                prop_assert_eq!(digests[0] == digests[1], one == other && said == other_said);
                let own = of(&one).of_json(left.as_bytes(), &Omit::default(), b"stream");
                prop_assert_ne!(own, digests[0]);
            }
        }
    }
}
