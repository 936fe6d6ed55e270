//! Which API a call speaks, and what it asks for: from method and path alone.
//!
//! Some paths are unmistakable; others (`/api/chat`, `/v2/chat`, `/generate`) are names
//! that any business service may have, and are read as a model's only where the route
//! says which dialect it speaks.

mod address;

use std::fmt;

/// A family of APIs with one shape of request, answer, stream and error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    /// `models/M:generateContent`, on whatever host.
    Gemini,
    /// Ollama's own API; its `/v1` is OpenAI's.
    Ollama,
    Cohere,
    /// Hugging Face's text-generation-inference; its `/v1` is OpenAI's.
    Tgi,
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
    /// `generateContent` and `streamGenerateContent`: one question, two methods.
    GeminiGenerate,
    GeminiCountTokens,
    /// `embedContent` and `batchEmbedContents`.
    GeminiEmbed,
    OllamaChat,
    OllamaGenerate,
    /// `/api/embed` and the older `/api/embeddings`.
    OllamaEmbed,
    /// `/v2/chat`.
    CohereChat,
    /// `/v1/chat`: another question, another answer.
    CohereChatV1,
    CohereEmbed,
    CohereRerank,
    /// `/generate` and `/generate_stream`: one question, two paths.
    TgiGenerate,
    /// `/` and `/invocations`: the whole answer is a list of one, and the body says
    /// whether it streams.
    TgiRoot,
    /// Not a call that any dialect lists.
    Other,
}

/// How the bytes of an answer are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// In one piece.
    Whole,
    /// Server-sent events.
    Events,
    /// A JSON object a line.
    Lines,
    /// The elements of one JSON array, as they come.
    Array,
}

impl Dialect {
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Cohere => "cohere",
            Self::Tgi => "tgi",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Framing {
    pub fn is_stream(self) -> bool {
        self != Self::Whole
    }

    /// As an answer of this framing says it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Whole | Self::Array => "application/json",
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }

    /// What an answer is whose head says `content_type`, to a call that wanted `wanted`:
    /// a streamed array says no more than any JSON.
    pub fn of_answer(content_type: Option<&[u8]>, wanted: Self) -> Self {
        let says = |kind: &[u8]| {
            let start = content_type.and_then(|said| said.get(..kind.len()));
            start.is_some_and(|start| start.eq_ignore_ascii_case(kind))
        };
        if says(b"text/event-stream") {
            Self::Events
        } else if LINES.into_iter().any(says) {
            Self::Lines
        } else if wanted == Self::Array {
            Self::Array
        } else {
            Self::Whole
        }
    }
}

/// The types of answers that are a JSON object a line; the last is Cohere's own.
const LINES: [&[u8]; 3] =
    [b"application/x-ndjson", b"application/ndjson", b"application/stream+json"];

impl Operation {
    /// What `method` on `path` asks for, whatever prefix a gateway put before it
    /// (`/openai/v1/chat/completions` is a chat). Never looks at the query.
    pub fn of(method: &str, path: &str) -> Self {
        if method != "POST" {
            return Self::Other;
        }
        let (before, last) = last_segments(path);
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
            _ => address::gemini(before, last),
        }
    }

    /// What it asks for on a route that speaks `dialect` and nothing else.
    pub fn in_dialect(dialect: Dialect, method: &str, path: &str) -> Self {
        if method != "POST" {
            return Self::Other;
        }
        let (before, last) = last_segments(path);
        match dialect {
            Dialect::OpenAi | Dialect::Anthropic => {
                let operation = Self::of(method, path);
                if operation.dialect() == dialect { operation } else { Self::Other }
            }
            Dialect::Gemini => address::gemini(before, last),
            Dialect::Ollama => match (before, last) {
                ("api", "chat") => Self::OllamaChat,
                ("api", "generate") => Self::OllamaGenerate,
                ("api", "embed" | "embeddings") => Self::OllamaEmbed,
                _ => Self::Other,
            },
            Dialect::Cohere => match (before, last) {
                ("v2", "chat") => Self::CohereChat,
                ("v1", "chat") => Self::CohereChatV1,
                ("v1" | "v2", "embed") => Self::CohereEmbed,
                ("v1" | "v2", "rerank") => Self::CohereRerank,
                _ => Self::Other,
            },
            Dialect::Tgi => match (before, last) {
                (_, "generate" | "generate_stream") => Self::TgiGenerate,
                ("", "" | "invocations") => Self::TgiRoot,
                _ => Self::Other,
            },
            Dialect::Http => Self::Other,
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
            Self::GeminiGenerate | Self::GeminiCountTokens | Self::GeminiEmbed => Dialect::Gemini,
            Self::OllamaChat | Self::OllamaGenerate | Self::OllamaEmbed => Dialect::Ollama,
            Self::CohereChat | Self::CohereChatV1 | Self::CohereEmbed | Self::CohereRerank => {
                Dialect::Cohere
            }
            Self::TgiGenerate | Self::TgiRoot => Dialect::Tgi,
            Self::Other => Dialect::Http,
        }
    }

    /// The answer depends on nothing but what is asked (and the model), so that it
    /// may be answered from a cache. Some have conditions in their body too.
    pub fn is_pure(self) -> bool {
        self != Self::Other
    }

    /// A converter between the streamed and the whole form exists (`form`).
    pub fn has_converter(self) -> bool {
        match self {
            Self::OpenAiChat
            | Self::OpenAiCompletions
            | Self::OpenAiResponses
            | Self::AnthropicMessages
            | Self::GeminiGenerate
            | Self::OllamaChat
            | Self::OllamaGenerate
            | Self::CohereChat
            | Self::CohereChatV1
            | Self::TgiGenerate
            | Self::TgiRoot => true,
            Self::OpenAiEmbeddings
            | Self::OpenAiModerations
            | Self::OpenAiRerank
            | Self::AnthropicCountTokens
            | Self::GeminiCountTokens
            | Self::GeminiEmbed
            | Self::OllamaEmbed
            | Self::CohereEmbed
            | Self::CohereRerank
            | Self::Other => false,
        }
    }

    /// Members of the body that say which form is wanted and nothing else. They leave the
    /// key where a converter between the forms exists.
    pub fn form_members(self) -> &'static [&'static str] {
        match self {
            Self::OpenAiChat
            | Self::OpenAiCompletions
            | Self::OpenAiResponses
            | Self::AnthropicMessages => &["stream", "stream_options"],
            Self::OllamaChat
            | Self::OllamaGenerate
            | Self::CohereChat
            | Self::CohereChatV1
            | Self::TgiRoot => &["stream"],
            Self::OpenAiEmbeddings
            | Self::OpenAiModerations
            | Self::OpenAiRerank
            | Self::AnthropicCountTokens
            | Self::GeminiGenerate
            | Self::GeminiCountTokens
            | Self::GeminiEmbed
            | Self::OllamaEmbed
            | Self::CohereEmbed
            | Self::CohereRerank
            | Self::TgiGenerate
            | Self::Other => &[],
        }
    }
}

/// The last segment of a path and the one before it, without a slash at the end.
fn last_segments(path: &str) -> (&str, &str) {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = path.rsplit('/');
    let last = segments.next().unwrap_or_default();
    (segments.next().unwrap_or_default(), last)
}
