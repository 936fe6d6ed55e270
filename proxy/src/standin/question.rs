//! Reads what a model call asks for. It shares no code with the proxy on
//! purpose: a stand-in that reads as the proxy reads would hide its mistakes.

use serde_json::Value;

/// Choices of one answer at most.
const CHOICES_MAX: u64 = 8;

/// The model calls the stand-in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Moderations,
    Messages,
    CountTokens,
    Generate,
    GeminiCount,
    GeminiEmbed,
    GeminiBatch,
    OllamaChat,
    OllamaGenerate,
    OllamaEmbed,
    CohereChat,
    CohereEmbed,
    CohereRerank,
    TgiGenerate,
    TgiStream,
    TgiRoot,
}

/// Whose shapes are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
    Cohere,
    Tgi,
}

/// How the answer is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Whole,
    Events,
    Lines,
    Array,
}

/// `/v1beta/models/{model}:{method}`
fn gemini(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/v1beta/models/").or(path.strip_prefix("/v1/models/"))?;
    rest.split_once(':')
}

impl Api {
    pub(super) fn of(path: &str) -> Option<Self> {
        if let Some((_, method)) = gemini(path) {
            return match method {
                "generateContent" | "streamGenerateContent" => Some(Self::Generate),
                "countTokens" => Some(Self::GeminiCount),
                "embedContent" => Some(Self::GeminiEmbed),
                "batchEmbedContents" => Some(Self::GeminiBatch),
                _ => None,
            };
        }
        Some(match path {
            "/api/chat" => Self::OllamaChat,
            "/api/generate" => Self::OllamaGenerate,
            "/api/embed" => Self::OllamaEmbed,
            "/v2/chat" => Self::CohereChat,
            "/v2/embed" => Self::CohereEmbed,
            "/v1/rerank" | "/v2/rerank" => Self::CohereRerank,
            "/generate" => Self::TgiGenerate,
            "/generate_stream" => Self::TgiStream,
            "/" => Self::TgiRoot,
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/responses" => Self::Responses,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/moderations" => Self::Moderations,
            "/v1/messages" => Self::Messages,
            "/v1/messages/count_tokens" => Self::CountTokens,
            _ => return None,
        })
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::Chat
            | Self::Completions
            | Self::Responses
            | Self::Embeddings
            | Self::Moderations => Family::OpenAi,
            Self::Messages | Self::CountTokens => Family::Anthropic,
            Self::Generate | Self::GeminiCount | Self::GeminiEmbed | Self::GeminiBatch => {
                Family::Gemini
            }
            Self::OllamaChat | Self::OllamaGenerate | Self::OllamaEmbed => Family::Ollama,
            Self::CohereChat | Self::CohereEmbed | Self::CohereRerank => Family::Cohere,
            Self::TgiGenerate | Self::TgiStream | Self::TgiRoot => Family::Tgi,
        }
    }

    /// What is wanted, where the body says `stream` or does not say anything.
    fn shape(self, target: &str, stream: Option<bool>) -> Shape {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let if_asked = |shape| if stream == Some(true) { shape } else { Shape::Whole };
        match self {
            Self::Generate if path.ends_with(":generateContent") => Shape::Whole,
            Self::Generate if query.split('&').any(|pair| pair == "alt=sse") => Shape::Events,
            Self::Generate => Shape::Array,
            Self::OllamaChat | Self::OllamaGenerate if stream.is_none() => Shape::Lines,
            Self::OllamaChat | Self::OllamaGenerate => if_asked(Shape::Lines),
            Self::TgiStream => Shape::Events,
            Self::Chat
            | Self::Completions
            | Self::Responses
            | Self::Messages
            | Self::CohereChat
            | Self::TgiRoot => if_asked(Shape::Events),
            Self::Embeddings
            | Self::Moderations
            | Self::CountTokens
            | Self::GeminiCount
            | Self::GeminiEmbed
            | Self::GeminiBatch
            | Self::OllamaEmbed
            | Self::CohereEmbed
            | Self::CohereRerank
            | Self::TgiGenerate => Shape::Whole,
        }
    }

    /// The member without which there is no question.
    fn subject(self) -> &'static str {
        match self {
            Self::Chat
            | Self::Messages
            | Self::CountTokens
            | Self::OllamaChat
            | Self::CohereChat => "messages",
            Self::Completions | Self::OllamaGenerate => "prompt",
            Self::Responses | Self::Embeddings | Self::Moderations | Self::OllamaEmbed => "input",
            Self::Generate | Self::GeminiCount => "contents",
            Self::GeminiEmbed => "content",
            Self::GeminiBatch => "requests",
            Self::CohereEmbed => "texts",
            Self::CohereRerank => "documents",
            Self::TgiGenerate | Self::TgiStream | Self::TgiRoot => "inputs",
        }
    }
}

/// A tool the caller offers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) schema: Value,
}

