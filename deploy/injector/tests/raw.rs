//! A JSON document of which every leaf is kept as it was written, to see which of them a
//! patch leaves alone.

use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(crate) enum Raw {
    Object(BTreeMap<String, Raw>),
    List(Vec<Raw>),
    Leaf(String),
}

impl Raw {
    pub(crate) fn read(text: &str) -> Self {
        match text.trim_start().chars().next() {
            Some('{') => {
                let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
                let read = |(key, value): (String, Box<RawValue>)| (key, Self::read(value.get()));
                Self::Object(members.into_iter().map(read).collect())
            }
            Some('[') => {
                let elements: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
                Self::List(elements.iter().map(|it| Self::read(it.get())).collect())
            }
            _ => Self::Leaf(text.to_owned()),
        }
    }

    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        match self {
            Self::Object(members) => members.get(name).cloned(),
            Self::List(_) | Self::Leaf(_) => None,
        }
    }

    /// One operation of RFC 6902.
    pub(crate) fn apply(&mut self, step: &Value) {
        let path = step["path"].as_str().unwrap();
        let (parent, last) = path.rsplit_once('/').unwrap();
        let value = || Self::read(&step["value"].to_string());
        let operation = step["op"].as_str().unwrap();
        match self.below(parent) {
            Self::Object(members) => {
                let key = last.replace("~1", "/").replace("~0", "~");
                match operation {
                    "remove" => assert!(members.remove(&key).is_some(), "{path}"),
                    "add" => assert!(members.insert(key, value()).is_none(), "{path}"),
                    _ => assert!(members.insert(key, value()).is_some(), "{path}"),
                }
            }
            Self::List(elements) => {
                let at: usize = last.parse().unwrap();
                match operation {
                    "remove" => drop(elements.remove(at)),
                    "add" => elements.insert(at, value()),
                    _ => elements[at] = value(),
                }
            }
            Self::Leaf(text) => panic!("{path}: in {text}"),
        }
    }

    fn below(&mut self, path: &str) -> &mut Self {
        let mut place = self;
        for step in path.split('/').skip(1) {
            place = match place {
                Self::Object(members) => {
                    members.get_mut(&step.replace("~1", "/").replace("~0", "~")).unwrap()
                }
                Self::List(elements) => &mut elements[step.parse::<usize>().unwrap()],
                Self::Leaf(text) => panic!("{path}: in {text}"),
            };
        }
        place
    }

    /// Every leaf by its place; an element of a list by its name, where it has one.
    pub(crate) fn leaves(&self) -> BTreeMap<String, String> {
        let mut leaves = BTreeMap::new();
        self.collect(String::new(), &mut leaves);
        leaves
    }

    fn collect(&self, place: String, leaves: &mut BTreeMap<String, String>) {
        match self {
            Self::Object(members) => {
                for (key, value) in members {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    value.collect(format!("{place}/{key}"), leaves);
                }
            }
            Self::List(elements) => {
                for (at, value) in elements.iter().enumerate() {
                    let step = match value.member("name") {
                        Some(Self::Leaf(name)) => name.trim_matches('"').to_owned(),
                        _ => at.to_string(),
                    };
                    value.collect(format!("{place}/{step}"), leaves);
                }
            }
            Self::Leaf(text) => drop(leaves.insert(place, text.clone())),
        }
    }
}
