//! The items of a call that asks about many things at once, and the answers to each.
//!
//! An embedding of a text does not depend on the texts beside it, and neither does the score that a
//! cross-encoder gives to a document. So a call with a list of them is as many questions, and this
//! says where they stand: which list of the request holds the items, which lists of the answer hold
//! what was answered, and how one is put together from the other. It works on the bytes as they
//! came: an item, and an answer to it, is never spelled anew.
//!
//! ```text
//!   {"model":"m","input":["a","b"]}          [`Layout::read`] → a, b
//!   {"data":[{..0..},{..1..}],"usage":{..}}   [`Layout::split`] → answers
//!     → {"data":[{..0..}],"usage":{..}}       [`Answers::one`]: as if one had been asked alone
//!     ← several of these                      [`compose`]: as if all had been asked at once
//! ```

mod answer;
mod question;
mod scan;
mod shares;
#[cfg(test)]
mod tests;

pub use self::{
    answer::{Answers, Piece, compose},
    question::{Asked, bare_as_list},
    shares::shares,
};

use crate::dialect::Operation;
use std::borrow::Cow;

/// Names of members, from the document down.
pub type Path = Cow<'static, [Cow<'static, str>]>;

/// Where a kind of call has its items and their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The list of the request.
    pub list: Path,
    /// Lists of the answer, with one element for each item; an object stands for the lists in it.
    /// The first must be there.
    pub answers: Cow<'static, [Path]>,
    /// The member of an answer's element that says which item it is about. Where no element has it,
    /// they are in the order of the items.
    pub index: Option<Cow<'static, str>>,
    /// The member by which answers are put in order, the greatest first.
    pub score: Option<&'static str>,
    /// Whole numbers of the answer, or objects of such, that are sums over the items.
    pub counts: Cow<'static, [Path]>,
    /// The member of the request that says how many of the answers are wanted.
    pub limit: Option<&'static str>,
    /// A member of the request that, unless it is false, makes answers depend on the other items.
    pub joins: Option<&'static str>,
    /// A single item may stand there without a list around it, and a list of numbers is a single
    /// item.
    pub bare: bool,
}

/// The most items of one call that are looked at apart: what OpenAI takes at once, and more than
/// others do.
pub const ITEMS_MAX: usize = 2048;

macro_rules! path {
    ($($step:literal),+) => { Cow::Borrowed(&[$(Cow::Borrowed($step)),+]) };
}

const PLAIN: Layout = Layout {
    list: Cow::Borrowed(&[]),
    answers: Cow::Borrowed(&[]),
    index: None,
    score: None,
    counts: Cow::Borrowed(&[]),
    limit: None,
    joins: None,
    bare: false,
};

/// Also of those who speak OpenAI's dialect: vLLM, Mistral, Voyage, Jina.
static OPENAI: [Layout; 1] = [Layout {
    list: path!("input"),
    answers: Cow::Borrowed(&[path!("data")]),
    index: Some(Cow::Borrowed("index")),
    counts: Cow::Borrowed(&[path!("usage")]),
    // Jina: one text after the other goes through the model, and is cut apart behind it.
    joins: Some("late_chunking"),
    bare: true,
    ..PLAIN
}];

static OLLAMA: [Layout; 1] = [Layout {
    list: path!("input"),
    answers: Cow::Borrowed(&[path!("embeddings")]),
    counts: Cow::Borrowed(&[path!("prompt_eval_count")]),
    bare: true,
    ..PLAIN
}];

static GEMINI: [Layout; 1] = [Layout {
    list: path!("requests"),
    answers: Cow::Borrowed(&[path!("embeddings")]),
    counts: Cow::Borrowed(&[path!("usageMetadata")]),
    ..PLAIN
}];

const COHERE_TEXTS: Layout = Layout {
    list: path!("texts"),
    answers: Cow::Borrowed(&[path!("embeddings"), path!("texts")]),
    counts: Cow::Borrowed(&[path!("meta", "billed_units"), path!("meta", "tokens")]),
    ..PLAIN
};

