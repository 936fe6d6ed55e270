//! Gemini, Ollama, Cohere and TGI: what they bill, to the token, and which of their
//! answers are finished ones. Shapes as in their documentation (see the modules).

use super::super::*;

const GEMINI: &str = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}],"role":"model"},"finishReason":"STOP"}],"modelVersion":"gemini-2.5-pro",
 "usageMetadata":{"promptTokenCount":1200,"cachedContentTokenCount":1000,"candidatesTokenCount":80,"thoughtsTokenCount":300,"toolUsePromptTokenCount":20,"totalTokenCount":1600,
  "promptTokensDetails":[{"modality":"TEXT","tokenCount":1150},{"modality":"AUDIO","tokenCount":50}],"cacheTokensDetails":[{"modality":"AUDIO","tokenCount":30}],"trafficType":"ON_DEMAND"}}"#;

const GEMINI_STREAM: &str = concat!(
    r#"data: {"candidates":[{"content":{"parts":[{"text":"H"}],"role":"model"}}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":1,"totalTokenCount":11},"modelVersion":"gemini-2.5-pro"}"#,
    "\r\n\r\n",
    r#"data: {"candidates":[{"content":{"parts":[{"text":"i"}],"role":"model"}}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":2,"totalTokenCount":12},"modelVersion":"gemini-2.5-pro"}"#,
    "\r\n\r\n",
    r#"data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":3,"totalTokenCount":20,"thoughtsTokenCount":7},"modelVersion":"gemini-2.5-pro"}"#,
    "\r\n\r\n",
);

const OLLAMA_STREAM: &str = concat!(
    r#"{"model":"llama3.2","created_at":"1","message":{"role":"assistant","content":"Hi"},"done":false}"#,
    "\n",
    r#"{"model":"llama3.2","created_at":"2","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":26,"prompt_eval_cached_count":20,"eval_count":282}"#,
    "\n",
);

const OLLAMA: &str = r#"{"model":"llama3.2","created_at":"2","response":"Hi","done":true,"done_reason":"length","prompt_eval_count":26,"eval_count":282}"#;

const COHERE: &str = r#"{"id":"c1","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"Hi"}]},"usage":{"billed_units":{"input_tokens":5.0,"output_tokens":418.0},"tokens":{"input_tokens":71.0,"output_tokens":418.0},"cached_tokens":64}}"#;

const COHERE_STREAM: &str = concat!(
    "event: message-start\n",
    r#"data: {"id":"c1","type":"message-start","delta":{"message":{"role":"assistant","content":[]}}}"#,
    "\n\nevent: content-delta\n",
    r#"data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hi"}}}}"#,
    "\n\nevent: message-end\n",
    r#"data: {"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":5.0,"output_tokens":418.0},"tokens":{"input_tokens":71.0,"output_tokens":418.0}}}}"#,
    "\n\n",
);

const COHERE_V1: &str = r#"{"response_id":"r","text":"Hi","generation_id":"g","finish_reason":"COMPLETE","meta":{"billed_units":{"input_tokens":5,"output_tokens":418},"tokens":{"input_tokens":71,"output_tokens":418}}}"#;

const COHERE_V1_STREAM: &str = concat!(
    r#"{"is_finished":false,"event_type":"stream-start","generation_id":"g"}"#,
    "\n",
    r#"{"is_finished":false,"event_type":"text-generation","text":"Hi"}"#,
    "\n",
    r#"{"is_finished":true,"event_type":"stream-end","response":{"text":"Hi","generation_id":"g","finish_reason":"COMPLETE","meta":{"billed_units":{"input_tokens":5,"output_tokens":418},"tokens":{"input_tokens":71,"output_tokens":418}}},"finish_reason":"COMPLETE"}"#,
    "\n",
);

