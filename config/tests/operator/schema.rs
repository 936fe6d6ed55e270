//! The schema: it says what the reader enforces.

use serde_json::Value;

/// All that the reader understands; a new one must be taught to it first.
const KEYWORDS: [&str; 22] = [
    "$defs",
    "$ref",
    "$schema",
    "additionalProperties",
    "anyOf",
    "const",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxProperties",
    "maximum",
    "minItems",
    "minProperties",
    "minimum",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "title",
    "writeOnly",
];

fn walk(schema: &Value, see: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match schema {
        Value::Object(members) => {
            see(members);
            for (key, member) in members {
                match key.as_str() {
                    "properties" | "$defs" => {
                        member.as_object().unwrap().values().for_each(|inner| walk(inner, see));
                    }
                    _ => walk(member, see),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_reader_knows_every_keyword_of_the_schema() {
    walk(&tollgate_config::schema(), &mut |members| {
        for key in members.keys() {
            assert!(key == "type" || KEYWORDS.contains(&key.as_str()), "{key} in {members:?}");
        }
    });
}

#[test]
fn no_mapping_of_the_schema_takes_unknown_keys() {
    walk(&tollgate_config::schema(), &mut |members| {
        if members.contains_key("properties") {
            assert_eq!(
                members.get("additionalProperties"),
                Some(&Value::Bool(false)),
                "{members:?}"
            );
        }
    });
}

#[test]
fn the_full_example_has_every_key_of_the_schema() {
    let full = include_str!("../../examples/full.yaml");
    let tree: Value = serde_saphyr::from_str(full).unwrap();
    let mut written = std::collections::BTreeSet::new();
    walk_all(&tree, &mut |key| {
        written.insert(key.to_owned());
    });
    walk(&tollgate_config::schema(), &mut |members| {
        for key in members
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|own| own.keys())
        {
            assert!(written.contains(key), "{key} is not in the full example");
        }
    });
}

fn walk_all(tree: &Value, see: &mut impl FnMut(&str)) {
    match tree {
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            see(key);
            walk_all(member, see);
        }),
        Value::Array(items) => items.iter().for_each(|item| walk_all(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
