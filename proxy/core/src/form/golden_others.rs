//! Answers of Gemini, Ollama, Cohere and TGI in the shapes of their documentation, by
//! hand: what the converters must make of them, and what they must refuse. The pages are
//! named at each converter.

use serde_json::Value;

use super::{assert_forms_agree, framing_of_stream, reframe, stream_to_whole, whole_to_stream};
use crate::dialect::Framing;
use crate::dialect::Operation::{
    self, CohereChat, GeminiGenerate, OllamaChat, OllamaGenerate, TgiGenerate, TgiRoot,
};

const GEMINI_STREAM: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hm. \",\"thought\":true}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":7,\"totalTokenCount\":7},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"r1\"}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"So.\",\"thought\":true},{\"text\":\"Look \"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":7,\"thoughtsTokenCount\":20,\"totalTokenCount\":27},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"r1\"}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\u{2602}\"},{\"functionCall\":{\"name\":\"rain\",\"args\":{\"at\":1.50}},\"thoughtSignature\":\"CvcB\"}],\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"r1\"}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":9,\"totalTokenCount\":36,\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":7}],\"thoughtsTokenCount\":20},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"r1\"}\r\n\r\n";

const GEMINI_WHOLE: &str = r#"{"candidates":[{"content":{"parts":[{"text":"Hm. So.","thought":true},{"text":"Look ☂"},{"functionCall":{"name":"rain","args":{"at":1.50}},"thoughtSignature":"CvcB"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":7,"totalTokenCount":36,"thoughtsTokenCount":20,"candidatesTokenCount":9,"promptTokensDetails":[{"modality":"TEXT","tokenCount":7}]},"modelVersion":"gemini-2.5-flash","responseId":"r1"}"#;

const OLLAMA_STREAM: &str = r#"{"model":"llama3.2","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}
{"model":"llama3.2","created_at":"2026-01-01T00:00:01Z","message":{"role":"assistant","content":"The "},"done":false}
{"model":"llama3.2","created_at":"2026-01-01T00:00:02Z","message":{"role":"assistant","content":"☂","tool_calls":[{"function":{"name":"rain","arguments":{"at":1.50}}}]},"done":false}
{"model":"llama3.2","created_at":"2026-01-01T00:00:03Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}
"#;

const OLLAMA_WHOLE: &str = r#"{"model":"llama3.2","created_at":"2026-01-01T00:00:03Z","message":{"role":"assistant","content":"The ☂","thinking":"Hm","tool_calls":[{"function":{"name":"rain","arguments":{"at":1.50}}}]},"done":true,"done_reason":"stop","total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}"#;

const GENERATE_STREAM: &str = r#"{"model":"gemma3","created_at":"1","response":"That","done":false}
{"model":"gemma3","created_at":"2","response":"'s","done":false}
{"model":"gemma3","created_at":"3","response":"","done":true,"done_reason":"length","context":[1,2],"prompt_eval_count":26,"eval_count":2}
"#;

const GENERATE_WHOLE: &str = r#"{"model":"gemma3","created_at":"3","response":"That's","done":true,"done_reason":"length","context":[1,2],"prompt_eval_count":26,"eval_count":2}"#;

const COHERE_STREAM: &str = r#"event: message-start
data: {"id":"29f1","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}

event: tool-plan-delta
data: {"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will "}}}

event: tool-plan-delta
data: {"type":"tool-plan-delta","delta":{"message":{"tool_plan":"look."}}}

event: tool-call-start
data: {"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"rain_1","type":"function","function":{"name":"rain","arguments":""}}}}}

event: tool-call-delta
data: {"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"at\":"}}}}}

event: tool-call-delta
data: {"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"1.50}"}}}}}

event: tool-call-end
data: {"type":"tool-call-end","index":0}

event: content-start
data: {"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking","thinking":""}}}}

event: content-delta
data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"Hm"}}}}

event: content-end
data: {"type":"content-end","index":0}

event: content-start
data: {"type":"content-start","index":1,"delta":{"message":{"content":{"type":"text","text":""}}}}

event: content-delta
data: {"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"Look "}}}}

event: content-delta
data: {"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"☂"}}}}

event: citation-start
data: {"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":4,"text":"Look","sources":[{"type":"tool","id":"t:0"}],"type":"TEXT_CONTENT"}}}}

event: citation-end
data: {"type":"citation-end","index":0}

event: content-end
data: {"type":"content-end","index":1}

event: message-end
data: {"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":5.0,"output_tokens":418.0},"tokens":{"input_tokens":71.0,"output_tokens":418.0}}}}

"#;

const COHERE_WHOLE: &str = r#"{"id":"29f1","message":{"role":"assistant","tool_plan":"I will look.","tool_calls":[{"id":"rain_1","type":"function","function":{"name":"rain","arguments":"{\"at\":1.50}"}}],"content":[{"type":"thinking","thinking":"Hm"},{"type":"text","text":"Look ☂"}],"citations":[{"start":0,"end":4,"text":"Look","sources":[{"type":"tool","id":"t:0"}],"type":"TEXT_CONTENT"}]},"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":5.0,"output_tokens":418.0},"tokens":{"input_tokens":71.0,"output_tokens":418.0}}}"#;

