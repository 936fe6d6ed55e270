//! Tag templates: `kb:{header.x-kb}`.

use crate::{
    TagPart, TagTemplate,
    problem::quoted,
    review::{Review, is_token},
};

/// A tag is stored with every entry.
const TEMPLATE_BYTES_MAX: usize = 256;
/// Deeper than any API's paths.
pub(super) const SEGMENTS_MAX: usize = 64;
/// Deeper than any API's bodies.
const STEPS_MAX: usize = 32;
const KNOWN: &str = "header.N query.N path.N body./json/pointer tenant user project model";

pub(super) fn templates(review: &mut Review<'_>, path: &str, raws: &[String]) -> Vec<TagTemplate> {
    let mut templates = Vec::new();
    for (i, raw) in raws.iter().enumerate() {
        match template(raw) {
            Ok(template) => templates.push(template),
            Err(message) => review.report(format!("{path}[{i}]"), message),
        }
    }
    templates
}

fn template(text: &str) -> Result<TagTemplate, String> {
    pieces(text, TagPart::Literal, part, KNOWN).map(|parts| TagTemplate { parts })
}

/// Reads text with parts in braces. `known` says what parts there are.
pub(super) fn pieces<P>(
    text: &str,
    literal: impl Fn(String) -> P,
    part: impl Fn(&str) -> Option<P>,
    known: &str,
) -> Result<Vec<P>, String> {
    if text.is_empty() || text.len() > TEMPLATE_BYTES_MAX {
        return Err(format!("must be 1 to {TEMPLATE_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not have control characters".to_owned());
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (plain, after) = rest.split_once('{').unwrap_or((rest, ""));
        if plain.contains('}') {
            return Err(format!("}} without {{: {}", quoted(text)));
        }
        if !plain.is_empty() {
            parts.push(literal(plain.to_owned()));
        }
        if plain.len() == rest.len() {
            break;
        }
        let (name, after) =
            after.split_once('}').ok_or_else(|| format!("{{ without }}: {}", quoted(text)))?;
        parts.push(
            part(name)
                .ok_or_else(|| format!("unknown part {}; known are {known}", quoted(name)))?,
        );
        rest = after;
    }
    Ok(parts)
}

fn part(name: &str) -> Option<TagPart> {
    let (source, argument) = name.split_once('.').unwrap_or((name, ""));
    match (source, argument) {
        ("tenant", "") => Some(TagPart::Tenant),
        ("user", "") => Some(TagPart::User),
        ("project", "") => Some(TagPart::Project),
        ("model", "") => Some(TagPart::Model),
        ("header", header) if is_token(header) => {
            Some(TagPart::Header(header.to_ascii_lowercase()))
        }
        ("query", query) if !query.is_empty() => Some(TagPart::Query(query.to_owned())),
        ("path", place) => {
            let place: usize = place.parse().ok()?;
            (1..=SEGMENTS_MAX).contains(&place).then(|| TagPart::Segment(place - 1))
        }
        ("body", pointer) => is_pointer(pointer).then(|| TagPart::Body(pointer.to_owned())),
        _ => None,
    }
}

/// What a pointer should have been.
pub(super) const POINTER_IS: &str =
    "a JSON pointer like /metadata/topic, of at most 32 steps, with ~ as ~0 and / in a name as ~1";

/// RFC 6901, but not the whole document.
pub(super) fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1);
    text.starts_with('/')
        && text.split('/').count() <= STEPS_MAX + 1
        && escapes.into_iter().all(|after| after.starts_with(['0', '1']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_template_is_text_and_parts() {
        assert_eq!(
            template("kb:{header.X-KB}/{path.2}{body./a~1b/0}").unwrap().parts,
            [
                TagPart::Literal("kb:".into()),
                TagPart::Header("x-kb".into()),
                TagPart::Literal("/".into()),
                TagPart::Segment(1),
                TagPart::Body("/a~1b/0".into()),
            ]
        );
        assert_eq!(template("{tenant}").unwrap().parts, [TagPart::Tenant]);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for wrong in [
            "",
            "{",
            "}",
            "a}",
            "{tenant",
            "{}",
            "{nobody}",
            "{header.}",
            "{header.a b}",
            "{path.0}",
            "{path.x}",
            "{path.65}",
            "{body.a}",
            "{body./~2}",
            "{tenant.x}",
            "{query.}",
            "a\nb",
            "{{tenant}}",
        ] {
            assert!(template(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_template_reads_back_as_it_is_shown(text in "([a-z:]{0,3}(\\{(header\\.x|query\\.q|path\\.[1-9]|body\\./a/b|tenant|user|project|model)\\})?){0,4}") {
            if let Ok(parsed) = template(&text) {
                prop_assert_eq!(parsed.to_string(), text.clone());
                prop_assert_eq!(template(&text), Ok(parsed));
            } else {
                prop_assert!(text.is_empty());
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            drop(template(&text));
        }
    }
}
