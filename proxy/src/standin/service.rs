//! One call from its request to its answer: read, count, admit, wait, tell.

use super::{
    Encoding, Fault, Gate,
    answer::Answer,
    anthropic, cohere,
    counts::{Call, End, House, Recorded},
    fault::Magic,
    gemini, ollama,
    openai::{self, Kind},
    plain::{self, Page},
    question::{Api, Question, Shape},
    reply::{Caller, Reply},
    responses, tgi,
    told::{Pace, Piece, Told},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::{io, sync::Arc, time::Duration};

/// An error here closes the connection without a head.
pub(super) async fn answer(
    house: Arc<House>,
    request: Request<Incoming>,
) -> io::Result<Response<Told>> {
    if request.uri().path() == "/health" {
        let page = Page::json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned());
        return Ok(Reply::page(page, &Caller::unknown()).response(Pace::default(), None));
    }
    let (request, fits) = read(request, house.options.body_max).await?;
    let call_no = house.record(request.clone());
    let (gate, model_version) = {
        let inner = house.inner();
        (inner.gate.clone(), inner.model_version.clone())
    };
    let caller = Caller::of(&request, call_no, house.port, model_version);
    let Some(call) = house.admit().await else {
        let limit = house.options.concurrency_limit.unwrap_or_default();
        let message = format!(
            "stand-in provider: concurrency limit exceeded: a call came while {limit} were being answered"
        );
        let reply = Reply::error(StatusCode::INTERNAL_SERVER_ERROR, &message, None, &caller);
        return Ok(reply.response(Pace::default(), None));
    };
    if !fits {
        let message = "the body is longer than the stand-in reads";
        let reply = Reply::error(StatusCode::PAYLOAD_TOO_LARGE, message, None, &caller);
        return Ok(reply.response(Pace::default(), Some(call)));
    }
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match Api::of(path) {
        Some(api) if request.method == Method::POST => {
            ModelCall { house: &house, request: &request, caller, gate, call }.answer(api).await
        }
        Some(_) | None => {
            let reply = page(&request, path, query, &caller);
            if let Some(gate) = &gate {
                gate.pass_head().await;
            }
            let pace = Pace { gate, delay: Duration::ZERO };
            Ok(reply.response(pace, Some(call)))
        }
    }
}

/// The request with its body, and whether all of the body was taken.
async fn read(request: Request<Incoming>, body_max: usize) -> io::Result<(Recorded, bool)> {
    let (head, body) = request.into_parts();
    let (body, fits) = match Limited::new(body, body_max).collect().await {
        Ok(body) => (body.to_bytes(), true),
        Err(error) if error.is::<LengthLimitError>() => (Bytes::new(), false),
        Err(error) => return Err(io::Error::other(error)),
    };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let recorded = Recorded {
        method: head.method,
        target,
        version: head.version,
        headers: head.headers,
        body,
    };
    Ok((recorded, fits))
}

fn page(request: &Recorded, path: &str, query: &str, caller: &Caller) -> Reply {
    let is_get = matches!(request.method, Method::GET | Method::HEAD);
    let anthropic = caller.anthropic;
    let json = |body| Reply::page(Page::json(StatusCode::OK, body), caller);
    let model = path.strip_prefix("/v1/models/");
    match (path, path.strip_prefix("/static/"), model) {
        ("/echo", _, _) => Reply::page(plain::echo(request), caller),
        (_, Some(name), _) if is_get => {
            Reply::page(plain::static_page(request, name, query), caller)
        }
        ("/v1/models", _, _) if is_get && anthropic => json(anthropic::models()),
        ("/v1/models", _, _) if is_get => json(openai::models()),
        (_, _, Some(name)) if is_get && anthropic => json(anthropic::model(name)),
        (_, _, Some(name)) if is_get => json(openai::model(name)),
        _ => {
            let message = format!("stand-in provider: nothing at {} {path}", request.method);
            Reply::error(StatusCode::NOT_FOUND, &message, None, caller)
        }
    }
}