const TGI_STREAM: &str = r#"data:{"index":1,"token":{"id":1,"text":" a","logprob":-0.5,"special":false},"generated_text":null,"details":null}

data:{"index":2,"token":{"id":2,"text":"</s>","logprob":-0.1,"special":true},"generated_text":" a","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":null,"input_length":9}}

"#;

const TGI_WHOLE: &str = r#"{"generated_text":" a","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":null,"prefill":[],"tokens":[{"id":1,"text":" a","logprob":-0.5,"special":false},{"id":2,"text":"</s>","logprob":-0.1,"special":true}]}}"#;

/// Every dialect's stream, the whole answer that it is, and the bytes that end it.
const ALL: [(Operation, &str, &str); 5] = [
    (GeminiGenerate, GEMINI_STREAM, GEMINI_WHOLE),
    (OllamaChat, OLLAMA_STREAM, OLLAMA_WHOLE),
    (OllamaGenerate, GENERATE_STREAM, GENERATE_WHOLE),
    (CohereChat, COHERE_STREAM, COHERE_WHOLE),
    (TgiGenerate, TGI_STREAM, TGI_WHOLE),
];

fn whole(operation: Operation, stream: &str) -> Option<String> {
    stream_to_whole(operation, stream.as_bytes()).map(|body| String::from_utf8(body).unwrap())
}

fn stream(operation: Operation, body: &str) -> Option<String> {
    let frames = whole_to_stream(operation, body.as_bytes())?;
    Some(String::from_utf8(frames.concat()).unwrap())
}

#[test]
fn a_stream_becomes_the_whole_answer_to_the_byte() {
    for (operation, answer, expected) in ALL {
        assert_eq!(whole(operation, answer).as_deref(), Some(expected));
        assert_forms_agree(answer.as_bytes());
    }
    let in_list = format!("[{TGI_WHOLE}]");
    assert_eq!(whole(TgiRoot, TGI_STREAM).as_deref(), Some(&*in_list));
}

#[test]
fn a_whole_answer_comes_back_from_its_stream() {
    for (operation, _, body) in &ALL[..4] {
        let told = stream(*operation, body).unwrap();
        assert_eq!(whole(*operation, &told).as_deref(), Some(*body), "{told}");
        // And however it is written.
        let parsed: Value = serde_json::from_str(body).unwrap();
        let told = stream(*operation, &format!("{parsed:#}")).unwrap();
        let back: Value = serde_json::from_str(&whole(*operation, &told).unwrap()).unwrap();
        assert_eq!(back, parsed);
    }
    // No stream can be made up of what TGI leaves out.
    assert_eq!(stream(TgiGenerate, TGI_WHOLE), None);
}

#[test]
fn a_stream_is_told_as_its_provider_tells_it() {
    let told = stream(GeminiGenerate, GEMINI_WHOLE).unwrap();
    assert_eq!(told, format!("data: {GEMINI_WHOLE}\n\n"));
    let told = stream(OllamaChat, OLLAMA_WHOLE).unwrap();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[1],
        r#"{"model":"llama3.2","created_at":"2026-01-01T00:00:03Z","message":{"role":"assistant","content":"The ☂"},"done":false}"#
    );
    assert_eq!(lines[3], OLLAMA_STREAM.lines().last().unwrap());
    let told = stream(CohereChat, COHERE_WHOLE).unwrap();
    for event in COHERE_STREAM.split("\n\n").filter(|event| !event.contains("-delta")) {
        assert!(told.contains(event), "{event} in {told}");
    }
}

#[test]
fn gemini_s_stream_has_two_framings_with_the_same_chunks() {
    let events = GEMINI_STREAM.as_bytes();
    let array = reframe(GeminiGenerate, events, Framing::Array).unwrap().concat();
    assert_eq!(framing_of_stream(GeminiGenerate, events), Framing::Events);
    assert_eq!(framing_of_stream(GeminiGenerate, &array), Framing::Array);
    let parsed: Vec<Value> = serde_json::from_slice(&array).unwrap();
    assert_eq!(parsed.len(), 4);
    let back = reframe(GeminiGenerate, &array, Framing::Events).unwrap().concat();
    assert_eq!(String::from_utf8(back).unwrap(), GEMINI_STREAM.replace('\r', ""));
    assert_eq!(
        stream_to_whole(GeminiGenerate, &array).unwrap(),
        GEMINI_WHOLE.as_bytes(),
        "whole from either"
    );
    assert_eq!(reframe(GeminiGenerate, events, Framing::Lines), None);
    assert_eq!(reframe(OllamaChat, OLLAMA_STREAM.as_bytes(), Framing::Events), None);
}

