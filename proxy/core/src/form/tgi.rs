//! TGI: the events of a generation, and the whole one.
//!
//! One way only. A stream tells every token and, in its last event, the whole text; so a
//! whole answer can be made of it. A whole answer does not tell its tokens unless it was
//! asked for them, and never how long the input was, which the last event of a stream
//! does: there is no stream that could be made of it without making something up. Shapes:
//! huggingface.github.io/text-generation-inference, `GenerateResponse`, `StreamResponse`.

use super::raw::{Object, Raw, take_out};
use super::sse;

/// `in_list`: the whole answer of this path is a list of one.
pub(super) fn stream_to_whole(frames: &[u8], in_list: bool) -> Option<Vec<u8>> {
    let mut tokens = Vec::new();
    let mut whole = None;
    for event in sse::events(frames)? {
        // Nothing may be said behind the end, or the end was not one.
        if whole.is_some() || event.name.is_some() {
            return None;
        }
        let data = Raw::parse(event.data.as_bytes())?;
        let mut members = data.unique_members()?;
        take_out(&mut members, "index");
        tokens.push(take_out(&mut members, "token")?.compact());
        let text = take_out(&mut members, "generated_text").filter(|text| !text.is_null());
        let details = take_out(&mut members, "details").filter(|details| !details.is_null());
        // `top_tokens`, `error` and what we never heard of.
        if !members.is_empty() {
            return None;
        }
        let Some(text) = text else {
            if details.is_some() {
                return None;
            }
            continue;
        };
        let mut answer = Object::new();
        answer.string("generated_text", &text.string()?);
        if let Some(details) = details {
            answer.raw("details", &whole_details(details, &tokens)?);
        }
        whole = Some(answer.end());
    }
    let whole = whole?;
    let body = if in_list { format!("[{whole}]") } else { whole };
    Some(body.into_bytes())
}

/// The details of a whole answer: without the input's length, for which it has no place,
/// and without the input's tokens, which no stream can be asked for.
fn whole_details(details: Raw<'_>, tokens: &[String]) -> Option<String> {
    let mut members = details.unique_members()?;
    take_out(&mut members, "input_length");
    let mut whole = Object::new();
    whole.raw("finish_reason", &take_out(&mut members, "finish_reason")?.compact());
    whole.raw("generated_tokens", &take_out(&mut members, "generated_tokens")?.compact());
    whole.raw("seed", &take_out(&mut members, "seed")?.compact());
    whole.raw("prefill", "[]");
    whole.raw("tokens", &format!("[{}]", tokens.join(",")));
    members.is_empty().then(|| whole.end())
}
