//! JSON pointers (RFC 6901) into canonical forms.
//!
//! A pointer is looked up in the form and not in the body: there every name has one spelling, no
//! object has two members of one name, and there is no white space, so that a value is found by
//! skipping over what stands before it and is compared as bytes, numbers exactly.

/// More steps than any API nests.
pub const STEPS_MAX: usize = 32;

/// Why a text is no pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPointer {
    #[error("a pointer starts with /")]
    Start,
    #[error("in a pointer ~ is written ~0 and / inside a name ~1")]
    Escape,
    #[error("a pointer has at most {STEPS_MAX} steps")]
    Steps,
}

/// Where a value stands in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Box<[Step]>);

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// As the name is written in a form, without its quotes.
    pub(crate) name: Box<[u8]>,
    /// The place in a list that it would be.
    pub(crate) place: Option<usize>,
}

impl Step {
    /// It was written as `*`.
    pub(crate) fn is_any(&self) -> bool {
        *self.name == *b"*"
    }
}

impl Pointer {
    /// Reads RFC 6901. Not the empty pointer, which is the whole document.
    ///
    /// # Errors
    /// [`BadPointer`].
    pub fn parse(text: &str) -> Result<Self, BadPointer> {
        let names = text.strip_prefix('/').ok_or(BadPointer::Start)?;
        let steps: Result<Box<[Step]>, BadPointer> = names.split('/').map(step).collect();
        Ok(Self(steps?)).and_then(|pointer| match pointer.0.len() {
            ..=STEPS_MAX => Ok(pointer),
            _ => Err(BadPointer::Steps),
        })
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The value's own form in a document's. `form` must be one that
    /// [`canonicalise`](crate::canonical::canonicalise) wrote; of anything else, whatever is found
    /// is a part of it.
    pub fn find<'a>(&self, form: &'a [u8]) -> Option<&'a [u8]> {
        let mut value = form;
        for step in &self.0 {
            value = match value.split_first()? {
                (b'{', members) => member(members, &step.name)?,
                (b'[', elements) => element(elements, step.place?)?,
                _ => return None,
            };
        }
        value.get(..value_len(value))
    }
}

/// What a form is made of, for people, each with the pointer to it: its members or elements, and
/// theirs. At most `max` of them, then `/*` is all from there on; of what is no object and no list,
/// itself, under an empty name. Names are as long as they are, and their escapes JSON's.
pub fn pieces(form: &[u8], max: usize) -> Vec<(String, &[u8])> {
    let mut all = Vec::new();
    if children(form).is_none() {
        all.push((String::new(), form));
    }
    for (name, value, rest) in children(form).into_iter().flatten() {
        let inner: Vec<Child<'_>> = children(value).into_iter().flatten().take(max).collect();
        if all.len() + inner.len().max(1) >= max {
            all.push(("/*".to_owned(), rest));
            break;
        }
        if inner.is_empty() {
            all.push((format!("/{}", escaped(&name)), value));
        }
        for (own, value, _) in inner {
            all.push((format!("/{}/{}", escaped(&name), escaped(&own)), value));
        }
    }
    all
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Name, value, and all from the value on.
type Child<'a> = (String, &'a [u8], &'a [u8]);

/// What is in a list or an object.
fn children(form: &[u8]) -> Option<impl Iterator<Item = Child<'_>>> {
    let (first, mut rest) = form.split_first()?;
    let is_object = match first {
        b'{' => true,
        b'[' => false,
        _ => return None,
    };
    let mut place = 0_usize;
    Some(std::iter::from_fn(move || {
        rest = rest.strip_prefix(b",").unwrap_or(rest);
        let name = if is_object {
            let (key, after) = rest.split_at_checked(value_len(rest))?;
            let key = key.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            rest = after.strip_prefix(b":")?;
            String::from_utf8_lossy(key).into_owned()
        } else {
            place.to_string()
        };
        place += 1;
        let from_here = rest;
        let (value, after) =
            rest.split_at_checked(value_len(rest)).filter(|(it, _)| !it.is_empty())?;
        rest = after;
        Some((name, value, from_here))
    }))
}

fn step(text: &str) -> Result<Step, BadPointer> {
    let mut name = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let meant = match character {
            '~' => match characters.next() {
                Some('0') => '~',
                Some('1') => '/',
                Some(_) | None => return Err(BadPointer::Escape),
            },
            other => other,
        };
        push_char(&mut name, meant);
    }
    let is_place = text == "0" || !text.starts_with(['0', '+']);
    let place = text.parse().ok().filter(|_| is_place);
    Ok(Step { name: name.into(), place })
}

/// The rest of a form from the value of the member `name` on.
fn member<'a>(mut members: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    loop {
        let (key, rest) = members.split_at_checked(value_len(members))?;
        let value = rest.strip_prefix(b":")?;
        let own = key.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if own == name {
            return Some(value);
        }
        members = value.get(value_len(value)..)?.strip_prefix(b",")?;
    }
}

fn element(mut elements: &[u8], place: usize) -> Option<&[u8]> {
    if elements.starts_with(b"]") {
        return None;
    }
    for _ in 0..place {
        elements = elements.get(value_len(elements)..)?.strip_prefix(b",")?;
    }
    Some(elements)
}

/// How long the value is that `form` begins with.
fn value_len(form: &[u8]) -> usize {
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = form.get(at) {
        match byte {
            b'"' => {
                at += string_len(form.get(at..).unwrap_or_default());
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    form.len()
}

/// How long the string is, quotes included.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        match memchr::memchr2(b'"', b'\\', rest) {
            None => return text.len(),
            Some(len) if rest.get(len) == Some(&b'"') => return at + len + 1,
            Some(len) => at += len + 2,
        }
    }
}

