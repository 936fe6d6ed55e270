//! The golden bodies of each dialect, how they end, and where they are cut.

mod believed;
mod others;

use super::*;
use proptest::prelude::*;

const CHAT: &str = r#"{"id":"chatcmpl-A1","object":"chat.completion","model":"gpt-4o-mini-2024-07-18","service_tier":"default",
 "choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],
 "usage":{"prompt_tokens":1500,"completion_tokens":320,"total_tokens":1820,
  "prompt_tokens_details":{"cached_tokens":1024,"cache_write_tokens":0,"audio_tokens":0,"image_tokens":0},
  "completion_tokens_details":{"reasoning_tokens":128,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}"#;

const CHAT_STREAM: &str = concat!(
    r#"data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"Hi"}}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" \"usage\": 7, \"error\""}}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1500,"completion_tokens":320,"total_tokens":1820,"prompt_tokens_details":{"cached_tokens":1024},"completion_tokens_details":{"reasoning_tokens":128}}}"#,
    "\n\ndata: [DONE]\n\n",
);

const COMPLETION: &str = r#"{"id":"cmpl-1","object":"text_completion","model":"m","choices":[{"index":0,"text":" there","finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#;

const RESPONSES_STREAM: &str = concat!(
    "event: response.created\n",
    r#"data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress","error":null,"model":"gpt-5-2025-08-07","output":[],"usage":null}}"#,
    "\n\nevent: response.output_text.delta\n",
    r#"data: {"type":"response.output_text.delta","sequence_number":4,"delta":"Hi"}"#,
    "\n\nevent: response.completed\n",
    r#"data: {"type":"response.completed","sequence_number":41,"response":{"id":"resp_1","status":"completed","error":null,"model":"gpt-5-2025-08-07","service_tier":"default","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":900,"input_tokens_details":{"cached_tokens":512,"cache_write_tokens":0},"output_tokens":210,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":1110}}}"#,
    "\n\n",
);

const RESPONSE: &str = r#"{"id":"resp_1","object":"response","status":"completed","error":null,"model":"gpt-5-2025-08-07","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":900,"input_tokens_details":{"cached_tokens":512},"output_tokens":210,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":1110}}"#;

const EMBEDDINGS: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-2e-3]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;

const ANTHROPIC: &str = r#"{"id":"msg_01","type":"message","model":"claude-sonnet-4-5-20250929","stop_reason":"end_turn","content":[{"type":"text","text":"Hi"}],
 "usage":{"input_tokens":12,"cache_creation_input_tokens":2048,"cache_read_input_tokens":18000,
  "cache_creation":{"ephemeral_5m_input_tokens":1024,"ephemeral_1h_input_tokens":1024},
  "output_tokens":410,"output_tokens_details":{"thinking_tokens":120},"service_tier":"standard","inference_geo":"us",
  "server_tool_use":{"web_search_requests":1,"web_fetch_requests":0}}}"#;

const ANTHROPIC_STREAM: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_01","model":"claude-sonnet-4-5-20250929","content":[],"usage":{"input_tokens":12,"cache_creation_input_tokens":2048,"cache_read_input_tokens":18000,"cache_creation":{"ephemeral_5m_input_tokens":1024,"ephemeral_1h_input_tokens":1024},"output_tokens":1}}}"#,
    "\n\nevent: ping\n",
    r#"data: {"type":"ping"}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" you"}}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":410,"input_tokens":null}}"#,
    "\n\nevent: message_stop\n",
    r#"data: {"type":"message_stop"}"#,
    "\n\n",
);

const CHAT_USAGE: Usage = Usage {
    input: 476,
    cached_input: 1024,
    cache_write: 0,
    cache_write_1h: 0,
    audio_input: 0,
    output: 192,
    reasoning: 128,
    audio_output: 0,
};

const ANTHROPIC_USAGE: Usage = Usage {
    input: 12,
    cached_input: 18_000,
    cache_write: 1024,
    cache_write_1h: 1024,
    audio_input: 0,
    output: 290,
    reasoning: 120,
    audio_output: 0,
};

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