/// A request, understood.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) shape: Shape,
    /// TGI: tokens are to be told.
    pub(super) details: bool,
    pub(super) stream_options: bool,
    pub(super) include_usage: bool,
    pub(super) choices: u64,
    pub(super) tokens_max: Option<usize>,
    pub(super) input_tokens: u64,
    /// The tool the answer calls.
    pub(super) tool: Option<Tool>,
    /// Over every text and number of the question proper, so that the answer
    /// depends on what is asked and on nothing else.
    pub(super) asked: blake3::Hasher,
    /// The inputs of an embeddings or moderations call, one seed each.
    pub(super) inputs: Vec<blake3::Hash>,
    pub(super) base64: bool,
    pub(super) dimensions: usize,
    /// What documents are held against.
    pub(super) query: blake3::Hash,
    /// How many of the documents are wanted.
    pub(super) top_n: usize,
}

/// Why a request is no question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclear {
    pub(super) message: String,
    pub(super) param: Option<&'static str>,
}

impl Question {
    pub(super) fn read(api: Api, target: &str, body: &[u8]) -> Result<Self, Unclear> {
        let body: Value = serde_json::from_slice(body).map_err(|error| Unclear {
            message: format!("the body is not JSON: {error}"),
            param: None,
        })?;
        let missing = |param| Unclear {
            message: format!("missing required parameter: '{param}'"),
            param: Some(param),
        };
        let subject = body.get(api.subject()).filter(|subject| !subject.is_null());
        let subject = subject.ok_or_else(|| missing(api.subject()))?;
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let in_path = gemini(path).map(|(model, _)| model);
        let model = match in_path.or(body.get("model").and_then(Value::as_str)) {
            Some(model) => model.to_owned(),
            None if api.family() == Family::Tgi => "tgi".to_owned(),
            None if api == Api::Moderations => "omni-moderation-latest".to_owned(),
            None => return Err(missing("model")),
        };
        let tokens_max = ["max_completion_tokens", "max_output_tokens", "max_tokens"]
            .iter()
            .find_map(|name| body.get(*name)?.as_u64());
        let nested = [
            "/generationConfig/maxOutputTokens",
            "/options/num_predict",
            "/parameters/max_new_tokens",
        ];
        let nested = nested.iter().find_map(|place| body.pointer(place)?.as_u64());
        let tokens_max = tokens_max.or(nested);
        let shape = api.shape(target, body.get("stream").and_then(Value::as_bool));
        if api == Api::Messages && tokens_max.is_none() {
            return Err(missing("max_tokens"));
        }
        let number = |name: &str| body.get(name).and_then(Value::as_u64);
        let options = body.get("stream_options").filter(|options| !options.is_null());
        let mut asked = blake3::Hasher::new();
        let mut bytes = 0;
        for name in ["system", "systemInstruction", "instructions", "query", api.subject()] {
            bytes += absorb(body.get(name).unwrap_or(&Value::Null), &mut asked);
        }
        let mut query = blake3::Hasher::new();
        absorb(body.get("query").unwrap_or(&Value::Null), &mut query);
        let top_n = number("top_n").and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        Ok(Self {
            query: query.finalize(),
            top_n,
            api,
            model,
            stream: shape != Shape::Whole,
            shape,
            details: is_true(body.pointer("/parameters/details")),
            stream_options: options.is_some(),
            include_usage: is_true(options.and_then(|options| options.get("include_usage"))),
            choices: number("n").unwrap_or(1).clamp(1, CHOICES_MAX),
            tokens_max: tokens_max.map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
            input_tokens: bytes.div_ceil(4).max(1),
            tool: called_tool(&body, subject),
            asked,
            inputs: inputs(subject),
            base64: body.get("encoding_format").and_then(Value::as_str) == Some("base64"),
            dimensions: number("dimensions").and_then(|n| usize::try_from(n).ok()).unwrap_or(8),
        })
    }
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool).unwrap_or(false)
}

/// Hashes every text and number in order; returns their length in bytes. Roles
/// and types are shape, not text: all dialects ask the same in the same words.
/// serde_json reads at most 128 levels, so the recursion is bounded.
fn absorb(value: &Value, into: &mut blake3::Hasher) -> u64 {
    let mut take = |text: &str| {
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        into.update(&bytes.to_le_bytes()).update(text.as_bytes());
        bytes
    };
    match value {
        Value::Null | Value::Bool(_) => 0,
        Value::String(text) => take(text),
        Value::Number(number) => take(&number.to_string()),
        Value::Array(items) => items.iter().map(|item| absorb(item, into)).sum(),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "role" | "type"))
            .map(|(_, item)| absorb(item, into))
            .sum(),
    }
}

