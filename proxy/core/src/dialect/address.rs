//! What of a question stands in its path and query, in the dialects that say it there.
//!
//! Gemini names the model and the form in the path, asks for events in the query, and
//! takes the credential in it. TGI has a path for each form. What is form leaves the key,
//! so that both forms have one entry; the credential is the tenant already.

use super::{Dialect, Framing, Operation};
use std::borrow::Cow;

const STREAM_METHOD: &str = "streamGenerateContent";
const WHOLE_METHOD: &str = "generateContent";
const STREAM_PATH: &str = "generate_stream";
const WHOLE_PATH: &str = "generate";

/// `models/M:generateContent` and its like; `before` is the segment before `last`.
pub(super) fn gemini(before: &str, last: &str) -> Operation {
    let Some((model, method)) = last.split_once(':') else { return Operation::Other };
    if model.is_empty() || !matches!(before, "models" | "tunedModels" | "endpoints") {
        return Operation::Other;
    }
    match method {
        WHOLE_METHOD | STREAM_METHOD => Operation::GeminiGenerate,
        "countTokens" => Operation::GeminiCountTokens,
        "embedContent" | "batchEmbedContents" => Operation::GeminiEmbed,
        _ => Operation::Other,
    }
}

impl Operation {
    /// The path says more than which operation it is: the model, or the form.
    pub fn is_said_in_path(self) -> bool {
        self.dialect() == Dialect::Gemini || self == Self::TgiGenerate
    }

    /// The model, where the path names it.
    pub fn model_in_path(self, path: &str) -> Option<&str> {
        if self.dialect() != Dialect::Gemini {
            return None;
        }
        let (_, last) = super::last_segments(path);
        last.split_once(':').map(|(model, _)| model)
    }

    /// How the answer is wanted. `stream`: what the body says of it.
    pub fn framing(self, path: &str, query: Option<&str>, stream: bool) -> Framing {
        let (_, last) = super::last_segments(path);
        if self == Self::GeminiGenerate {
            let method = last.split_once(':').map(|(_, method)| method);
            return if pairs(query).any(|pair| pair == "alt=sse") {
                Framing::Events
            } else if method == Some(STREAM_METHOD) {
                Framing::Array
            } else {
                Framing::Whole
            };
        }
        let streams = if self == Self::TgiGenerate {
            last == STREAM_PATH
        } else {
            stream && self.has_converter()
        };
        match (streams, self.dialect()) {
            (false, _) => Framing::Whole,
            (true, Dialect::Ollama) => Framing::Lines,
            (true, Dialect::Cohere) if self == Self::CohereChatV1 => Framing::Lines,
            (true, _) => Framing::Events,
        }
    }

    /// As [`Self::framing`], of a caller that takes server-sent events or does not: in one API that
    /// decides between two framings of a stream.
    pub fn framing_accepted(self, framing: Framing, takes_events: bool) -> Framing {
        if self.asks_accept() && framing.is_stream() && takes_events {
            return Framing::Events;
        }
        framing
    }

    /// The caller's `accept` (Cohere documents it as `accepts`) says how a stream is wanted.
    pub fn asks_accept(self) -> bool {
        self == Self::CohereChatV1
    }

