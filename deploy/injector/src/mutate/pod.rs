//! Reading and writing the parts of a pod, whatever is there instead of them.

use serde_json::{Map, Value};

/// An object's member; null where there is none.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

/// The elements of a list, none where there is no list.
pub(super) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The text of a member.
pub(super) fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member)?.as_str()
}

/// Every container, of each kind.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"]
        .into_iter()
        .flat_map(|path| list(pod, path))
}

/// The main container of that name, to be changed.
pub(super) fn container_mut<'a>(pod: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    pod.pointer_mut("/spec/containers")?
        .as_array_mut()?
        .iter_mut()
        .find(|container| text(container, "name") == Some(name))
}

/// An object's member that is an object; made where there is none, or null.
pub(super) fn object_mut<'a>(
    value: &'a mut Value,
    member: &str,
) -> Option<&'a mut Map<String, Value>> {
    let there = value.as_object_mut()?.entry(member).or_insert(Value::Null);
    if there.is_null() {
        *there = Value::Object(Map::new());
    }
    there.as_object_mut()
}

/// An object's member that is a list; made where there is none, or null.
pub(super) fn list_mut<'a>(value: &'a mut Value, member: &str) -> Option<&'a mut Vec<Value>> {
    let there = value.as_object_mut()?.entry(member).or_insert(Value::Null);
    if there.is_null() {
        *there = Value::Array(Vec::new());
    }
    there.as_array_mut()
}

pub(super) fn annotations(pod: &Value) -> Option<&Map<String, Value>> {
    at(pod, "/metadata/annotations").as_object()
}

pub(super) fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    annotations(pod)?.get(key)?.as_str()
}

pub(super) fn annotate(pod: &mut Value, key: &str, value: impl Into<String>) {
    describe(pod, "annotations", key, value.into());
}

pub(super) fn label(pod: &mut Value, key: &str, value: &str) {
    describe(pod, "labels", key, value.to_owned());
}

fn describe(pod: &mut Value, of: &str, key: &str, value: String) {
    if object_mut(pod, "metadata").is_none() {
        return;
    }
    if let Some(metadata) = pod.get_mut("metadata")
        && let Some(all) = object_mut(metadata, of)
    {
        all.insert(key.to_owned(), Value::String(value));
    }
}

/// Takes an annotation away, where there is one.
pub(super) fn unannotate(pod: &mut Value, key: &str) {
    if let Some(all) = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        all.remove(key);
    }
}

/// A port as the API has it where a name or a number may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PortRef {
    Name(String),
    Number(u16),
}

impl PortRef {
    /// `"8000"` means the number, as it does to the kubelet.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::from_text(text)),
            Value::Number(number) => {
                Some(Self::Number(u16::try_from(number.as_u64()?).ok().filter(|port| *port > 0)?))
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn from_text(text: &str) -> Self {
        match text.parse() {
            Ok(number) if number > 0 => Self::Number(number),
            Ok(_) | Err(_) => Self::Name(text.to_owned()),
        }
    }
}