struct ModelCall<'a> {
    house: &'a House,
    request: &'a Recorded,
    caller: Caller,
    gate: Option<Gate>,
    call: Call,
}

impl ModelCall<'_> {
    async fn answer(mut self, api: Api) -> io::Result<Response<Told>> {
        let options = &self.house.options;
        let question = match Question::read(api, &self.request.target, &self.request.body) {
            Ok(question) => question,
            Err(unclear) => return Ok(self.refuse(&unclear.message, unclear.param).await),
        };
        let (model, magic) = self.magic(&question);
        self.house.count_model(&model);
        if question.stream_options && options.refuse_stream_options {
            let message = "unknown parameter: 'stream_options'";
            return Ok(self.refuse(message, Some("stream_options")).await);
        }
        self.pass_gate().await;
        let fault = magic.map(|magic| magic.fault);
        match fault {
            Some(Fault::Reset) => {
                self.call.end(End::Failed);
                return Err(io::Error::other("reset, as the test asked"));
            }
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::SlowHead) => tokio::time::sleep(options.slow_head).await,
            Some(Fault::Fail(status)) => {
                let message = format!("stand-in provider: failed with {status}, as asked");
                let mut reply = Reply::error(status, &message, None, &self.caller);
                reply.retry(magic.and_then(|magic| magic.should_retry));
                return Ok(reply.response(self.pace(), Some(self.call)));
            }
            _ => {}
        }
        let mut reply = self.reply(&question, &model, fault);
        let tokens = u32::try_from(reply.tokens).unwrap_or(u32::MAX);
        let later = if question.stream { 0 } else { tokens.saturating_sub(1) };
        let delay = options.first_token_delay + options.token_delay.saturating_mul(later);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Some(fault) = fault {
            reply.spoil(fault, api, options.cut_after);
        }
        if let Some(encoding) = self.encoding() {
            reply.encode(encoding)?;
        }
        Ok(reply.response(self.pace(), Some(self.call)))
    }

    /// The model to name, and the fault asked for.
    fn magic(&self, question: &Question) -> (String, Option<Magic>) {
        let (model, of_model) = Magic::of_model(&question.model);
        let queued = self.house.next_fault();
        let magic = queued
            .or_else(|| self.request.header("x-standin-fault").and_then(Magic::parse))
            .or(of_model)
            .filter(|magic| {
                let mut key = question.asked.clone();
                key.update(question.model.as_bytes()).update(format!("{magic:?}").as_bytes());
                !magic.once || self.house.first_time(*key.finalize().as_bytes())
            });
        (model.to_owned(), magic)
    }

    fn reply(&self, question: &Question, model: &str, fault: Option<Fault>) -> Reply {
        let caller = &self.caller;
        if let Some(piece) = self.in_one_piece(question, model, fault) {
            return Reply::whole(piece, caller);
        }
        let version = caller.model_version.as_deref();
        let place = (self.house.port, caller.call_no);
        let answer = Answer::new(question, model, version, fault, &self.house.options, place);
        let told = told(question, &answer);
        let mut reply = match question.shape {
            Shape::Whole => Reply::whole(told.into_iter().next().unwrap_or_default(), caller),
            shape @ (Shape::Events | Shape::Lines | Shape::Array) => {
                Reply::stream(told, shape, caller)
            }
        };
        if matches!(question.api, Api::TgiGenerate | Api::TgiRoot) && !question.stream {
            let tell = answer.tell_usage.then_some(answer.usage);
            reply.say_tokens(tell.map(|usage| (usage.input, usage.output)));
        }
        reply.tokens = answer.usage.output;
        reply
    }

    /// Answers that are no words.
    fn in_one_piece(
        &self,
        question: &Question,
        model: &str,
        fault: Option<Fault>,
    ) -> Option<Piece> {
        let tell_usage = fault != Some(Fault::NoUsage);
        let id = format!("{:012x}", self.caller.call_no);
        Some(match question.api {
            Api::Embeddings => openai::embeddings(question, model, tell_usage),
            Api::Moderations => openai::moderations(question, &id, model),
            Api::CountTokens => anthropic::count_tokens(question.input_tokens),
            Api::GeminiCount => gemini::count_tokens(question),
            Api::GeminiEmbed => gemini::embeddings(question, false),
            Api::GeminiBatch => gemini::embeddings(question, true),
            Api::OllamaEmbed => ollama::embeddings(question, model),
            Api::CohereEmbed => cohere::embeddings(question, &id),
            Api::CohereRerank => cohere::rerank(question, &id),
            Api::Chat
            | Api::Completions
            | Api::Messages
            | Api::Responses
            | Api::Generate
            | Api::OllamaChat
            | Api::OllamaGenerate
            | Api::CohereChat
            | Api::TgiGenerate
            | Api::TgiStream
            | Api::TgiRoot => return None,
        })
    }

    fn encoding(&self) -> Option<Encoding> {
        let accepted = self.request.header("accept-encoding")?;
        Encoding::choose(&self.house.options.encodings, accepted)
    }

    fn pace(&self) -> Pace {
        Pace { gate: self.gate.clone(), delay: self.house.options.token_delay }
    }

    async fn pass_gate(&self) {
        if let Some(gate) = &self.gate {
            gate.pass_head().await;
        }
    }

    async fn refuse(self, message: &str, param: Option<&str>) -> Response<Told> {
        self.pass_gate().await;
        let reply = Reply::error(StatusCode::BAD_REQUEST, message, param, &self.caller);
        reply.response(self.pace(), Some(self.call))
    }
}