static COHERE: [Layout; 2] =
    [COHERE_TEXTS, Layout { list: path!("inputs"), answers: COHERE_ONE, ..COHERE_TEXTS }];
const COHERE_ONE: Cow<'static, [Path]> = Cow::Borrowed(&[path!("embeddings")]);

/// Cohere's and Jina's, which vLLM and others follow. Cohere's searches are no sum over documents:
/// they are told as the upstream tells them.
static RERANK: [Layout; 1] = [Layout {
    list: path!("documents"),
    answers: Cow::Borrowed(&[path!("results")]),
    index: Some(Cow::Borrowed("index")),
    score: Some("relevance_score"),
    counts: Cow::Borrowed(&[path!("usage")]),
    limit: Some("top_n"),
    ..PLAIN
}];

impl Layout {
    /// Where calls of a dialect have their items: the first that fits a body is meant.
    pub fn of(operation: Operation) -> &'static [Self] {
        match operation {
            Operation::OpenAiEmbeddings => &OPENAI,
            Operation::OllamaEmbed => &OLLAMA,
            Operation::GeminiEmbed => &GEMINI,
            Operation::CohereEmbed => &COHERE,
            Operation::OpenAiRerank | Operation::CohereRerank => &RERANK,
            Operation::OpenAiChat
            | Operation::OpenAiCompletions
            | Operation::OpenAiResponses
            | Operation::OpenAiModerations
            | Operation::AnthropicMessages
            | Operation::AnthropicCountTokens
            | Operation::GeminiGenerate
            | Operation::GeminiCountTokens
            | Operation::OllamaChat
            | Operation::OllamaGenerate
            | Operation::CohereChat
            | Operation::CohereChatV1
            | Operation::TgiGenerate
            | Operation::TgiRoot
            | Operation::Other => &[],
        }
    }

    /// Of a plain JSON service. The paths are names of members.
    pub fn named(list: Vec<String>, answers: Vec<String>, index: Option<String>) -> Self {
        let path = |steps: Vec<String>| -> Path { steps.into_iter().map(Cow::Owned).collect() };
        Self {
            list: path(list),
            answers: Cow::Owned(vec![path(answers)]),
            index: index.map(Cow::Owned),
            ..PLAIN
        }
    }

    /// Its answers are put in order by their scores.
    pub fn is_ranked(&self) -> bool {
        self.score.is_some()
    }
}

/// What must hold for every request and answer whatsoever. For properties and the fuzz target.
///
/// # Panics
/// If it does not.
#[doc(hidden)]
pub fn assert_pieces_are_of_the_whole(bytes: &[u8]) {
    let is_json = |text: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    let holds = is_json(bytes);
    for operation in [
        Operation::OpenAiEmbeddings,
        Operation::OllamaEmbed,
        Operation::GeminiEmbed,
        Operation::CohereEmbed,
        Operation::CohereRerank,
    ] {
        for layout in Layout::of(operation) {
            if let Some(asked) = layout.read(bytes) {
                let all: Vec<usize> = (0..asked.len()).collect();
                let again = asked.body_of(bytes, &all);
                assert!(!holds || is_json(&again), "a request was broken");
                let again = layout.read(&again).map(|again| again.len());
                assert!(!holds || again == Some(asked.len()), "items were lost");
            }
            for asked in [1, 2, 3] {
                let Some(answers) = layout.split(bytes, asked) else { continue };
                let pieces: Vec<Piece<'_>> =
                    (0..answers.len()).map(|element| Piece::of(&answers, element)).collect();
                for element in 0..answers.len() {
                    let shares = vec![1; answers.counts().len()];
                    let one = answers.one(element, &shares);
                    assert!(!holds || layout.split(&one, 1).is_some(), "an answer was broken");
                }
                let composed = compose(&answers, &pieces, None);
                assert!(composed.is_none_or(|whole| !holds || is_json(&whole)), "broken");
            }
        }
    }
}
