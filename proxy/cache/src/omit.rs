//! Which members of a body its canonical form leaves out.
//!
//! The pointers of a route are put into a tree once, so that the writer of the form goes down it
//! beside the body. `*` is any member of an object or element of a list; where a name and `*` both
//! lead on, what holds for `*` was added to the name's branch when the tree was made.

use crate::pointer::{Pointer, Step};

/// What is left out of one value: of the whole document, or of what a step leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Omit {
    /// All of it.
    pub(crate) whole: bool,
    named: Vec<(Step, Self)>,
    any: Option<Box<Self>>,
}

impl Omit {
    /// Leaves out what `pointers` lead to.
    pub fn new<'a>(pointers: impl IntoIterator<Item = &'a Pointer>) -> Self {
        let mut omit = Self::default();
        for pointer in pointers {
            omit.add(pointer.steps());
        }
        omit
    }

    /// Leaves out members of the document itself, which have plain names.
    pub fn members(names: &[&str]) -> Self {
        let step = |name: &&str| Step { name: name.as_bytes().into(), place: None };
        let mut omit = Self::default();
        names.iter().for_each(|name| omit.add(&[step(name)]));
        omit
    }

    /// And these, too.
    #[must_use]
    pub fn and(mut self, pointers: &[Pointer]) -> Self {
        pointers.iter().for_each(|pointer| self.add(pointer.steps()));
        self
    }

    fn add(&mut self, steps: &[Step]) {
        let Some((step, rest)) = steps.split_first() else {
            self.whole = true;
            return;
        };
        if step.is_any() {
            self.named.iter_mut().for_each(|(_, inner)| inner.add(rest));
            self.any.get_or_insert_default().add(rest);
            return;
        }
        if let Some((_, inner)) = self.named.iter_mut().find(|(own, _)| own == step) {
            return inner.add(rest);
        }
        let mut inner = self.any.as_deref().cloned().unwrap_or_default();
        inner.add(rest);
        self.named.push((step.clone(), inner));
    }

    /// `name` as it is in a form, without its quotes.
    pub(crate) fn member(&self, name: &[u8]) -> Option<&Self> {
        let named = self.named.iter().find(|(own, _)| *own.name == *name);
        named.map(|(_, inner)| inner).or(self.any.as_deref())
    }

    pub(crate) fn element(&self, place: usize) -> Option<&Self> {
        let named = self.named.iter().find(|(own, _)| own.place == Some(place));
        named.map(|(_, inner)| inner).or(self.any.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        canonical::{Bounds, NotCanonical, canonicalise, canonicalise_without},
        omit::Omit,
        pointer::Pointer,
    };
    use proptest::prelude::*;
    use serde_json::Value;

    fn form(body: &str, pointers: &[&str]) -> Result<String, NotCanonical> {
        let pointers: Vec<_> = pointers.iter().map(|text| Pointer::parse(text).unwrap()).collect();
        let form = canonicalise_without(body.as_bytes(), &Omit::new(&pointers), Bounds::default());
        form.map(|form| String::from_utf8(form).unwrap())
    }

    #[track_caller]
    fn check(body: &str, pointers: &[&str], expected: &str) {
        assert_eq!(form(body, pointers).as_deref(), Ok(expected), "{body} without {pointers:?}");
    }

    #[test]
    fn what_is_named_is_left_out_at_any_depth() {
        check(r#"{"b":1,"a":{"id":7,"x":2}}"#, &["/a/id"], r#"{"a":{"x":2},"b":1}"#);
        check(r#"{"b":1,"a":{"id":7}}"#, &["/a/id"], r#"{"a":{},"b":1}"#);
        check(r#"{"b":1,"a":2}"#, &["/a", "/c/d"], r#"{"b":1}"#);
        check(r#"{"a":[1,2,3]}"#, &["/a/1"], r#"{"a":[1,3]}"#);
        check(r#"{"a":[1,2,3]}"#, &["/a/0", "/a/2"], r#"{"a":[2]}"#);
        check(r#"[{"id":1,"t":"x"},{"t":"y"}]"#, &["/*/id"], r#"[{"t":"x"},{"t":"y"}]"#);
        check(
            r#"{"a":{"p":{"id":1},"q":{"id":2,"z":3}}}"#,
            &["/a/*/id", "/a/q/z"],
            r#"{"a":{"p":{},"q":{}}}"#,
        );
        check(
            r#"{"a":{"p":{"id":1},"q":{"id":2,"z":3}}}"#,
            &["/a/q/z", "/a/*/id"],
            r#"{"a":{"p":{},"q":{}}}"#,
        );
        check(r#"{"a":{"p":1,"q":2}}"#, &["/a/*"], r#"{"a":{}}"#);
        check(r#"{"m\u0065":1,"b":2}"#, &["/me"], r#"{"b":2}"#);
        check(r#"{"a/b":1,"c":2}"#, &["/a~1b"], r#"{"c":2}"#);
    }

    #[test]
    fn what_is_left_out_must_still_occur_once() {
        let twice = Err(NotCanonical::DuplicateMember { at: 0 });
        for pointers in [&["/a"][..], &["/*"]] {
            let found = form(r#"{"a":1,"b":2,"a":3}"#, pointers);
            assert_eq!(
                found.map_err(|error| error.reason()),
                twice.clone().map_err(|error| error.reason())
            );
        }
        assert!(form(r#"{"a":{"x":1,"x":2}}"#, &["/a"]).is_err());
        assert!(form(r#"{"a":}"#, &["/a"]).is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<i8>().prop_map(Value::from), "[a-c]{0,2}".prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[ab]", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same with another engine: what `steps` lead to, taken out.
    fn without(value: &mut Value, steps: &[&str]) {
        let Some((step, rest)) = steps.split_first() else { return };
        match value {
            Value::Object(members) => {
                if rest.is_empty() {
                    members.retain(|name, _| *step != "*" && name != step);
                }
                for (name, inner) in
                    members.iter_mut().filter(|(name, _)| *step == "*" || name == step)
                {
                    let _ = name;
                    without(inner, rest);
                }
            }
            Value::Array(elements) => {
                let place: Option<usize> = step.parse().ok();
                if rest.is_empty() {
                    let mut at = 0..;
                    elements.retain(|_| {
                        let at = at.next();
                        *step != "*" && at != place
                    });
                } else {
                    for (at, inner) in elements.iter_mut().enumerate() {
                        if *step == "*" || Some(at) == place {
                            without(inner, rest);
                        }
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    proptest! {
        #[test]
        fn ignored_members_change_nothing_and_all_others_do(
            one in value(), other in value(), pointer in "(/(a|b|\\*|0)){1,3}",
        ) {
            let steps: Vec<&str> = pointer.split('/').skip(1).collect();
            let rest = |value: &Value| { let mut value = value.clone(); without(&mut value, &steps); value };
            let forms = [&one, &other].map(|value| form(&value.to_string(), &[&pointer]).unwrap());
            prop_assert_eq!(forms[0] == forms[1], rest(&one) == rest(&other));
            let expected = canonicalise(rest(&one).to_string().as_bytes(), &[], Bounds::default());
            prop_assert_eq!(Ok(forms[0].as_bytes()), expected.as_deref());
        }
    }
}