/// The answer as its caller wants it; whole, it is one piece.
fn told(question: &Question, answer: &Answer) -> Vec<Piece> {
    let (usage, details, shape) = (question.include_usage, question.details, question.shape);
    let in_list = question.api == Api::TgiRoot;
    match (question.api, question.stream) {
        (Api::Chat, true) => Kind::Chat.stream(answer, usage),
        (Api::Chat, false) => vec![Kind::Chat.whole(answer)],
        (Api::Completions, true) => Kind::Completions.stream(answer, usage),
        (Api::Completions, false) => vec![Kind::Completions.whole(answer)],
        (Api::Responses, true) => responses::stream(answer),
        (Api::Responses, false) => vec![responses::whole(answer)],
        (Api::Messages, true) => anthropic::stream(answer),
        (Api::Messages, false) => vec![anthropic::whole(answer)],
        (Api::Generate, true) => gemini::stream(answer, shape),
        (Api::Generate, false) => vec![gemini::whole(answer)],
        (Api::OllamaChat, true) => ollama::Kind::Chat.stream(answer),
        (Api::OllamaChat, false) => vec![ollama::Kind::Chat.whole(answer)],
        (Api::OllamaGenerate, true) => ollama::Kind::Generate.stream(answer),
        (Api::OllamaGenerate, false) => vec![ollama::Kind::Generate.whole(answer)],
        (Api::CohereChat, true) => cohere::stream(answer),
        (Api::CohereChat, false) => vec![cohere::whole(answer)],
        (Api::TgiGenerate | Api::TgiStream | Api::TgiRoot, true) => tgi::stream(answer, details),
        (Api::TgiGenerate | Api::TgiStream | Api::TgiRoot, false) => {
            vec![tgi::whole(answer, details, in_list)]
        }
        (
            Api::Embeddings
            | Api::Moderations
            | Api::CountTokens
            | Api::GeminiCount
            | Api::GeminiEmbed
            | Api::GeminiBatch
            | Api::OllamaEmbed
            | Api::CohereEmbed
            | Api::CohereRerank,
            _,
        ) => Vec::new(),
    }
}