/// Nothing of it is billed, or it does not say what.
const COHERE_V1_UNBILLED: &str = concat!(
    "event: stream-start\n",
    r#"data: {"is_finished":false,"event_type":"stream-start","generation_id":"g"}"#,
    "\n\nevent: tool-calls-chunk\n",
    r#"data: {"is_finished":false,"event_type":"tool-calls-chunk","text":"I look."}"#,
    "\n\nevent: tool-calls-chunk\n",
    r#"data: {"is_finished":false,"event_type":"tool-calls-chunk","tool_call_delta":{"index":0,"name":"rain"}}"#,
    "\n\nevent: tool-calls-generation\n",
    r#"data: {"is_finished":false,"event_type":"tool-calls-generation","text":"I look.","tool_calls":[{"name":"rain","parameters":{}}]}"#,
    "\n\nevent: stream-end\n",
    r#"data: {"is_finished":true,"event_type":"stream-end","response":{"text":"I look.","finish_reason":"COMPLETE","meta":{"tokens":{"input_tokens":903.0,"output_tokens":77}},"tool_calls":[{"name":"rain","parameters":{}}]},"finish_reason":"COMPLETE"}"#,
    "\n\n",
);

/// Asked for searches only.
const COHERE_V1_SEARCHES: &str = r#"{"text":"","generation_id":"g","is_search_required":true,"search_queries":[{"text":"rain","generation_id":"g"}],"finish_reason":"COMPLETE","meta":{"billed_units":{"input_tokens":5,"output_tokens":3}}}"#;

const TGI_STREAM: &str = concat!(
    r#"data:{"index":1,"token":{"id":1,"text":"Hi","logprob":-0.5,"special":false},"generated_text":null,"details":null}"#,
    "\n\n",
    r#"data:{"index":2,"token":{"id":2,"text":"</s>","logprob":-0.1,"special":true},"generated_text":"Hi","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":null,"input_length":9}}"#,
    "\n\n",
);

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

fn read(operation: Operation, framing: Framing, answer: &str, complete: bool) -> Reading {
    let mut reader = AnswerReader::new(operation, framing);
    reader.push(answer.as_bytes());
    reader.finish(complete)
}

fn array(events: &str) -> String {
    let data = events.lines().filter_map(|line| line.strip_prefix("data: "));
    format!("[{}]", data.collect::<Vec<_>>().join(",\r\n"))
}

#[test]
fn what_is_billed_is_read_to_the_token_in_every_framing() {
    use Framing::{Array, Events, Lines, Whole};
    let gemini = Usage {
        input: 200,
        cached_input: 1000,
        audio_input: 20,
        output: 80,
        reasoning: 300,
        ..Usage::default()
    };
    let streamed = Usage { reasoning: 7, ..usage(10, 3) };
    let cached = Usage { cached_input: 20, ..usage(6, 282) };
    let array = array(GEMINI_STREAM);
    for (operation, framing, answer, expected, model, deltas) in [
        (Operation::GeminiGenerate, Whole, GEMINI, gemini, Some("gemini-2.5-pro"), 0),
        (Operation::GeminiGenerate, Events, GEMINI_STREAM, streamed, Some("gemini-2.5-pro"), 2),
        (Operation::GeminiGenerate, Array, &array, streamed, Some("gemini-2.5-pro"), 2),
        (Operation::OllamaChat, Lines, OLLAMA_STREAM, cached, Some("llama3.2"), 1),
        (Operation::OllamaGenerate, Whole, OLLAMA, usage(26, 282), Some("llama3.2"), 0),
        (Operation::CohereChat, Whole, COHERE, usage(5, 418), None, 0),
        (Operation::CohereChat, Events, COHERE_STREAM, usage(5, 418), None, 1),
        (Operation::CohereChatV1, Whole, COHERE_V1, usage(5, 418), None, 0),
        (Operation::CohereChatV1, Lines, COHERE_V1_STREAM, usage(5, 418), None, 1),
        (Operation::CohereChatV1, Events, COHERE_V1_UNBILLED, usage(903, 77), None, 2),
        (Operation::CohereChatV1, Whole, COHERE_V1_SEARCHES, usage(5, 3), None, 0),
        (Operation::TgiGenerate, Events, TGI_STREAM, usage(9, 2), None, 2),
    ] {
        let reading = read(operation, framing, answer, true);
        assert_eq!((reading.quality, reading.usage), (Quality::Reported, expected), "{answer}");
        assert_eq!(reading.verdict, Verdict::Finished, "{answer}");
        assert_eq!((reading.model.as_deref(), reading.content_deltas), (model, deltas));
        assert_eq!(reading.requests, 1);
        for chunk_len in 1..60 {
            let mut pieces = AnswerReader::new(operation, framing);
            answer.as_bytes().chunks(chunk_len).for_each(|chunk| pieces.push(chunk));
            assert_eq!(pieces.finish(true), reading, "by {chunk_len}");
            assert_cuts_do_not_matter(answer.as_bytes(), chunk_len);
        }
        // Cut anywhere it is nobody's finished answer.
        for end in (0..answer.trim_end().len()).filter(|end| answer.is_char_boundary(*end)) {
            let cut = answer.get(..end).unwrap();
            assert!(!read(operation, framing, cut, true).verdict.is_finished(), "{cut}");
            assert!(!read(operation, framing, cut, false).verdict.is_finished(), "{cut}");
        }
        assert!(!read(operation, framing, answer, false).verdict.is_finished());
    }
}

