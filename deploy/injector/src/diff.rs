//! What has to be done to one JSON document to make it another, as RFC 6902 has it.
//!
//! Our own and not a crate's: a list whose members have a `name` is compared by these, so
//! that a container put before the others is one `add`, and not a `replace` of every
//! member behind it. What no operation names, the API server leaves as it is, byte by
//! byte; so a small patch is a promise, too.

use serde::Serialize;
use serde_json::{Map, Value};

/// One step from the old document to the new one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Puts a member where there was none, or an element before that place.
    Add {
        /// Where, as RFC 6901 writes it.
        path: String,
        /// What.
        value: Value,
    },
    /// Takes what is there away.
    Remove {
        /// Where.
        path: String,
    },
    /// Puts another value in place of what is there.
    Replace {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
}

/// The steps from `old` to `new`, to be done in order; none where they are equal.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> Vec<Operation> {
    let mut steps = Vec::new();
    value(&mut String::new(), old, new, &mut steps);
    steps
}

fn value(path: &mut String, old: &Value, new: &Value, steps: &mut Vec<Operation>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => object(path, old, new, steps),
        (Value::Array(old), Value::Array(new)) => array(path, old, new, steps),
        _ if old == new => {}
        _ => steps.push(Operation::Replace { path: path.clone(), value: new.clone() }),
    }
}

fn object(
    path: &mut String,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    steps: &mut Vec<Operation>,
) {
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        let path = below(path, &escaped(key), |path| path.clone());
        steps.push(Operation::Remove { path });
    }
    for (key, to) in new {
        below(path, &escaped(key), |path| match old.get(key) {
            Some(from) => value(path, from, to, steps),
            None => steps.push(Operation::Add { path: path.clone(), value: to.clone() }),
        });
    }
}

/// Left to right: whenever the element `at` is looked at, those before it are as in `new`,
/// and the rest of `old` begins there.
fn array(path: &mut String, old: &[Value], new: &[Value], steps: &mut Vec<Operation>) {
    let mut left = old;
    let mut at = 0;
    while let Some(to) = new.get(at) {
        match left.split_first() {
            Some((from, rest)) if is_same(from, to) => {
                below(path, &at.to_string(), |path| value(path, from, to, steps));
                left = rest;
                at += 1;
            }
            Some((_, rest)) if rest.iter().any(|from| is_same(from, to)) => {
                let path = below(path, &at.to_string(), |path| path.clone());
                steps.push(Operation::Remove { path });
                left = rest;
            }
            Some(_) | None => {
                let path = below(path, &at.to_string(), |path| path.clone());
                steps.push(Operation::Add { path, value: to.clone() });
                at += 1;
            }
        }
    }
    for _ in left {
        let path = below(path, &at.to_string(), |path| path.clone());
        steps.push(Operation::Remove { path });
    }
}

/// Whether the one is the other, changed or not.
fn is_same(one: &Value, other: &Value) -> bool {
    match (name(one), name(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one == other,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn name(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

/// Calls `with` one step down.
fn below<T>(path: &mut String, step: &str, with: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.push('/');
    path.push_str(step);
    let made = with(path);
    path.truncate(length);
    made
}

/// RFC 6901, section 3.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(old: Value, new: Value) -> Value {
        serde_json::to_value(diff(&old, &new)).unwrap()
    }

    #[test]
    fn what_is_equal_needs_no_step() {
        let pod = json!({"a": [1, {"name": "b"}], "c": null});
        assert!(diff(&pod, &pod).is_empty());
    }

    #[test]
    fn a_container_put_first_is_one_step() {
        let old = json!({"of": [{"name": "a", "image": "x"}, {"name": "b"}]});
        let new = json!({"of": [{"name": "t"}, {"name": "a", "image": "y"}, {"name": "b"}]});
        assert_eq!(
            shown(old, new),
            json!([
                {"op": "add", "path": "/of/0", "value": {"name": "t"}},
                {"op": "replace", "path": "/of/1/image", "value": "y"},
            ])
        );
    }

    #[test]
    fn a_slash_and_a_tilde_in_a_key_are_escaped() {
        assert_eq!(
            shown(json!({"a": {}}), json!({"a": {"tollgate.dev/x~y": "1"}})),
            json!([{"op": "add", "path": "/a/tollgate.dev~1x~0y", "value": "1"}])
        );
    }
}