#[test]
fn a_stream_that_is_not_complete_is_refused() {
    for (operation, answer, _) in ALL {
        let end = answer.trim_end().len();
        for end in 0..end {
            if answer.is_char_boundary(end) {
                let cut = answer.get(..end).unwrap();
                assert_eq!(whole(operation, cut), None, "{cut}");
            }
        }
        // Nothing is said behind the end. (Gemini says no end that would be the last.)
        if operation != GeminiGenerate {
            assert_eq!(whole(operation, &format!("{answer}{answer}")), None);
        }
    }
}

#[track_caller]
fn refuses(operation: Operation, answer: &str, cases: &[(&str, &str)]) {
    let convert = if answer.starts_with('{') && !answer.ends_with('\n') { stream } else { whole };
    for (from, to) in cases {
        assert!(answer.contains(from), "nothing to replace: {from}");
        assert_eq!(convert(operation, &answer.replacen(from, to, 1)), None, "{from} → {to}");
    }
}

#[test]
fn a_stream_that_holds_something_unknown_is_refused() {
    refuses(
        GeminiGenerate,
        GEMINI_STREAM,
        &[
            (r#""index":0"#, r#""index":1"#),
            (r#""index":0"#, r#""mood":null"#),
            (r#""index":0"#, r#""groundingMetadata":{"a":1}"#),
            (r#""index":0"#, r#""citationMetadata":{"a":1}"#),
            (r#""functionCall":{"#, r#""functionCall":{"willContinue":true,"#),
            (r#""functionCall":{"#, r#""inlineData":{"#),
            (r#""role":"model""#, r#""role":"user""#),
            (r#""responseId":"r1""#, r#""responseId":"r2""#),
            (r#""responseId":"r1""#, r#""promptFeedback":{}"#),
            (r#""finishReason":"STOP","#, ""),
            ("data: {", "event: x\ndata: {"),
        ],
    );
    refuses(
        OllamaChat,
        OLLAMA_STREAM,
        &[
            (r#""role":"assistant""#, r#""role":"user""#),
            (r#""done":false"#, r#""done":false,"logprobs":[]"#),
            (r#""done":false"#, r#""done":"no""#),
            (r#""done":false"#, r#""done":false,"error":"boom""#),
            (r#""model":"llama3.2""#, r#""model":"other""#),
            (r#""eval_count":282"#, r#""evals":282"#),
            (r#""content":"The ""#, r#""content":1"#),
        ],
    );
    refuses(
        CohereChat,
        COHERE_STREAM,
        &[
            (r#""index":1"#, r#""index":2"#),
            (r#""content":[]"#, r#""content":[{}]"#),
            (r#"{"text":"Look "}"#, r#"{"text":"Look ","logprobs":[]}"#),
            (r#"{"text":"Look "}"#, r#"{"text":"Look "},"tool_plan":"x""#),
            ("event: citation-end", "event: citation"),
            (r#""type":"thinking","thinking":"""#, r#""type":"image","thinking":"""#),
            (r#""finish_reason":"COMPLETE","#, ""),
            ("\"type\":\"function\"", "\"type\":\"custom\""),
            (r#"{"finish_reason""#, r#"{"error":"boom","finish_reason""#),
        ],
    );
    refuses(
        TgiGenerate,
        TGI_STREAM,
        &[
            (r#""index":1,"#, r#""index":1,"top_tokens":[],"#),
            (r#""token":{"id":1,"#, r#""tok":{"id":1,"#),
            ("data:{\"index\":1", "data:{\"error\":\"boom\",\"index\":1"),
            (r#""seed":null,"#, r#""seed":null,"best_of_sequences":[],"#),
        ],
    );
}

#[test]
fn a_whole_answer_that_holds_something_unknown_or_has_no_end_is_refused() {
    // A chunk of Gemini's has the shape of the whole, so there is nothing unknown in it.
    refuses(
        GeminiGenerate,
        GEMINI_WHOLE,
        &[
            (r#","finishReason":"STOP""#, ""),
            (r#""usageMetadata":{"#, r#""usage":{"#),
            (r#""candidates":["#, r#""candidates":[],"others":["#),
            (r#""modelVersion""#, r#""error":{},"modelVersion""#),
        ],
    );
    refuses(
        OllamaChat,
        OLLAMA_WHOLE,
        &[
            (r#""done":true"#, r#""done":false"#),
            (r#""content":"The ☂""#, r#""content":"The ☂","images":["x"]"#),
            (r#""eval_count":282"#, r#""logprobs":[]"#),
        ],
    );
    refuses(
        CohereChat,
        COHERE_WHOLE,
        &[
            (r#""finish_reason":"COMPLETE","#, ""),
            (r#""usage":{"#, r#""use":{"#),
            (r#""usage":{"#, r#""logprobs":[],"usage":{"#),
            (r#"{"type":"text","text":"Look ☂"}"#, r#"{"type":"image","image":"x"}"#),
            (r#""id":"29f1","#, ""),
        ],
    );
}