/// A list of texts or of token lists is many inputs; a text or one list of
/// tokens is one.
fn inputs(subject: &Value) -> Vec<blake3::Hash> {
    let seed = |value: &Value| {
        let mut hasher = blake3::Hasher::new();
        absorb(value, &mut hasher);
        hasher.finalize()
    };
    match subject {
        Value::Array(items) if !items.iter().all(Value::is_number) => {
            items.iter().map(seed).collect()
        }
        Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_) => vec![seed(subject)],
    }
}

/// The tool the last user text names, or the first one if the text only says
/// "tool" or `tool_choice` demands one.
fn called_tool(body: &Value, subject: &Value) -> Option<Tool> {
    let listed = body.get("tools")?.as_array()?.iter();
    let tools = listed.flat_map(|listed| match listed.get("functionDeclarations") {
        Some(Value::Array(many)) => many.iter().filter_map(tool).collect::<Vec<_>>(),
        _ => tool(listed).into_iter().collect(),
    });
    let tools: Vec<Tool> = tools.collect();
    let text = last_user_text(subject)?;
    let choice = body.get("tool_choice").unwrap_or(&Value::Null);
    let choice_type = choice.get("type").or(Some(choice)).and_then(Value::as_str);
    if choice_type == Some("none") {
        return None;
    }
    let forced_name = choice.pointer("/function/name").or(choice.get("name"));
    let named = tools.iter().find(|tool| match forced_name.and_then(Value::as_str) {
        Some(forced) => tool.name == forced,
        None => text.contains(&tool.name),
    });
    let any = matches!(choice_type, Some("required" | "any")) || text.contains("tool");
    named.or_else(|| tools.first().filter(|_| any)).cloned()
}

/// All three shapes: `{"function":{"name","parameters"}}`, `{"name","parameters"}`
/// and `{"name","input_schema"}`.
fn tool(value: &Value) -> Option<Tool> {
    let tool = value.get("function").unwrap_or(value);
    let schema = tool.get("parameters").or(tool.get("input_schema"));
    Some(Tool {
        name: tool.get("name")?.as_str()?.to_owned(),
        schema: schema.cloned().unwrap_or(Value::Null),
    })
}

/// The text of the last message, if a user wrote it; a tool's result is none.
fn last_user_text(subject: &Value) -> Option<String> {
    if let Some(text) = subject.as_str() {
        return Some(text.to_owned());
    }
    let last = subject.as_array()?.last()?;
    if last.get("role").and_then(Value::as_str) != Some("user") {
        return None;
    }
    match last.get("content").or(last.get("parts"))? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Vec<&str> =
                parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            (!texts.is_empty()).then(|| texts.join("\n"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(api: Api, body: &Value) -> Question {
        Question::read(api, "/", body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_what_is_asked_decides_the_seed() {
        let ask = |content: &str, stream: bool| {
            let message = serde_json::json!({"role": "user", "content": content});
            let body = serde_json::json!({"model": "m", "messages": [message], "stream": stream});
            read(Api::Chat, &body).asked.finalize()
        };
        assert_eq!(ask("a", true), ask("a", false));
        assert_ne!(ask("a", true), ask("b", true));
    }

    #[test]
    fn a_tool_is_called_when_the_users_last_text_asks_and_not_after_its_result() {
        let tools = serde_json::json!([
            {"name": "clock", "input_schema": {}},
            {"name": "weather", "input_schema": {"properties": {"city": {"type": "string"}}}},
        ]);
        let ask = |content: Value| {
            let body = serde_json::json!({
                "model": "m", "max_tokens": 9, "tools": tools,
                "messages": [{"role": "user", "content": content}],
            });
            read(Api::Messages, &body).tool.map(|tool| tool.name)
        };
        assert_eq!(ask("what weather?".into()).as_deref(), Some("weather"));
        assert_eq!(ask("use a tool".into()).as_deref(), Some("clock"));
        assert_eq!(ask("hello".into()), None);
        let result = serde_json::json!([{"type": "tool_result", "content": "weather: rain"}]);
        assert_eq!(ask(result), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let unclear = Question::read(Api::Chat, "/", br#"{"messages":[]}"#).unwrap_err();
        assert_eq!(unclear.param, Some("model"));
        let body = br#"{"model":"m","messages":[]}"#;
        assert_eq!(Question::read(Api::Messages, "/", body).unwrap_err().param, Some("max_tokens"));
        assert!(Question::read(Api::Chat, "/", b"{").unwrap_err().message.contains("not JSON"));
    }

    #[test]
    fn a_list_of_texts_is_many_inputs_and_a_list_of_tokens_is_one() {
        let count = |input: Value| {
            read(Api::Embeddings, &serde_json::json!({"model": "m", "input": input})).inputs.len()
        };
        assert_eq!(count(serde_json::json!(["a", "b"])), 2);
        assert_eq!(count(serde_json::json!([1, 2, 3])), 1);
        assert_eq!(count("a".into()), 1);
    }
}
