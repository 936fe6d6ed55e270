//! Holds a file against the schema and reports everything that does not fit.
//!
//! serde stops at the first mistake; an operator wants all of them. So the schema,
//! which is generated from the `Raw…` types, is walked beside the file: each unknown
//! key, wrong type, unknown word and missing value is reported with its path, and *taken out of
//! the tree*. What is left always fits the `Raw…` types, and validation goes on with it
//! to find the mistakes of meaning, too.
//!
//! Only the part of JSON Schema that schemars makes of our types is understood; a
//! test holds every keyword of the schema against the list.

use crate::{
    later,
    near::nearest,
    problem::{self, PROBLEMS_MAX, Problem, quoted},
};
use serde_json::{Map, Value};

/// Where we are: as the operator sees it, and with names and places left out.
#[derive(Clone)]
struct Place {
    path: String,
    pattern: String,
}

/// The walk over one file.
struct Walk<'s> {
    schema: &'s Value,
    problems: Vec<Problem>,
}

/// Reports what does not fit, and takes it out of `tree`.
pub(crate) fn fit(tree: &mut Value, schema: &Value) -> Vec<Problem> {
    let mut walk = Walk { schema, problems: Vec::new() };
    let root = Place { path: String::new(), pattern: String::new() };
    if tree.is_null() {
        *tree = Value::Object(Map::new()); // an empty file
    }
    if !walk.value(tree, schema, &root) {
        *tree = Value::Object(Map::new());
    }
    walk.problems
}