/// Writes a character of a string, with an escape only where there must be one.
pub(crate) fn push_char(out: &mut Vec<u8>, character: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        control if u32::from(control) < 0x20 => {
            out.extend_from_slice(b"\\u00");
            out.push(if u32::from(control) < 0x10 { b'0' } else { b'1' });
            let low = usize::try_from(u32::from(control) % 16).unwrap_or(0);
            out.push(HEX.get(low).copied().unwrap_or(b'0'));
        }
        other => {
            let mut utf8 = [0; 4];
            out.extend_from_slice(other.encode_utf8(&mut utf8).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{Bounds, canonicalise};
    use proptest::prelude::*;

    #[track_caller]
    fn check(document: &str, pointer: &str, expected: Option<&str>) {
        let form = canonicalise(document.as_bytes(), &[], Bounds::default()).unwrap();
        let found = Pointer::parse(pointer).unwrap().find(&form);
        assert_eq!(found.map(|found| str::from_utf8(found).unwrap()), expected, "{pointer}");
    }

    #[test]
    fn what_a_pointer_leads_to_is_found() {
        let document = r#"{"a":{"b":[1.0,{"c":"x,]}\"{"},[],{}],"":7},"d/e":true,"~":null,
            "*":2,"\u0041\n":"y","z":""}"#;
        check(document, "/a/b/0", Some("1"));
        check(document, "/a/b/1/c", Some(r#""x,]}\"{""#));
        check(document, "/a/b/1", Some(r#"{"c":"x,]}\"{"}"#));
        check(document, "/a/b/2", Some("[]"));
        check(document, "/a/b/3", Some("{}"));
        check(document, "/a/", Some("7"));
        check(document, "/d~1e", Some("true"));
        check(document, "/~0", Some("null"));
        check(document, "/*", Some("2"));
        check(document, "/A\n", Some("\"y\""));
        check(document, "/z", Some("\"\""));
        for absent in ["/b", "/a/c", "/a/b/4", "/a/b/01", "/a/b/-", "/a/b/+1", "/z/0", "/a/b/2/0"] {
            check(document, absent, None);
        }
        check("[]", "/0", None);
        check("{}", "/a", None);
        check("7", "/a", None);
    }

    #[test]
    fn a_form_is_taken_to_pieces_one_step_into_its_members() {
        let names = |document: &str, max| {
            let form = canonicalise(document.as_bytes(), &[], Bounds::default()).unwrap();
            let pieces = pieces(&form, max);
            for (name, value) in pieces.iter().filter(|(name, _)| !["/*", ""].contains(&&**name)) {
                assert_eq!(Pointer::parse(name).unwrap().find(&form), Some(*value), "{name}");
            }
            pieces.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let document = r#"{"a":[{"b":1},"x"],"c/d":{},"e":"f","g":{"h":[1,2]}}"#;
        assert_eq!(names(document, 64), ["/a/0", "/a/1", "/c~1d", "/e", "/g/h"]);
        assert_eq!(names(document, 4), ["/a/0", "/a/1", "/c~1d", "/*"]);
        assert_eq!(names(document, 1), ["/*"]);
        assert_eq!(names("[7,[]]", 64), ["/0", "/1"]);
        assert_eq!(names("{}", 64), [""; 0]);
        assert_eq!(names("7", 64), [""]);
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        assert_eq!(Pointer::parse(""), Err(BadPointer::Start));
        assert_eq!(Pointer::parse("a"), Err(BadPointer::Start));
        assert_eq!(Pointer::parse("/~"), Err(BadPointer::Escape));
        assert_eq!(Pointer::parse("/~2"), Err(BadPointer::Escape));
        assert_eq!(Pointer::parse(&"/a".repeat(STEPS_MAX + 1)), Err(BadPointer::Steps));
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i32>().prop_map(serde_json::Value::from),
            "[a\"\\\\/~,{}\\[\\]é\n]{0,4}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let name = "[ab\"\\\\/~*0-2\n]{0,3}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Every pointer into `value`, with what it leads to.
    fn all(value: &serde_json::Value, at: String, found: &mut Vec<(String, serde_json::Value)>) {
        let mut go = |step: &str, inner: &serde_json::Value| {
            let at = format!("{at}/{}", step.replace('~', "~0").replace('/', "~1"));
            found.push((at.clone(), inner.clone()));
            all(inner, at, found);
        };
        match value {
            serde_json::Value::Object(members) => {
                members.iter().for_each(|(name, inner)| go(name, inner));
            }
            serde_json::Value::Array(elements) => {
                elements
                    .iter()
                    .enumerate()
                    .for_each(|(place, inner)| go(&place.to_string(), inner));
            }
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => {}
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_parser_finds(document in value()) {
            let form = canonicalise(document.to_string().as_bytes(), &[], Bounds::default()).unwrap();
            let mut pointers = Vec::new();
            all(&document, String::new(), &mut pointers);
            for (pointer, expected) in pointers {
                let found = Pointer::parse(&pointer).unwrap().find(&form).map(<[u8]>::to_vec);
                let expected = canonicalise(expected.to_string().as_bytes(), &[], Bounds::default());
                prop_assert_eq!(found, expected.ok(), "{}", pointer);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(form in prop::collection::vec(any::<u8>(), 0..64), pointer in "(/[a0-2]?){0,3}") {
            if let Ok(pointer) = Pointer::parse(&pointer) {
                pointer.find(&form);
            }
        }
    }
}