const fn golden() -> [(Operation, &'static str); 8] {
    [
        (Operation::OpenAiChat, CHAT),
        (Operation::OpenAiChat, CHAT_STREAM),
        (Operation::OpenAiCompletions, COMPLETION),
        (Operation::OpenAiResponses, RESPONSE),
        (Operation::OpenAiResponses, RESPONSES_STREAM),
        (Operation::OpenAiEmbeddings, EMBEDDINGS),
        (Operation::AnthropicMessages, ANTHROPIC),
        (Operation::AnthropicMessages, ANTHROPIC_STREAM),
    ]
}

/// Everything whole and good is read through here. A stream is what is no object.
fn read(operation: Operation, answer: &str, complete: bool) -> Reading {
    let mut reader = AnswerReader::new(operation, framing(answer));
    reader.push(answer.as_bytes());
    reader.finish(complete)
}

fn framing(answer: &str) -> Framing {
    if answer.starts_with('{') { Framing::Whole } else { Framing::Events }
}

#[track_caller]
fn check(operation: Operation, answer: &str, quality: Quality, expected: Usage) -> Reading {
    let reading = read(operation, answer, true);
    assert_eq!((reading.quality, reading.usage), (quality, expected));
    reading
}

#[track_caller]
fn check_verdict(operation: Operation, answer: &str, expected: Verdict) {
    assert_eq!(read(operation, answer, true).verdict, expected, "{answer}");
}

#[test]
fn golden_answers_are_read_to_the_token() {
    use Quality::Reported;
    let responses =
        Usage { input: 388, cached_input: 512, output: 146, reasoning: 64, ..Usage::default() };
    // The stream's last event does not repeat the thinking; it is output then.
    let anthropic_stream = Usage { output: 410, reasoning: 0, ..ANTHROPIC_USAGE };
    for (operation, answer, expected, model, deltas) in [
        (Operation::OpenAiChat, CHAT, CHAT_USAGE, "gpt-4o-mini-2024-07-18", 0),
        (Operation::OpenAiChat, CHAT_STREAM, CHAT_USAGE, "gpt-4o-mini", 2),
        (Operation::OpenAiCompletions, COMPLETION, usage(5, 7), "m", 0),
        (Operation::OpenAiResponses, RESPONSE, responses, "gpt-5-2025-08-07", 0),
        (Operation::OpenAiResponses, RESPONSES_STREAM, responses, "gpt-5-2025-08-07", 1),
        (Operation::OpenAiEmbeddings, EMBEDDINGS, usage(8, 0), "text-embedding-3-small", 0),
        (Operation::AnthropicMessages, ANTHROPIC, ANTHROPIC_USAGE, "claude-sonnet-4-5-20250929", 0),
        (
            Operation::AnthropicMessages,
            ANTHROPIC_STREAM,
            anthropic_stream,
            "claude-sonnet-4-5-20250929",
            2,
        ),
    ] {
        let reading = check(operation, answer, Reported, expected);
        assert_eq!(reading.model.as_deref(), Some(model));
        assert_eq!(reading.verdict, Verdict::Finished, "{answer}");
        assert_eq!(reading.content_deltas, deltas);
        assert_eq!(reading.output_bytes, u64::try_from(answer.len()).unwrap());
        // There is nothing to make up.
        assert_eq!(reading.clone().fill_gaps(1_000_000), reading);
    }
    assert_eq!(read(Operation::OpenAiChat, CHAT, true).service_tier.as_deref(), Some("default"));
    let anthropic = read(Operation::AnthropicMessages, ANTHROPIC, true);
    assert_eq!(anthropic.service_tier.as_deref(), Some("standard"));
}

#[test]
fn golden_answers_may_be_cut_anywhere() {
    for (_, answer) in golden() {
        for chunk_len in 1..=100 {
            assert_cuts_do_not_matter(answer.as_bytes(), chunk_len);
        }
        let crlf = format!("\u{feff}: hello\r\n{}", answer.replace('\n', "\r\n"));
        for chunk_len in 1..=100 {
            assert_cuts_do_not_matter(crlf.as_bytes(), chunk_len);
        }
    }
}

#[test]
fn every_split_into_two_reads_the_same() {
    for (operation, answer) in golden() {
        let whole = read(operation, answer, true);
        for at in 0..=answer.len() {
            let (left, right) = answer.as_bytes().split_at(at);
            let mut reader = AnswerReader::new(operation, framing(answer));
            reader.push(left);
            reader.push(right);
            assert_eq!(reader.finish(true), whole, "split at {at}");
        }
    }
}

#[test]
fn the_dress_of_a_stream_does_not_matter() {
    let plain = read(Operation::OpenAiChat, CHAT_STREAM, true);
    let crlf = CHAT_STREAM.replace('\n', "\r\n");
    let bom = format!("\u{feff}{CHAT_STREAM}");
    let comments = CHAT_STREAM.replace("data: {", ": keep-alive\n\nid: 7\nretry: 10\ndata: {");
    let no_last_line = CHAT_STREAM.trim_end();
    let no_space = CHAT_STREAM.replace("data: ", "data:");
    let lines = CHAT_STREAM.replace(r#","choices""#, "\ndata: ,\"choices\"");
    for dressed in [&crlf, &bom, &comments, no_last_line, &no_space, &lines] {
        let reading = read(Operation::OpenAiChat, dressed, true);
        assert_eq!((reading.usage, reading.verdict), (plain.usage, plain.verdict), "{dressed}");
        assert_eq!(reading.content_deltas, plain.content_deltas, "{dressed}");
    }
}

#[test]
fn running_totals_replace_each_other() {
    let stream: String = (1..=40)
        .map(|n| format!("data: {{\"model\":\"v\",\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}],\"usage\":{{\"prompt_tokens\":16,\"completion_tokens\":{n},\"total_tokens\":{}}}}}\n\n", 16 + n))
        .collect();
    let reading = check(
        Operation::OpenAiChat,
        &format!("{stream}data: [DONE]\n\n"),
        Quality::Reported,
        usage(16, 40),
    );
    assert_eq!(reading.content_deltas, 40);
    // Cut, the last total stands.
    let cut = read(Operation::OpenAiChat, &stream, false);
    assert_eq!((cut.quality, cut.usage), (Quality::Partial, usage(16, 40)));
}

#[test]
fn zero_is_a_report_and_missing_is_not() {
    let zero = COMPLETION.replace(
        r#""prompt_tokens":5,"completion_tokens":7,"total_tokens":12"#,
        r#""prompt_tokens":0,"completion_tokens":0,"total_tokens":0"#,
    );
    let reading = check(Operation::OpenAiCompletions, &zero, Quality::Reported, Usage::default());
    assert_eq!(reading.fill_gaps(4000).usage, Usage::default());

    for nothing in [r#""usage":null"#, r#""usage":{}"#, r#""usage":"n/a""#, r#""u":1"#] {
        let body = format!(r#"{{"choices":[{{"text":"twelve bytes"}}],{nothing}}}"#);
        let reading = check(Operation::OpenAiCompletions, &body, Quality::Absent, Usage::default());
        let filled = reading.fill_gaps(4001);
        assert_eq!((filled.quality, filled.usage), (Quality::Estimated, usage(1001, 3)));
    }
}

#[test]
fn totals_stand_in_for_missing_parts() {
    for (counts, expected) in [
        (r#"{"prompt_tokens":8,"total_tokens":11}"#, usage(8, 3)),
        (r#"{"completion_tokens":3,"total_tokens":11}"#, usage(8, 3)),
        (r#"{"total_tokens":11}"#, usage(11, 0)),
        (r#"{"prompt_tokens":8,"completion_tokens":null,"total_tokens":8}"#, usage(8, 0)),
    ] {
        let body = format!(r#"{{"data":[1],"usage":{counts}}}"#);
        check(Operation::OpenAiEmbeddings, &body, Quality::Reported, expected);
    }
}

#[test]
fn reasoning_beside_the_completion_is_added_and_inside_it_is_not() {
    let beside = r#"{"choices":[{"text":"x"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,"completion_tokens_details":{"reasoning_tokens":100}}}"#;
    let expected = Usage { input: 10, output: 5, reasoning: 100, ..Usage::default() };
    check(Operation::OpenAiChat, beside, Quality::Reported, expected);
}

#[test]
fn numbers_that_do_not_add_up_are_partial_and_never_negative() {
    let cached = r#"{"choices":[{"text":"x"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":30,"audio_tokens":3},"completion_tokens_details":{"reasoning_tokens":6}}}"#;
    let expected = Usage { cached_input: 10, reasoning: 5, ..Usage::default() };
    check(Operation::OpenAiChat, cached, Quality::Partial, expected);

    let unsplit = ANTHROPIC.replace("ephemeral", "other").replace("cache_creation\":", "x\":");
    let expected = Usage { cache_write: 2048, cache_write_1h: 0, ..ANTHROPIC_USAGE };
    check(Operation::AnthropicMessages, &unsplit, Quality::Partial, expected);
}

#[test]
fn a_cut_stream_is_partial_with_what_was_counted() {
    let (before, _) = CHAT_STREAM
        .split_once(
            "data: {\"id\":\"chatcmpl-A1\",\"object\":\"chat.completion.chunk\",\"choices\":[]",
        )
        .unwrap();
    let reading = read(Operation::OpenAiChat, before, false);
    assert_eq!(reading.verdict, Verdict::Unfinished(reason::CUT));
    assert_eq!((reading.quality, reading.usage.input), (Quality::Partial, 0));
    assert!(reading.usage.output >= 2, "{reading:?}");
    let filled = reading.fill_gaps(400);
    assert_eq!((filled.quality, filled.usage.input), (Quality::Partial, 100));

    let (before, _) = ANTHROPIC_STREAM.split_once("event: message_delta").unwrap();
    for complete in [true, false] {
        let reading = read(Operation::AnthropicMessages, before, complete);
        assert_eq!((reading.quality, reading.usage.input), (Quality::Partial, 12));
        assert_eq!(reading.usage.output, 2, "the count is above the reported beginning");
        assert!(!reading.verdict.is_finished());
    }
}

#[test]
fn a_stream_cut_after_its_usage_is_still_reported_but_not_stored() {
    let (before, _) = CHAT_STREAM.split_once("data: [DONE]").unwrap();
    let reading = read(Operation::OpenAiChat, before, false);
    assert_eq!((reading.quality, reading.usage), (Quality::Reported, CHAT_USAGE));
    assert_eq!(reading.verdict, Verdict::Unfinished(reason::CUT));
    let no_end = read(Operation::OpenAiChat, before, true);
    assert_eq!(no_end.verdict, Verdict::Unfinished(reason::NO_END));
}

#[test]
fn only_a_finished_body_may_be_stored() {
    use Operation::{AnthropicCountTokens, OpenAiEmbeddings, OpenAiModerations, Other};
    use Verdict::{Finished, Unfinished};
    let (chat, anthropic) = (Operation::OpenAiChat, Operation::AnthropicMessages);
    let responses = Operation::OpenAiResponses;
    let tool = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"name":"f"}}]},"finish_reason":"tool_calls"}]}"#;
    let unfinished = r#"{"choices":[{"message":{"content":"x"},"finish_reason":null}]}"#;
    let half = r#"{"choices":[{"text":"x","finish_reason":"stop"},{"text":"x"}]}"#;
    let paused = r#"{"stop_reason":null,"content":[{"text":"x"}]}"#;
    let filtered = r#"{"choices":[{"message":{"content":"x"},"finish_reason":"content_filter"}]}"#;
    let refused = r#"{"stop_reason":"refusal","content":[{"text":"x"}]}"#;
    let incomplete = r#"{"status":"incomplete","output":["x"]}"#;
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error"}}"#;
    #[rustfmt::skip] // a table
    let cases = [
        (chat, tool, Finished),
        (chat, unfinished, Unfinished(reason::NO_END)),
        (chat, half, Unfinished(reason::NO_END)),
        (anthropic, paused, Unfinished(reason::NO_END)),
        (chat, filtered, Unfinished(reason::CONTENT_FILTER)),
        (chat, r#"{"error":{"message":"no"}}"#, Unfinished(reason::ERROR)),
        (chat, r#"{"object":"error","message":"no","code":400}"#, Unfinished(reason::ERROR)),
        (chat, r#"{"choices":[{"text":"x","finish_reason":"error"}]}"#, Unfinished(reason::ERROR)),
        (chat, r#"{"choices":[]}"#, Unfinished(reason::EMPTY)),
        (chat, r#"{"choices":[{"message":{"content":""}}]}"#, Unfinished(reason::EMPTY)),
        (chat, r#"{"choices":[{"message":{"content":"x"}}"#, Unfinished(reason::MALFORMED)),
        (responses, incomplete, Unfinished(reason::NOT_COMPLETED)),
        (responses, r#"{"status":"completed","output":[]}"#, Unfinished(reason::EMPTY)),
        (anthropic, overloaded, Unfinished(reason::ERROR)),
        (anthropic, refused, Unfinished(reason::CONTENT_FILTER)),
        (anthropic, r#"{"content":[{"type":"text","text":""}]}"#, Unfinished(reason::EMPTY)),
        (OpenAiEmbeddings, r#"{"data":[]}"#, Unfinished(reason::EMPTY)),
        (OpenAiModerations, r#"{"results":[{"flagged":false}]}"#, Finished),
        (AnthropicCountTokens, r#"{"input_tokens":0}"#, Finished),
        (Other, r#"{"error":1}"#, Finished),
        (Other, "", Unfinished(reason::EMPTY)),
    ];
    for (operation, answer, expected) in cases {
        check_verdict(operation, answer, expected);
    }
}

#[test]
fn only_a_finished_stream_may_be_stored() {
    let said = r#"data: {"choices":[{"delta":{"content":"x"}}]}"#;
    let error = r#"data: {"error":{"message":"boom"}}"#;
    let filter = r#"data: {"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#;
    let stop = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let done = "data: [DONE]";
    // Once content was seen, an event is parsed only for its words: past that point too.
    let model = r#"data: {"model":"m"}"#;
    let chat = |events: &[&str], expected| {
        let events = events.iter().map(|event| format!("{event}\n\n"));
        check_verdict(Operation::OpenAiChat, &events.collect::<String>(), expected);
    };
    chat(&[said, stop, done], Verdict::Finished);
    chat(&[model, said, said, stop, done], Verdict::Finished);
    // It has ended, and does not say why.
    chat(&[said, done], Verdict::Unfinished(reason::NO_END));
    chat(&[model, said, said, done], Verdict::Unfinished(reason::NO_END));
    let other = stop.replace("{\"delta\"", "{\"index\":1,\"delta\"");
    chat(&[said, &other, done], Verdict::Unfinished(reason::NO_END));
    chat(&[done], Verdict::Unfinished(reason::EMPTY));
    chat(&[model, done], Verdict::Unfinished(reason::EMPTY));
    chat(&[said, error, done], Verdict::Unfinished(reason::ERROR));
    chat(&[model, said, error, done], Verdict::Unfinished(reason::ERROR));
    chat(&[model, said, "event: error\ndata: {}", done], Verdict::Unfinished(reason::ERROR));
    chat(&[model, said, filter, done], Verdict::Unfinished(reason::CONTENT_FILTER));
    chat(&[said, "data: {", done], Verdict::Unfinished(reason::MALFORMED));
    chat(&[model, said], Verdict::Unfinished(reason::NO_END));

    let failed = r#"data: {"type":"response.failed","response":{"status":"failed"}}"#;
    let not_completed = Verdict::Unfinished(reason::NOT_COMPLETED);
    check_verdict(Operation::OpenAiResponses, failed, not_completed);
    // The end of one dialect is not another's.
    let delta = r#"data: {"type":"content_block_delta","delta":{"text":"x"}}"#;
    let foreign = format!("{delta}\n\ndata: [DONE]\n\n");
    let no_end = Verdict::Unfinished(reason::NO_END);
    check_verdict(Operation::AnthropicMessages, &foreign, no_end);
    let no_reason = ANTHROPIC_STREAM.replace("\"end_turn\"", "null");
    check_verdict(Operation::AnthropicMessages, &no_reason, no_end);
    let no_usage =
        ANTHROPIC_STREAM.replace(r#","usage":{"output_tokens":410,"input_tokens":null}"#, "");
    check_verdict(Operation::AnthropicMessages, &no_usage, Verdict::Finished);
}

#[test]
fn what_is_free_of_tokens_is_absent_and_stays_so() {
    for operation in
        [Operation::OpenAiModerations, Operation::AnthropicCountTokens, Operation::Other]
    {
        let reading = read(operation, r#"{"input_tokens":9,"results":[1]}"#, true).fill_gaps(4000);
        assert_eq!((reading.quality, reading.usage), (Quality::Absent, Usage::default()));
    }
    let error = read(Operation::OpenAiChat, r#"{"error":{"message":"no"}}"#, true).fill_gaps(4000);
    assert_eq!((error.quality, error.usage.total()), (Quality::Absent, 0));
}

#[test]
fn an_answer_too_large_to_parse_is_metered_from_its_end_and_not_stored() {
    let numbers = "0.12345,".repeat(400_000);
    let large = EMBEDDINGS.replace("0.1,", &numbers);
    let reading = check(Operation::OpenAiEmbeddings, &large, Quality::Reported, usage(8, 0));
    assert_eq!(reading.verdict, Verdict::Unfinished(reason::TOO_LARGE));
    assert_eq!(reading.model.as_deref(), Some("text-embedding-3-small"));

    let text = "x".repeat(TailBuffer::WHOLE_LEN_MAX);
    let large = RESPONSES_STREAM.replace(r#""text":"Hi""#, &format!(r#""text":"{text}""#));
    let reading = read(Operation::OpenAiResponses, &large, true);
    assert_eq!((reading.quality, reading.usage.total()), (Quality::Reported, 1110));
    assert_eq!(reading.verdict, Verdict::Unfinished(reason::TOO_LARGE));
    for chunk_len in [1000, 4096, 65_537, 1_048_576] {
        assert_cuts_do_not_matter(large.as_bytes(), chunk_len);
    }
}

#[test]
fn a_strange_type_costs_its_member_and_not_the_answer() {
    let strange = CHAT
        .replace(r#""model":"gpt-4o-mini-2024-07-18""#, r#""model":{"a":[1]}"#)
        .replace(r#""cached_tokens":1024"#, r#""cached_tokens":"many""#);
    let expected = Usage { input: 1500, cached_input: 0, ..CHAT_USAGE };
    let reading = check(Operation::OpenAiChat, &strange, Quality::Reported, expected);
    assert_eq!((reading.model, reading.verdict), (None, Verdict::Finished));
    let long = CHAT.replace("gpt-4o-mini-2024-07-18", &"ä".repeat(100));
    assert_eq!(read(Operation::OpenAiChat, &long, true).model, Some("ä".repeat(64)));
}

/// Enough of each dialect's grammar to wander into its corners.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("data: [DONE]\n\n".to_owned()),
        Just("event: error\n".to_owned()),
        Just("event: content_block_delta\r\n".to_owned()),
        Just(": ping\n".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("data: {\"type\":\"message_stop\"}\n\n".to_owned()),
        Just("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\n".to_owned()),
        Just("data: \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n".to_owned()),
        (0_usize..8).prop_map(|at| golden()[at].1.to_owned()),
        "(data: ?)?\\PC{0,20}(\r)?\n?",
    ]
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        pieces in prop::collection::vec(piece(), 0..12),
        chunk_len in 1_usize..200,
    ) {
        assert_cuts_do_not_matter(pieces.concat().as_bytes(), chunk_len);
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300), chunk_len in 1_usize..50) {
        assert_cuts_do_not_matter(&bytes, chunk_len);
    }

    /// Whatever parts a provider claims, no token is billed twice.
    #[test]
    fn parts_never_exceed_their_whole(numbers in prop::array::uniform7(0_u64..1_000), claims_total in any::<bool>()) {
        let [prompt, completion, cached, written, audio, reasoning, spoken] = numbers;
        let total = if claims_total { format!(r#","total_tokens":{}"#, prompt + completion) } else { String::new() };
        let body = format!(
            r#"{{"choices":[{{"text":"x"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion}{total},
            "prompt_tokens_details":{{"cached_tokens":{cached},"cache_write_tokens":{written},"audio_tokens":{audio}}},
            "completion_tokens_details":{{"reasoning_tokens":{reasoning},"audio_tokens":{spoken}}}}}}}"#
        );
        let reading = read(Operation::OpenAiChat, &body, true);
        prop_assert_eq!(reading.usage.input_total(), prompt);
        prop_assert_eq!(reading.usage.output_total(), completion);
        let adds_up = cached + written + audio <= prompt && reasoning + spoken <= completion;
        prop_assert_eq!(reading.quality, if adds_up { Quality::Reported } else { Quality::Partial });
    }

    #[test]
    fn something_said_is_never_nothing(text in "[a-z]{1,400}", request_bytes in 1_u64..100_000) {
        let body = format!(r#"{{"choices":[{{"text":"{text}"}}]}}"#);
        let filled = read(Operation::OpenAiChat, &body, true).fill_gaps(request_bytes);
        prop_assert_eq!(filled.quality, Quality::Estimated);
        prop_assert!(filled.usage.input > 0 && filled.usage.output > 0);
    }
}