impl<'s> Walk<'s> {
    fn report(&mut self, place: &Place, message: impl Into<String>) {
        let path = if place.path.is_empty() { "file".to_owned() } else { place.path.clone() };
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { path, message: message.into() });
        }
    }

    /// Whether `value` may stay; what is wrong inside of it has been taken out.
    fn value(&mut self, value: &mut Value, schema: &'s Value, place: &Place) -> bool {
        if let Some(word) = value.as_str()
            && later::has_word(&place.pattern, word)
        {
            let message = format!("{word}: {}", later::MESSAGE);
            self.report(place, message);
            return false;
        }
        let Some(schema) = self.variant(schema, value) else {
            if !self.is_only_later(value, place) {
                let message = self.expected(schema, value);
                self.report(place, message);
            }
            return false;
        };
        match value {
            Value::Object(members) => {
                self.object(members, schema, place);
                true
            }
            Value::Array(items) => self.array(items, schema, place),
            Value::String(word) => self.word(word, schema, place),
            Value::Number(number) => {
                let in_range = fits_range(number, schema);
                if !in_range {
                    self.report(place, range(schema));
                }
                in_range
            }
            Value::Null | Value::Bool(_) => true,
        }
    }

    /// A mapping where none is taken, of keys that one day will be: `balance: { hash: … }`.
    fn is_only_later(&mut self, value: &Value, place: &Place) -> bool {
        let known = later::keys(&place.pattern);
        let found: Vec<&String> = value
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .filter(|key| known.contains(&key.as_str()))
            .collect();
        for key in &found {
            self.report(&place.member(key, key), later::MESSAGE);
        }
        !found.is_empty()
    }

    fn object(&mut self, members: &mut Map<String, Value>, schema: &'s Value, place: &Place) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let free = schema.get("additionalProperties").filter(|schema| schema.is_object());
        members.retain(|_, value| !value.is_null()); // `tls:` with nothing behind it
        let keys: Vec<String> = members.keys().cloned().collect();
        let mut wrong = Vec::new();
        for key in keys {
            let own = properties.and_then(|properties| properties.get(&key));
            let inner = match (own, free) {
                (Some(_), _) => place.member(&key, &key),
                (None, Some(_)) => place.member(&key, "*"),
                (None, None) => {
                    self.unknown(&key, properties, place);
                    members.remove(&key);
                    continue;
                }
            };
            let (Some(schema), Some(value)) = (own.or(free), members.get_mut(&key)) else {
                continue;
            };
            if !self.value(value, schema, &inner) {
                match self.placeholder(schema) {
                    Some(empty) if own.is_none() => *value = empty,
                    Some(_) | None => {
                        members.remove(&key);
                        wrong.push(key);
                    }
                }
            }
        }
        // Of "exactly one of these", validation says more.
        let max = bound(schema, "maxProperties").filter(|max| *max > 1);
        if let Some(max) = max.filter(|max| members.len() > *max) {
            self.report(place, format!("takes at most {max}"));
        }
        self.missing(members, &wrong, schema, place);
    }

    /// A key that was there, but wrong, is not also missing.
    fn missing(
        &mut self,
        members: &Map<String, Value>,
        wrong: &[String],
        schema: &Value,
        place: &Place,
    ) {
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = name.as_str() else { continue };
            if !members.contains_key(name) && !wrong.iter().any(|key| key == name) {
                self.report(&place.member(name, name), "missing");
            }
        }
    }

    fn unknown(&mut self, key: &str, properties: Option<&Map<String, Value>>, place: &Place) {
        let later_keys = later::keys(&place.pattern);
        let inner = place.member(key, key);
        if later_keys.contains(&key) {
            return self.report(&inner, later::MESSAGE);
        }
        let known = || properties.into_iter().flat_map(Map::keys).map(String::as_str);
        let message = match nearest(key, known().chain(later_keys.iter().copied())) {
            Some(near) => format!("unknown key; did you mean {near}?"),
            None => {
                let known: Vec<_> = known().collect();
                format!("unknown key; known here: {}", known.join(", "))
            }
        };
        self.report(&inner, message);
    }

    fn array(&mut self, items: &mut Vec<Value>, schema: &'s Value, place: &Place) -> bool {
        let Some(schema_of_items) = schema.get("items") else { return true };
        let [min, max] = ["minItems", "maxItems"].map(|name| bound(schema, name));
        match (min, max) {
            (Some(min), Some(max)) if min == max && items.len() != max => {
                self.report(place, format!("takes exactly {max} in this version"));
            }
            (Some(min), _) if items.len() < min => {
                self.report(place, format!("needs at least {min}"))
            }
            (_, Some(max)) if items.len() > max => {
                self.report(place, format!("takes at most {max}"))
            }
            (_, _) => {}
        }
        items.truncate(max.unwrap_or(usize::MAX));
        for (i, item) in items.iter_mut().enumerate() {
            if !self.value(item, schema_of_items, &place.item(i)) {
                *item = self.placeholder(schema_of_items).unwrap_or(Value::Null);
            }
        }
        // Only where a list of bare words is wrong in a word: the others keep their places.
        items.retain(|item| !item.is_null());
        true
    }

    fn word(&mut self, word: &str, schema: &Value, place: &Place) -> bool {
        let words = words(schema);
        if words.is_empty() || words.contains(&word) {
            return true;
        }
        let list = words.join(", ");
        let one_of = if words.len() == 1 { "" } else { "one of " };
        let message = match nearest(word, words.iter().copied()) {
            Some(near) => format!("must be {one_of}{list}; did you mean {near}?"),
            None => format!("must be {one_of}{list}, not {}", quoted(word)),
        };
        self.report(place, message);
        false
    }

    /// What takes the place of a value that was taken out of a list or of free names,
    /// so that the others keep their places and references to it still find something.
    fn placeholder(&self, schema: &'s Value) -> Option<Value> {
        if self.variant(schema, &Value::Object(Map::new())).is_some() {
            return Some(Value::Object(Map::new()));
        }
        let text = Value::String(String::new());
        self.variant(schema, &text).filter(|schema| words(schema).is_empty()).map(|_| text)
    }

    /// The alternative of `schema` that is of the value's type.
    fn variant(&self, schema: &'s Value, value: &Value) -> Option<&'s Value> {
        let schema = self.resolve(schema);
        let alternatives = ["anyOf", "oneOf"].iter().find_map(|name| schema.get(name));
        match alternatives.and_then(Value::as_array) {
            // Of words with a description each, `word` wants the whole list.
            Some(all) if all.iter().all(|one| one.get("const").is_some()) => {
                value.is_string().then_some(schema)
            }
            Some(all) => all.iter().find_map(|one| self.variant(one, value)),
            None => types(schema).any(|name| is_of_type(value, name)).then_some(schema),
        }
    }

    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let target = schema.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|target| target.strip_prefix('#'));
        target.and_then(|pointer| self.schema.pointer(pointer)).unwrap_or(schema)
    }

    fn expected(&self, schema: &'s Value, found: &Value) -> String {
        if self.is_secret(schema) {
            return SECRET_IS.to_owned(); // and not what was found: it may be the secret
        }
        let mut expected = Vec::new();
        self.collect_expected(schema, &mut expected);
        expected.dedup();
        let found = match found {
            Value::Null => "nothing".to_owned(),
            Value::Bool(word) => format!("the boolean {word}"),
            Value::Number(number) => format!("the number {number}"),
            Value::String(text) => quoted(text),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
        };
        let mut message = format!("must be {}, not {found}", expected.join(" or "));
        if message.contains(TEXT_IS) && (found.starts_with("the ")) {
            message.push_str("; put it in quotes");
        }
        message
    }

    fn is_secret(&self, schema: &'s Value) -> bool {
        let alternatives = schema.get("anyOf").and_then(Value::as_array);
        let mut all = alternatives.into_iter().flatten().chain([schema]);
        all.any(|one| self.resolve(one).get("writeOnly").is_some())
    }

    fn collect_expected(&self, schema: &'s Value, expected: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if let Some(all) = ["anyOf", "oneOf"].iter().find_map(|name| schema.get(name)?.as_array()) {
            return all.iter().for_each(|one| self.collect_expected(one, expected));
        }
        let title = schema.get("title").and_then(Value::as_str);
        let words = words(schema);
        if let Some(title) = title.filter(|_| schema.get("pattern").is_some()) {
            expected.push(title.to_owned());
        } else if !words.is_empty() {
            expected.push(words.join(", "));
        } else {
            let names = types(schema).filter(|name| *name != "null");
            expected.extend(names.map(|name| describe_type(name).to_owned()));
        }
    }
}

