//! Makes the answer of a question: the same text for the same question, in
//! parts that a stream tells one by one, with its usage.

use super::{
    AnswerLength, Fault, Options,
    question::{Question, Tool},
};
use serde_json::Value;

/// Tokens of one answer at most, whatever the options say.
const TOKENS_MAX: usize = 100_000;
/// Bytes of tool arguments told at once.
const ARGUMENT_CHARS: usize = 8;
/// Not all of them ASCII: a chunk boundary inside a character must hurt nobody.
const WORDS: [&str; 32] = [
    "the",
    "toll",
    "gate",
    "opens",
    "for",
    "a",
    "traveller",
    "who",
    "pays",
    "in",
    "small",
    "coins",
    "and",
    "naïve",
    "déjà",
    "東京",
    "asks",
    "which",
    "road",
    "leads",
    "north",
    "over",
    "old",
    "bridges",
    "until",
    "morning",
    "light",
    "returns",
    "quietly",
    "señor",
    "🚧",
    "\"quoted\"",
];

/// Why an answer ends, in words of its own; each dialect has others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    Length,
    Tool,
    Filtered,
    /// It does not.
    Unfinished,
}

/// What a stream tells at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) text: String,
    pub(super) tokens: u64,
}

/// One of the `n` answers.
#[derive(Debug)]
pub(super) struct Choice {
    /// Of the text, or of the arguments where a tool is called.
    pub(super) parts: Vec<Part>,
    pub(super) tool: Option<String>,
    pub(super) finish: Finish,
}

impl Choice {
    pub(super) fn text(&self) -> String {
        self.parts.iter().map(|part| part.text.as_str()).collect()
    }
}

/// `input` and `output` are totals; the rest says what of them was special.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
    pub(super) reasoning: u64,
}

/// Everything a dialect needs to tell an answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Unique per call: the port and the number of the call.
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Usage,
    pub(super) tell_usage: bool,
    pub(super) obfuscation: bool,
}

impl Answer {
    pub(super) fn new(
        question: &Question,
        model: &str,
        model_version: Option<&str>,
        fault: Option<Fault>,
        options: &Options,
        (port, call_no): (u16, u64),
    ) -> Self {
        let mut seed = question.asked.clone();
        seed.update(model.as_bytes()).update(model_version.unwrap_or_default().as_bytes());
        let choices: Vec<Choice> = (0..question.choices)
            .map(|index| {
                let mut seed = seed.clone();
                seed.update(&index.to_le_bytes());
                choice(question, &seed, fault, options)
            })
            .collect();
        let output = choices.iter().flat_map(|choice| &choice.parts).map(|part| part.tokens).sum();
        let input = question.input_tokens;
        let special = fault == Some(Fault::CachedUsage);
        let usage = Usage {
            input,
            output,
            cache_read: if special { input / 2 } else { 0 },
            cache_write: if special { input / 8 } else { 0 },
            reasoning: if special { output / 2 } else { 0 },
        };
        Self {
            id: format!("{port:04x}{call_no:012x}"),
            created: 1_760_000_000 + call_no,
            model: model.to_owned(),
            choices,
            usage,
            tell_usage: fault != Some(Fault::NoUsage),
            obfuscation: options.obfuscation,
        }
    }
}

fn choice(
    question: &Question,
    seed: &blake3::Hasher,
    fault: Option<Fault>,
    options: &Options,
) -> Choice {
    if fault == Some(Fault::Empty) {
        return Choice { parts: Vec::new(), tool: None, finish: Finish::Stop };
    }
    let ending = |usual| match fault {
        Some(Fault::ContentFilter) => Finish::Filtered,
        Some(Fault::Unfinished) => Finish::Unfinished,
        _ => usual,
    };
    if let Some(tool) = &question.tool {
        let parts = argument_parts(&arguments(tool, seed));
        return Choice { parts, tool: Some(tool.name.clone()), finish: ending(Finish::Tool) };
    }
    let mut words = words(seed, options.answer);
    let tokens_max = question.tokens_max.unwrap_or(usize::MAX);
    let shortened = words.len() > tokens_max;
    words.truncate(tokens_max);
    let parts = words
        .chunks(options.tokens_per_chunk.max(1))
        .map(|words| Part { text: words.concat(), tokens: count(words.len()) })
        .collect();
    let finish = ending(if shortened { Finish::Length } else { Finish::Stop });
    Choice { parts, tool: None, finish }
}

fn words(seed: &blake3::Hasher, length: AnswerLength) -> Vec<String> {
    let (tokens, mut bytes_left) = match length {
        AnswerLength::Tokens(tokens) => (tokens.min(TOKENS_MAX), usize::MAX),
        AnswerLength::Bytes(bytes) => (TOKENS_MAX, bytes),
    };
    let mut random = seed.finalize_xof();
    let mut words = Vec::new();
    while words.len() < tokens && bytes_left > 0 {
        let mut byte = [0; 1];
        random.fill(&mut byte);
        let index = usize::from(byte[0]) % WORDS.len();
        let space = if words.is_empty() { "" } else { " " };
        let mut word = format!("{space}{}", WORDS.get(index).copied().unwrap_or("the"));
        if word.len() > bytes_left {
            word = "x".repeat(bytes_left);
        }
        bytes_left -= word.len();
        words.push(word);
    }
    words
}

/// A value for every property the schema names.
fn arguments(tool: &Tool, seed: &blake3::Hasher) -> String {
    let mut random = seed.finalize_xof();
    let mut members = serde_json::Map::new();
    let properties = tool.schema.get("properties").and_then(Value::as_object);
    for (name, schema) in properties.into_iter().flatten() {
        let mut byte = [0; 1];
        random.fill(&mut byte);
        let first_of_enum = schema.get("enum").and_then(Value::as_array).and_then(|e| e.first());
        let value = match (first_of_enum, schema.get("type").and_then(Value::as_str)) {
            (Some(value), _) => value.clone(),
            (None, Some("integer" | "number")) => byte[0].into(),
            (None, Some("boolean")) => (byte[0] > 127).into(),
            (None, Some("array")) => Value::Array(Vec::new()),
            (None, Some("object")) => Value::Object(serde_json::Map::new()),
            (None, _) => format!("{name}-{}", byte[0]).into(),
        };
        members.insert(name.clone(), value);
    }
    Value::Object(members).to_string()
}

fn argument_parts(arguments: &str) -> Vec<Part> {
    let chars: Vec<char> = arguments.chars().collect();
    let part = |chars: &[char]| Part { text: chars.iter().collect(), tokens: 1 };
    chars.chunks(ARGUMENT_CHARS).map(part).collect()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
