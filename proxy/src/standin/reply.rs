//! A reply in the making: status, headers and pieces, spoilt by a fault if one
//! was asked for, then encoded, then sent.

use super::{
    Encoding, Fault, anthropic, cohere,
    counts::{Call, End, Recorded, Tokens},
    encoding::Encoder,
    gemini, ollama, openai,
    plain::Page,
    question::{Api, Family, Shape},
    responses, tgi,
    told::{Ending, Pace, Piece, Told},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE},
};
use std::io;

/// What a cut body lacks of its promised length, in bytes.
const MISSING_BYTES: usize = 100;

/// Who gets the reply, as far as its headers say it.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) call_no: u64,
    pub(super) request_id: String,
    pub(super) anthropic: bool,
    pub(super) family: Family,
    pub(super) model_version: Option<String>,
    /// A HEAD gets the head of what a GET would get.
    head_only: bool,
}

impl Caller {
    pub(super) fn of(
        request: &Recorded,
        call_no: u64,
        port: u16,
        model_version: Option<String>,
    ) -> Self {
        let anthropic = request.target.starts_with("/v1/messages")
            || request.headers.contains_key("anthropic-version");
        let path = request.target.split_once('?').map_or(&*request.target, |(path, _)| path);
        let family = match Api::of(path) {
            _ if anthropic => Family::Anthropic,
            Some(api) if request.method == http::Method::POST => api.family(),
            Some(_) | None => Family::OpenAi,
        };
        Self {
            family,
            call_no,
            request_id: format!("req_{port:04x}{call_no:012x}"),
            anthropic,
            model_version,
            head_only: request.method == http::Method::HEAD,
        }
    }

    /// Of a call that is not counted.
    pub(super) fn unknown() -> Self {
        Self {
            call_no: 0,
            request_id: "req_uncounted".to_owned(),
            anthropic: false,
            family: Family::OpenAi,
            model_version: None,
            head_only: false,
        }
    }
}

pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    pieces: Vec<Piece>,
    is_stream: bool,
    shape: Shape,
    ending: Ending,
    encoder: Option<Encoder>,
    head_only: bool,
    /// Of the output; they take their time.
    pub(super) tokens: u64,
}

impl Reply {
    fn new(status: StatusCode, pieces: Vec<Piece>, is_stream: bool, caller: &Caller) -> Self {
        let failed = status.is_client_error() || status.is_server_error();
        let end = if failed { End::Failed } else { End::Finished };
        let mut headers = HeaderMap::new();
        headers.insert("x-standin-call", caller.call_no.into());
        let id_name = if caller.anthropic { "request-id" } else { "x-request-id" };
        let model_version = caller.model_version.as_deref();
        for (name, value) in
            [(id_name, Some(caller.request_id.as_str())), ("x-model-version", model_version)]
        {
            // A version that is no header value cannot be said.
            if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        Self {
            status,
            headers,
            pieces,
            is_stream,
            shape: Shape::Whole,
            ending: Ending::Clean(end),
            encoder: None,
            head_only: caller.head_only,
            tokens: 0,
        }
    }

    /// Without a request id: a plain service makes none.
    pub(super) fn page(page: Page, caller: &Caller) -> Self {
        let mut reply = Self::new(page.status, vec![Piece::new(page.body)], false, caller);
        reply.headers.remove("x-request-id");
        reply.headers.remove("request-id");
        for (name, value) in page.headers {
            reply.headers.append(name, value);
        }
        reply
    }

    /// A model's answer in one body.
    pub(super) fn whole(piece: Piece, caller: &Caller) -> Self {
        let mut reply = Self::new(StatusCode::OK, vec![piece], false, caller);
        reply.say(CONTENT_TYPE, "application/json");
        reply.say_as_provider(caller.anthropic);
        reply
    }

    pub(super) fn stream(pieces: Vec<Piece>, shape: Shape, caller: &Caller) -> Self {
        let mut reply = Self::new(StatusCode::OK, pieces, true, caller);
        reply.shape = shape;
        reply.say(
            CONTENT_TYPE,
            match shape {
                Shape::Events => "text/event-stream; charset=utf-8",
                Shape::Lines => "application/x-ndjson",
                Shape::Whole | Shape::Array => "application/json; charset=UTF-8",
            },
        );
        reply.say(CACHE_CONTROL, "no-cache");
        reply.say_as_provider(caller.anthropic);
        reply
    }

    pub(super) fn error(
        status: StatusCode,
        message: &str,
        param: Option<&str>,
        caller: &Caller,
    ) -> Self {
        let body = match caller.family {
            Family::Anthropic => anthropic::error(status, message, &caller.request_id),
            Family::OpenAi => openai::error(status, message, param),
            Family::Gemini => gemini::error(status, message),
            Family::Ollama => ollama::error(message),
            Family::Cohere => cohere::error(message),
            Family::Tgi => tgi::error(status, message),
        };
        let mut reply = Self::new(status, vec![Piece::new(body)], false, caller);
        reply.say(CONTENT_TYPE, "application/json");
        reply
    }

    /// What TGI says of a whole answer in its head.
    pub(super) fn say_tokens(&mut self, tokens: Option<(u64, u64)>) {
        if let Some((input, output)) = tokens {
            self.headers.insert("x-prompt-tokens", input.into());
            self.headers.insert("x-generated-tokens", output.into());
        }
    }

    fn say(&mut self, name: HeaderName, value: &'static str) {
        self.headers.insert(name, HeaderValue::from_static(value));
    }

    /// What a cache must not repeat to another caller.
    fn say_as_provider(&mut self, anthropic: bool) {
        let said = if anthropic {
            [
                ("anthropic-organization-id", "0f5c1d3e-stand-in"),
                ("anthropic-ratelimit-requests-remaining", "49"),
            ]
        } else {
            [("openai-processing-ms", "7"), ("x-ratelimit-remaining-requests", "9999")]
        };
        for (name, value) in said {
            self.say(HeaderName::from_static(name), value);
        }
        self.say(SET_COOKIE, "__cf_bm=standin; path=/; HttpOnly; Secure");
    }

    /// Says when and whether to ask again.
    pub(super) fn retry(&mut self, should_retry: Option<bool>) {
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            self.say(HeaderName::from_static("retry-after-ms"), "20");
            self.say(http::header::RETRY_AFTER, "1");
        }
        if let Some(should_retry) = should_retry {
            let value = if should_retry { "true" } else { "false" };
            self.say(HeaderName::from_static("x-should-retry"), value);
        }
    }