const TEXT_IS: &str = "a text";
/// What a reference to a secret must be.
pub(crate) const SECRET_IS: &str = "must be { env: NAME } or { file: PATH }";

impl Place {
    fn member(&self, key: &str, pattern: &str) -> Self {
        let dot = if self.pattern.is_empty() { "" } else { "." };
        Self {
            path: problem::member(&self.path, key),
            pattern: format!("{}{dot}{pattern}", self.pattern),
        }
    }

    fn item(&self, i: usize) -> Self {
        Self { path: format!("{}[{i}]", self.path), pattern: format!("{}[]", self.pattern) }
    }
}

fn words(schema: &Value) -> Vec<&str> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let described = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let described = described.filter_map(|one| one.get("const"));
    let own = schema.get("const").into_iter();
    listed.chain(described).chain(own).filter_map(Value::as_str).collect()
}

fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let one = schema.get("type").and_then(Value::as_str);
    let many = schema.get("type").and_then(Value::as_array).into_iter().flatten();
    one.into_iter().chain(many.filter_map(Value::as_str))
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn describe_type(name: &str) -> &str {
    match name {
        "object" => "a mapping",
        "array" => "a list",
        "string" => TEXT_IS,
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        other => other,
    }
}

fn bound(schema: &Value, name: &str) -> Option<usize> {
    schema.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok())
}

fn fits_range(number: &serde_json::Number, schema: &Value) -> bool {
    let bound = |name| schema.get(name).and_then(Value::as_f64);
    let number = number.as_f64().unwrap_or(f64::NAN);
    number >= bound("minimum").unwrap_or(f64::MIN) && number <= bound("maximum").unwrap_or(f64::MAX)
}

fn range(schema: &Value) -> String {
    let bound = |name| schema.get(name).map(Value::to_string);
    match (bound("minimum"), bound("maximum")) {
        (Some(min), Some(max)) => format!("must be {min} to {max}"),
        (Some(min), None) => format!("must be at least {min}"),
        (None, _) => "is too large".to_owned(),
    }
}
