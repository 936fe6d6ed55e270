//! Ollama's shapes: chat and generate whole and in lines, embeddings, errors.

use super::{
    answer::{Answer, Choice, Finish},
    counts::Tokens,
    openai::{quoted, vector, whole_piece},
    question::Question,
    told::Piece,
};

/// `/api/chat` or `/api/generate`: one envelope, two ways to say a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Generate,
}

impl Kind {
    fn line(self, answer: &Answer, text: &str, calls: &str, rest: &str) -> String {
        let said = match self {
            Self::Chat => {
                format!(r#""message":{{"role":"assistant","content":{}{calls}}}"#, quoted(text))
            }
            Self::Generate => format!(r#""response":{}"#, quoted(text)),
        };
        format!(
            r#"{{"model":{},"created_at":"2026-01-01T00:00:{:02}Z",{said},{rest}}}"#,
            quoted(&answer.model),
            answer.created % 60,
        )
    }

    pub(super) fn whole(self, answer: &Answer) -> Piece {
        let choice = answer.choices.first();
        let (text, calls) = match choice {
            Some(choice) if choice.tool.is_some() => (String::new(), tool_calls(choice)),
            Some(choice) => (choice.text(), String::new()),
            None => (String::new(), String::new()),
        };
        let finish = choice.map_or(Finish::Stop, |choice| choice.finish);
        whole_piece(self.line(answer, &text, &calls, &end(answer, finish)), answer)
    }

    pub(super) fn stream(self, answer: &Answer) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let finish = answer.choices.first().map_or(Finish::Stop, |choice| choice.finish);
        for choice in answer.choices.iter().take(1) {
            if choice.tool.is_some() && !choice.parts.is_empty() {
                let output = choice.parts.iter().map(|part| part.tokens).sum();
                let line = self.line(answer, "", &tool_calls(choice), r#""done":false"#);
                let billed = Tokens { input: 0, output };
                pieces.push(Piece { billed, ..Piece::new(line + "\n") });
                continue;
            }
            for part in &choice.parts {
                let line = self.line(answer, &part.text, "", r#""done":false"#);
                let billed = Tokens { input: 0, output: part.tokens };
                pieces.push(Piece { billed, ..Piece::new(line + "\n") });
            }
        }
        let told = if answer.tell_usage {
            Tokens { input: answer.usage.input, output: answer.usage.output }
        } else {
            Tokens::default()
        };
        let last = self.line(answer, "", "", &end(answer, finish)) + "\n";
        pieces.push(Piece { told, closing: true, ..Piece::new(last) });
        if let Some(first) = pieces.first_mut() {
            first.billed.input = answer.usage.input;
        }
        pieces
    }
}

fn tool_calls(choice: &Choice) -> String {
    let name = quoted(choice.tool.as_deref().unwrap_or_default());
    let arguments = choice.text();
    format!(r#","tool_calls":[{{"function":{{"name":{name},"arguments":{arguments}}}}}]"#)
}

/// What the last line says beside the text.
fn end(answer: &Answer, finish: Finish) -> String {
    let reason = match finish {
        Finish::Stop | Finish::Tool => "stop",
        Finish::Length => "length",
        Finish::Filtered => "filtered",
        Finish::Unfinished => return r#""done":false"#.to_owned(),
    };
    let usage = answer.usage;
    let mut text = format!(
        r#""done":true,"done_reason":"{reason}","total_duration":4883583458,"load_duration":1334875"#
    );
    if answer.tell_usage {
        text += &format!(r#","prompt_eval_count":{}"#, usage.input);
        if usage.cache_read > 0 {
            text += &format!(r#","prompt_eval_cached_count":{}"#, usage.cache_read);
        }
        text += &format!(
            r#","prompt_eval_duration":342546000,"eval_count":{},"eval_duration":4535599000"#,
            usage.output
        );
    }
    text
}

/// `/api/embed`.
pub(super) fn embeddings(question: &Question, model: &str) -> Piece {
    let vectors: Vec<_> =
        question.inputs.iter().map(|seed| vector(*seed, question.dimensions)).collect();
    let vectors = serde_json::Value::from(vectors);
    let tokens = Tokens { input: question.input_tokens, output: 0 };
    let body = format!(
        r#"{{"model":{},"embeddings":{vectors},"total_duration":14143917,"load_duration":1019500,"prompt_eval_count":{}}}"#,
        quoted(model),
        tokens.input
    );
    Piece { billed: tokens, told: tokens, ..Piece::new(body) }
}

pub(super) fn error(message: &str) -> String {
    format!(r#"{{"error":{}}}"#, quoted(message))
}