    /// Does to a good answer what the fault says; faults of the head and of the
    /// content are done before.
    pub(super) fn spoil(&mut self, fault: Fault, api: Api, cut_after: usize) {
        match fault {
            Fault::CutMidstream => self.cut(cut_after, Ending::Cut),
            Fault::Stall => self.cut(cut_after, Ending::Stall),
            Fault::CutLength => {
                let bytes: usize = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
                self.headers.insert(CONTENT_LENGTH, (bytes + MISSING_BYTES).into());
                self.is_stream = true;
                self.ending = Ending::Cut;
            }
            Fault::ErrorEvent => {
                let event = error_event(api, self.shape);
                self.cut(if self.is_stream { cut_after } else { 0 }, Ending::Clean(End::Failed));
                self.pieces.retain(|_| self.is_stream);
                self.pieces.push(Piece::new(event));
            }
            Fault::Unfinished => {
                self.ending = Ending::Clean(End::Failed);
                if self.is_stream {
                    self.pieces.retain(|piece| !piece.closing);
                }
            }
            Fault::BadJson => {
                self.ending = Ending::Clean(End::Failed);
                let broken = match self.shape {
                    Shape::Events => "data: {\"id\":\"bro\n\n",
                    Shape::Lines | Shape::Array => "{\"id\":\"bro\n",
                    Shape::Whole => "{\"id\":\"bro",
                };
                let at = if self.is_stream { cut_after } else { 0 };
                if let Some(piece) = self.pieces.get_mut(at) {
                    *piece = Piece { billed: piece.billed, ..Piece::new(broken) };
                }
            }
            Fault::Fail(_)
            | Fault::ContentFilter
            | Fault::Empty
            | Fault::NoUsage
            | Fault::CachedUsage
            | Fault::SlowHead
            | Fault::Hang
            | Fault::Reset => {}
        }
    }

    /// Keeps `cut_after` events, or half of a whole body, which tells no usage.
    fn cut(&mut self, cut_after: usize, ending: Ending) {
        self.ending = ending;
        if self.is_stream {
            self.pieces.truncate(cut_after);
            return;
        }
        self.is_stream = !matches!(ending, Ending::Clean(_));
        for piece in &mut self.pieces {
            piece.bytes.truncate(piece.bytes.len() / 2);
            piece.told = Tokens::default();
        }
    }

    /// A whole body now, a stream as it goes.
    pub(super) fn encode(&mut self, encoding: Encoding) -> io::Result<()> {
        self.say(CONTENT_ENCODING, encoding.name());
        let encoder = encoding.encoder()?;
        if self.is_stream {
            self.encoder = Some(encoder);
        } else if let Some(piece) = self.pieces.first_mut() {
            piece.bytes = encoder.finish(&piece.bytes)?;
        }
        Ok(())
    }

    pub(super) fn response(self, pace: Pace, call: Option<Call>) -> Response<Told> {
        let mut headers = self.headers;
        let mut pieces = self.pieces;
        if self.head_only {
            let bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
            headers.insert(CONTENT_LENGTH, bytes.into());
            pieces.clear();
        }
        let body = if self.is_stream {
            Told::stream(pieces, self.ending, pace, self.encoder, call)
        } else {
            Told::whole(pieces, self.ending, pace, call)
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

fn error_event(api: Api, shape: Shape) -> String {
    let message = "stand-in provider: an error after the head, as asked";
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let body = match api.family() {
        Family::Anthropic => anthropic::error(status, message, "req_late"),
        Family::OpenAi => openai::error(status, message, None),
        Family::Gemini => gemini::error(status, message),
        Family::Ollama => ollama::error(message),
        Family::Cohere => cohere::error(message),
        Family::Tgi => tgi::error(status, message),
    };
    match (api, shape) {
        (_, Shape::Whole) => body,
        (_, Shape::Lines) => body + "\n",
        (_, Shape::Array) => format!(",{body}]"),
        (Api::Messages, Shape::Events) => anthropic::error_event(message),
        (Api::Responses, Shape::Events) => responses::error_event(message),
        (Api::CohereChat, Shape::Events) => cohere::error_event(message),
        (_, Shape::Events) => openai::event(&body),
    }
}