#[test]
fn thoughts_are_counted_once_whether_the_total_has_them_inside_or_beside() {
    for (counts, expected, quality) in [
        // Beside: the Gemini API.
        (
            r#""promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":7,"totalTokenCount":22"#,
            (10, 5, 7),
            Quality::Reported,
        ),
        // Inside: some models of Vertex.
        (
            r#""promptTokenCount":10,"candidatesTokenCount":12,"thoughtsTokenCount":7,"totalTokenCount":22"#,
            (10, 5, 7),
            Quality::Reported,
        ),
        (
            r#""promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":7"#,
            (10, 5, 7),
            Quality::Reported,
        ),
        // Nothing but thoughts until the bound.
        (
            r#""promptTokenCount":10,"thoughtsTokenCount":7,"totalTokenCount":17"#,
            (10, 0, 7),
            Quality::Reported,
        ),
        (r#""promptTokenCount":10,"totalTokenCount":10"#, (10, 0, 0), Quality::Reported),
        (
            r#""promptTokenCount":10,"candidatesTokenCount":5,"totalTokenCount":99"#,
            (10, 5, 0),
            Quality::Partial,
        ),
    ] {
        let body = format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"x"}}]}},"finishReason":"MAX_TOKENS"}}],"usageMetadata":{{{counts}}}}}"#
        );
        let reading = read(Operation::GeminiGenerate, Framing::Whole, &body, true);
        let Usage { input, output, reasoning, .. } = reading.usage;
        assert_eq!(((input, output, reasoning), reading.quality), (expected, quality), "{counts}");
        assert_eq!(reading.verdict, Verdict::Finished);
    }
}