    /// The `content-type` of an answer in `framing`, as the provider says it.
    pub fn content_type(self, framing: Framing) -> &'static str {
        match (self, framing) {
            (Self::CohereChatV1, Framing::Lines) => "application/stream+json",
            _ => framing.content_type(),
        }
    }

    /// The path as the key has it: without the form, where a converter exists.
    pub fn key_path(self, path: &str) -> Cow<'_, str> {
        let of = |form: &str, whole: &str| {
            let trimmed = path.strip_suffix('/').unwrap_or(path);
            trimmed.strip_suffix(form).map(|start| Cow::Owned(format!("{start}{whole}")))
        };
        let path_of_whole = if self == Self::GeminiGenerate {
            of(STREAM_METHOD, WHOLE_METHOD)
        } else if self == Self::TgiGenerate {
            of(STREAM_PATH, WHOLE_PATH)
        } else {
            None
        };
        path_of_whole.unwrap_or(Cow::Borrowed(path))
    }

    /// The credentials that a query brings, as it writes them.
    pub fn query_credentials(self, query: Option<&str>) -> impl Iterator<Item = &str> {
        let query = query.filter(|_| self.dialect() == Dialect::Gemini);
        pairs(query).filter_map(|pair| pair.strip_prefix("key="))
    }

    /// The query as the key has it: without credentials ([`Self::query_credentials`]), and
    /// without the form.
    pub fn key_query(self, query: Option<&str>) -> Option<Cow<'_, str>> {
        let query = query?;
        if self.dialect() != Dialect::Gemini {
            return Some(Cow::Borrowed(query));
        }
        let leaves = |pair: &str| {
            let is_form = self == Self::GeminiGenerate && matches!(pair, "alt=sse" | "alt=json");
            is_form || pair.starts_with("key=")
        };
        if !pairs(Some(query)).any(leaves) {
            return Some(Cow::Borrowed(query));
        }
        let kept: Vec<&str> = pairs(Some(query)).filter(|pair| !leaves(pair)).collect();
        // Nothing but form and credential is no question more than no query.
        if kept.is_empty() { None } else { Some(Cow::Owned(kept.join("&"))) }
    }
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.unwrap_or_default().split('&')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;

    const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
    const STREAM: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent";

    #[test]
    fn an_unmistakable_path_says_its_dialect_and_a_common_one_does_not() {
        let vertex = "/v1/projects/p/locations/l/publishers/google/models/g:generateContent";
        for path in [GENERATE, STREAM, vertex, "/v1/tunedModels/mine:generateContent"] {
            assert_eq!(Operation::of("POST", path), Operation::GeminiGenerate, "{path}");
            assert_eq!(Operation::of("GET", path), Operation::Other);
        }
        for (path, dialect, expected) in [
            ("/v1/models/m:countTokens", Dialect::Gemini, Operation::GeminiCountTokens),
            ("/v1beta/models/m:batchEmbedContents", Dialect::Gemini, Operation::GeminiEmbed),
            ("/v1beta/models/m:embedContent", Dialect::Gemini, Operation::GeminiEmbed),
            ("/v1beta/models/m:batchGenerateContent", Dialect::Gemini, Operation::Other),
            ("/api/chat", Dialect::Ollama, Operation::OllamaChat),
            ("/ollama/api/generate/", Dialect::Ollama, Operation::OllamaGenerate),
            ("/api/embed", Dialect::Ollama, Operation::OllamaEmbed),
            ("/api/pull", Dialect::Ollama, Operation::Other),
            ("/v2/chat", Dialect::Cohere, Operation::CohereChat),
            ("/v1/chat", Dialect::Cohere, Operation::CohereChatV1),
            ("/v1/generate", Dialect::Cohere, Operation::Other),
            ("/v1/embed", Dialect::Cohere, Operation::CohereEmbed),
            ("/v2/rerank", Dialect::Cohere, Operation::CohereRerank),
            ("/generate", Dialect::Tgi, Operation::TgiGenerate),
            ("/generate_stream", Dialect::Tgi, Operation::TgiGenerate),
            ("/", Dialect::Tgi, Operation::TgiRoot),
            ("/v1/chat/completions", Dialect::Tgi, Operation::Other),
            ("/v1/chat/completions", Dialect::OpenAi, Operation::OpenAiChat),
            ("/v1/chat/completions", Dialect::Anthropic, Operation::Other),
            (GENERATE, Dialect::Http, Operation::Other),
        ] {
            assert_eq!(Operation::in_dialect(dialect, "POST", path), expected, "{path}");
            let detected = Operation::of("POST", path).dialect();
            assert!(
                matches!(detected, Dialect::Gemini | Dialect::OpenAi | Dialect::Http),
                "{path}"
            );
        }
        for common in ["/api/chat", "/v2/chat", "/generate", "/", "/v1/embed", "/a:b"] {
            assert_eq!(Operation::of("POST", common), Operation::Other, "{common}");
        }
    }

    #[test]
    fn both_methods_are_one_question_and_the_credential_is_no_part_of_it() {
        let operation = Operation::GeminiGenerate;
        assert_eq!(operation.key_path(STREAM), GENERATE);
        assert_eq!(operation.key_path(GENERATE), GENERATE);
        assert_eq!(operation.model_in_path(STREAM), Some("gemini-2.5-flash"));
        let query = |query| operation.key_query(Some(query)).map(Cow::into_owned);
        assert_eq!(query("alt=sse&key=secret"), None);
        assert_eq!(
            query("key=secret&fields=usageMetadata&alt=json").as_deref(),
            Some("fields=usageMetadata")
        );
        // It may be somebody's credential that names no tenant: it stays.
        assert_eq!(query("access_token=x").as_deref(), Some("access_token=x"));
        assert_eq!(query("%24alt=json").as_deref(), Some("%24alt=json"));
        assert_eq!(operation.key_query(None), None);
        // Elsewhere it is a word like any other.
        let chat = Operation::OpenAiChat.key_query(Some("key=a&alt=sse"));
        assert_eq!(chat.as_deref(), Some("key=a&alt=sse"));
        let tgi = Operation::TgiGenerate;
        assert_eq!(tgi.key_path("/a/generate_stream"), "/a/generate");
    }

    #[test]
    fn how_an_answer_is_wanted_stands_where_the_dialect_says_it() {
        let gemini = |path, query| Operation::GeminiGenerate.framing(path, query, true);
        assert_eq!(gemini(GENERATE, None), Framing::Whole);
        assert_eq!(gemini(STREAM, Some("key=a&alt=sse")), Framing::Events);
        assert_eq!(gemini(STREAM, Some("key=a")), Framing::Array);
        let tgi = |path| Operation::TgiGenerate.framing(path, None, true);
        assert_eq!((tgi("/generate"), tgi("/generate_stream")), (Framing::Whole, Framing::Events));
        for (operation, streamed) in [
            (Operation::OllamaChat, Framing::Lines),
            (Operation::OpenAiChat, Framing::Events),
            (Operation::CohereChatV1, Framing::Lines),
            (Operation::TgiRoot, Framing::Events),
            (Operation::OllamaEmbed, Framing::Whole),
        ] {
            assert_eq!(operation.framing("/x", None, true), streamed);
            assert_eq!(operation.framing("/x", None, false), Framing::Whole);
        }
    }

    #[test]
    fn an_answer_is_framed_as_its_head_says_and_an_array_as_it_was_wanted() {
        let of = |kind: &'static str, wanted| Framing::of_answer(Some(kind.as_bytes()), wanted);
        assert_eq!(of("text/event-stream; charset=utf-8", Framing::Whole), Framing::Events);
        assert_eq!(of("application/x-ndjson", Framing::Lines), Framing::Lines);
        assert_eq!(of("application/stream+json", Framing::Events), Framing::Lines);
        assert_eq!(of("application/json; charset=UTF-8", Framing::Array), Framing::Array);
        assert_eq!(of("application/json", Framing::Lines), Framing::Whole);
        assert_eq!(Framing::of_answer(None, Framing::Whole), Framing::Whole);
    }
}
