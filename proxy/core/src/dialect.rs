//! Which API a call speaks, and what it asks for: from method and path alone.

use std::fmt;

/// A family of APIs with one shape of request, answer, stream and error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    /// Anything else: bytes over HTTP.
    Http,
}

/// What a call asks for. Decides how its body is read, whether it is pure, and
/// whether a converter between its streamed and its whole form exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    OpenAiChat,
    OpenAiCompletions,
    OpenAiResponses,
    OpenAiEmbeddings,
    OpenAiModerations,
    OpenAiRerank,
    AnthropicMessages,
    AnthropicCountTokens,
    /// Not a call that any dialect lists.
    Other,
}

impl Dialect {
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Operation {
    /// What `method` on `path` asks for, whatever prefix a gateway put before it
    /// (`/openai/v1/chat/completions` is a chat). Never looks at the query.
    pub fn of(method: &str, path: &str) -> Self {
        if method != "POST" {
            return Self::Other;
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = path.rsplit('/');
        let last = segments.next().unwrap_or_default();
        let before = segments.next().unwrap_or_default();
        match (before, last) {
            ("chat", "completions") => Self::OpenAiChat,
            ("messages", "count_tokens") => Self::AnthropicCountTokens,
            // A thread's `messages` (assistants API) is no Anthropic call.
            ("v1" | "", "messages") => Self::AnthropicMessages,
            (_, "completions") => Self::OpenAiCompletions,
            (_, "responses") => Self::OpenAiResponses,
            (_, "embeddings") => Self::OpenAiEmbeddings,
            (_, "moderations") => Self::OpenAiModerations,
            (_, "rerank") => Self::OpenAiRerank,
            _ => Self::Other,
        }
    }

    pub fn dialect(self) -> Dialect {
        match self {
            Self::OpenAiChat
            | Self::OpenAiCompletions
            | Self::OpenAiResponses
            | Self::OpenAiEmbeddings
            | Self::OpenAiModerations
            | Self::OpenAiRerank => Dialect::OpenAi,
            Self::AnthropicMessages | Self::AnthropicCountTokens => Dialect::Anthropic,
            Self::Other => Dialect::Http,
        }
    }

    /// The answer depends on nothing but what is asked (and the model), so that it
    /// may be answered from a cache. `Responses` has conditions in its body too.
    pub fn is_pure(self) -> bool {
        self != Self::Other
    }

    /// A converter between the streamed and the whole form exists (`form`).
    pub fn has_converter(self) -> bool {
        matches!(self, Self::OpenAiChat | Self::OpenAiResponses | Self::AnthropicMessages)
    }
}