#[test]
fn only_a_finished_answer_of_these_dialects_may_be_stored() {
    use Framing::{Array, Events, Lines, Whole};
    use Operation::{
        CohereChat, CohereEmbed, CohereRerank, GeminiCountTokens, GeminiEmbed, GeminiGenerate,
        OllamaChat, OllamaEmbed, OllamaGenerate, TgiGenerate, TgiRoot,
    };
    use Verdict::{Finished, Unfinished};
    let candidate = |end: &str| {
        format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"x"}}]}},{end}"index":0}}]}}"#)
    };
    let [safety, other, open] =
        [r#""finishReason":"SAFETY","#, r#""finishReason":"OTHER","#, ""].map(candidate);
    let two = r#"{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"},{"index":1,"content":{"parts":[{"text":"x"}]}}]}"#;
    let sse = |data: &str| format!("data: {data}\n\n");
    let (safety_event, open_event) = (sse(&safety), sse(&open));
    let late_error = format!("{GEMINI_STREAM}{}", sse(r#"{"error":{"code":503}}"#));
    let unclosed = array(GEMINI_STREAM).trim_end_matches(']').to_owned();
    let ollama_error =
        format!("{}\n{{\"error\":\"boom\"}}\n", OLLAMA_STREAM.lines().next().unwrap());
    let junk = OLLAMA_STREAM.replacen('\n', "\noops\n", 1);
    let toxic = COHERE.replace("COMPLETE", "ERROR_TOXIC");
    let timeout = COHERE_STREAM.replace("COMPLETE", "TIMEOUT");
    #[rustfmt::skip] // a table
    let cases = [
        (GeminiGenerate, Whole, &*safety, Unfinished(reason::CONTENT_FILTER)),
        (GeminiGenerate, Whole, &other, Unfinished(reason::NOT_COMPLETED)),
        (GeminiGenerate, Whole, &open, Unfinished(reason::NO_END)),
        (GeminiGenerate, Whole, two, Unfinished(reason::NO_END)),
        (GeminiGenerate, Whole, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, Unfinished(reason::CONTENT_FILTER)),
        (GeminiGenerate, Whole, r#"{"candidates":[{"finishReason":"STOP"}]}"#, Unfinished(reason::EMPTY)),
        (GeminiGenerate, Whole, r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}"#, Unfinished(reason::ERROR)),
        (GeminiGenerate, Whole, "[]", Unfinished(reason::MALFORMED)),
        (GeminiGenerate, Whole, "", Unfinished(reason::EMPTY)),
        (GeminiGenerate, Events, &safety_event, Unfinished(reason::CONTENT_FILTER)),
        (GeminiGenerate, Events, &open_event, Unfinished(reason::NO_END)),
        (GeminiGenerate, Events, &late_error, Unfinished(reason::ERROR)),
        (GeminiGenerate, Array, &unclosed, Unfinished(reason::NO_END)),
        (GeminiCountTokens, Whole, r#"{"totalTokens":0}"#, Finished),
        (GeminiCountTokens, Whole, "{}", Unfinished(reason::EMPTY)),
        (GeminiEmbed, Whole, r#"{"embedding":{"values":[0.1]}}"#, Finished),
        (GeminiEmbed, Whole, r#"{"embeddings":[{"values":[0.1]}]}"#, Finished),
        (GeminiEmbed, Whole, r#"{"embedding":{"values":[]}}"#, Unfinished(reason::EMPTY)),
        (OllamaChat, Lines, &ollama_error, Unfinished(reason::ERROR)),
        (OllamaChat, Lines, &junk, Unfinished(reason::MALFORMED)),
        (OllamaGenerate, Whole, r#"{"model":"m","response":"","done":true,"done_reason":"load"}"#, Unfinished(reason::EMPTY)),
        (OllamaGenerate, Whole, r#"{"model":"m","response":"x","done":false}"#, Unfinished(reason::NO_END)),
        (OllamaGenerate, Whole, r#"{"error":"model not found"}"#, Unfinished(reason::ERROR)),
        (OllamaEmbed, Whole, r#"{"model":"m","embeddings":[[0.1]],"prompt_eval_count":8}"#, Finished),
        (OllamaEmbed, Whole, r#"{"embedding":[]}"#, Unfinished(reason::EMPTY)),
        (CohereChat, Whole, &toxic, Unfinished(reason::CONTENT_FILTER)),
        (CohereChat, Events, &timeout, Unfinished(reason::NOT_COMPLETED)),
        (CohereChat, Whole, r#"{"message":"too many"}"#, Unfinished(reason::NO_END)),
        (CohereEmbed, Whole, r#"{"embeddings":{"float":[[0.1]]}}"#, Finished),
        (CohereEmbed, Whole, r#"{"embeddings":[[0.1]]}"#, Finished),
        (CohereEmbed, Whole, r#"{"embeddings":{"float":[]}}"#, Unfinished(reason::EMPTY)),
        (CohereRerank, Whole, r#"{"results":[{"index":0,"relevance_score":0.9}]}"#, Finished),
        (TgiGenerate, Whole, r#"{"generated_text":"x"}"#, Finished),
        (TgiGenerate, Whole, r#"{"generated_text":""}"#, Unfinished(reason::EMPTY)),
        (TgiGenerate, Whole, r#"{"error":"overloaded","error_type":"overloaded"}"#, Unfinished(reason::ERROR)),
        (TgiRoot, Whole, r#"[{"generated_text":"x"}]"#, Finished),
        (TgiRoot, Whole, r#"[{"generated_text":"x"},{"generated_text":"y"}]"#, Unfinished(reason::MALFORMED)),
        (TgiRoot, Whole, r#"{"error":"overloaded"}"#, Unfinished(reason::ERROR)),
    ];
    for (operation, framing, answer, expected) in cases {
        assert_eq!(read(operation, framing, answer, true).verdict, expected, "{answer}");
    }
}

#[test]
fn what_a_provider_does_not_say_is_estimated_and_what_has_no_tokens_has_none() {
    let text = r#"{"generated_text":"twelve bytes"}"#;
    let reading = read(Operation::TgiGenerate, Framing::Whole, text, true).fill_gaps(4000);
    assert_eq!((reading.quality, reading.usage), (Quality::Estimated, usage(1000, 3)));
    // Its head may know.
    let mut reader = AnswerReader::new(Operation::TgiGenerate, Framing::Whole);
    reader.told(Some(9), Some(20));
    reader.push(text.as_bytes());
    let reading = reader.finish(true);
    assert_eq!((reading.quality, reading.usage), (Quality::Reported, usage(9, 20)));

    let embedding = r#"{"embedding":{"values":[0.1]}}"#;
    let reading = read(Operation::GeminiEmbed, Framing::Whole, embedding, true).fill_gaps(400);
    assert_eq!((reading.quality, reading.usage), (Quality::Estimated, usage(100, 0)));
    let embedding =
        r#"{"embeddings":{"float":[[0.1]]},"meta":{"billed_units":{"input_tokens":8}}}"#;
    let reading = read(Operation::CohereEmbed, Framing::Whole, embedding, true);
    assert_eq!((reading.quality, reading.usage), (Quality::Reported, usage(8, 0)));

    let rerank = r#"{"results":[{"index":0}],"meta":{"billed_units":{"search_units":3}}}"#;
    let reading = read(Operation::CohereRerank, Framing::Whole, rerank, true).fill_gaps(400);
    assert_eq!((reading.quality, reading.usage.total()), (Quality::Absent, 0));
    assert_eq!(reading.requests, 3);
}

#[test]
fn a_cut_stream_of_these_dialects_is_billed_for_what_came() {
    let (before, _) = OLLAMA_STREAM.split_once('\n').unwrap();
    let reading = read(Operation::OllamaChat, Framing::Lines, before, false).fill_gaps(400);
    assert_eq!((reading.quality, reading.usage), (Quality::Partial, usage(100, 1)));
    // Gemini says in every chunk how far it has come.
    let (before, _) = GEMINI_STREAM.rsplit_once("data: ").unwrap();
    let reading = read(Operation::GeminiGenerate, Framing::Events, before, false);
    assert_eq!((reading.quality, reading.usage), (Quality::Partial, usage(10, 2)));
}

#[test]
fn an_answer_too_large_to_keep_is_metered_from_its_end() {
    let text = "x".repeat(1_100_000);
    let gemini = GEMINI.replace("Hi", &text);
    let reading = read(Operation::GeminiGenerate, Framing::Whole, &gemini, true);
    assert_eq!((reading.quality, reading.usage.total()), (Quality::Reported, 1600));
    assert_eq!(reading.verdict, Verdict::Unfinished(reason::TOO_LARGE));
    let ollama = OLLAMA.replace("Hi", &text);
    let reading = read(Operation::OllamaGenerate, Framing::Whole, &ollama, true);
    assert_eq!((reading.quality, reading.usage), (Quality::Reported, usage(26, 282)));
}
