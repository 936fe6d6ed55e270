//! Properties over generated answers of Gemini, Ollama, Cohere and Responses: a whole
//! answer comes back from its stream, both forms bill the same, and a stream that was cut
//! is nobody's whole answer.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{assert_forms_agree, reframe, stream_to_whole, whole_to_stream};
use crate::dialect::Framing;
use crate::dialect::Operation::{
    self, CohereChat, CohereChatV1, GeminiGenerate, OllamaChat, OllamaGenerate, OpenAiResponses,
    TgiGenerate,
};
use crate::usage::AnswerReader;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{1,12}", Just("\n\r\"\\ data: [DONE]\n\n".to_owned())]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 1..4)
}

fn counts() -> impl Strategy<Value = (u64, u64)> {
    (0_u64..1_000_000, 0_u64..1_000_000)
}

fn gemini() -> impl Strategy<Value = Value> {
    (texts(), texts(), counts(), any::<bool>()).prop_map(|(said, calls, (input, output), calls_too)| {
        let mut parts: Vec<Value> = said.iter().map(|text| json!({ "text": text })).collect();
        if calls_too {
            let call = |name: &String| json!({ "functionCall": { "name": name, "args": {} } });
            parts.extend(calls.iter().map(call));
        }
        json!({
            "candidates": [{ "content": { "parts": parts, "role": "model" }, "finishReason": "STOP", "index": 0 }],
            "usageMetadata": { "promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output },
            "modelVersion": said[0], "responseId": "r",
        })
    })
}

fn ollama(is_chat: bool) -> impl Strategy<Value = Value> {
    (text(), prop::option::of(text()), counts()).prop_map(
        move |(text, thinking, (input, output))| {
            let mut body = json!({
                "model": "m", "created_at": "1", "done": true, "done_reason": "stop",
                "total_duration": 1, "prompt_eval_count": input, "eval_count": output,
            });
            let mut said = json!({ "role": "assistant", "content": text });
            if is_chat {
                if let Some(thinking) = thinking {
                    said["thinking"] = thinking.into();
                }
                body["message"] = said;
            } else {
                body["response"] = text.into();
                if let Some(thinking) = thinking {
                    body["thinking"] = thinking.into();
                }
            }
            body
        },
    )
}

fn cohere() -> impl Strategy<Value = Value> {
    (texts(), texts(), text(), counts()).prop_map(|(blocks, calls, plan, (input, output))| {
        let block = |text: &String| json!({ "type": "text", "text": text });
        let call = |name: &String| {
            json!({ "id": name, "type": "function", "function": { "name": name, "arguments": name } })
        };
        json!({
            "id": "c", "finish_reason": "COMPLETE",
            "message": {
                "role": "assistant", "tool_plan": plan,
                "content": blocks.iter().map(block).collect::<Vec<_>>(),
                "tool_calls": calls.iter().map(call).collect::<Vec<_>>(),
                "citations": [{ "start": 0, "end": 1, "text": plan, "sources": [] }],
            },
            "usage": { "billed_units": { "input_tokens": input, "output_tokens": output } },
        })
    })
}

fn cohere_v1() -> impl Strategy<Value = Value> {
    let found = prop::collection::vec(text(), 0..3);
    (text(), found, texts(), any::<bool>(), counts()).prop_map(
        |(text, found, calls, with_calls, (input, output))| {
            let call = |name: &String| json!({ "name": name, "parameters": { name: 1.5 } });
            let calls: Vec<Value> = calls.iter().filter(|_| with_calls).map(call).collect();
            let found = |name: &str| found.iter().map(|text| json!({ name: text })).collect();
            let (queries, results): (Vec<Value>, Vec<Value>) = (found("text"), found("id"));
            let tokens = json!({ "input_tokens": input, "output_tokens": output });
            json!({
                "response_id": "r", "text": text, "generation_id": "g", "tool_calls": calls,
                "chat_history": [{ "role": "USER", "message": text }], "finish_reason": "COMPLETE",
                "search_queries": queries, "documents": results, "citations": results,
                "meta": { "api_version": { "version": "1" }, "tokens": tokens },
            })
        },
    )
}

fn response() -> impl Strategy<Value = Value> {
    (texts(), text(), counts()).prop_map(|(said, arguments, (input, output))| {
        let part = |text: &String| json!({ "type": "output_text", "text": text, "annotations": [] });
        let content: Vec<Value> = said.iter().map(part).collect();
        json!({
            "id": "r", "object": "response", "status": "completed", "error": null, "model": "m",
            "output": [
                { "id": "i", "type": "message", "role": "assistant", "status": "completed", "content": content },
                { "id": "f", "type": "function_call", "call_id": "c", "name": "n", "arguments": arguments },
            ],
            "usage": { "input_tokens": input, "output_tokens": output, "total_tokens": input + output },
        })
    })
}

fn framing(operation: Operation) -> Framing {
    if matches!(operation, OllamaChat | OllamaGenerate) { Framing::Lines } else { Framing::Events }
}

fn check(
    operation: Operation,
    body: &Value,
    cut: prop::sample::Index,
) -> Result<(), TestCaseError> {
    let text = format!("{body:#}");
    let frames = whole_to_stream(operation, text.as_bytes()).expect("the answer is known");
    let stream = frames.concat();
    let back = stream_to_whole(operation, &stream).expect("its stream is known");
    prop_assert_eq!(&serde_json::from_slice::<Value>(&back).unwrap(), body);

    let read = |framing, bytes: &[u8]| {
        let mut reader = AnswerReader::new(operation, framing);
        reader.push(bytes);
        reader.finish(true)
    };
    let whole = read(Framing::Whole, text.as_bytes());
    let streamed = read(framing(operation), &stream);
    prop_assert_eq!(streamed.usage, whole.usage);
    prop_assert_eq!((streamed.quality, streamed.verdict), (whole.quality, whole.verdict));
    prop_assert!(whole.verdict.is_finished());

    // The last two bytes may be only line ends.
    let end = cut.index(stream.trim_ascii_end().len());
    let cut = stream.get(..end).unwrap();
    prop_assert_eq!(stream_to_whole(operation, cut), None);
    prop_assert!(!read(framing(operation), cut).verdict.is_finished());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_whole_answer_of_gemini_comes_back_the_same(body in gemini(), cut: prop::sample::Index) {
        check(GeminiGenerate, &body, cut)?;
    }

    #[test]
    fn a_whole_answer_of_ollama_comes_back_the_same(
        chat in ollama(true),
        generated in ollama(false),
        cut: prop::sample::Index,
    ) {
        check(OllamaChat, &chat, cut)?;
        check(OllamaGenerate, &generated, cut)?;
    }

    #[test]
    fn a_whole_answer_of_cohere_comes_back_the_same(body in cohere(), cut: prop::sample::Index) {
        check(CohereChat, &body, cut)?;
    }

    #[test]
    fn a_whole_answer_of_cohere_s_first_chat_comes_back_the_same(
        body in cohere_v1(),
        cut: prop::sample::Index,
    ) {
        check(CohereChatV1, &body, cut)?;
        // And by way of its other framing.
        let frames = whole_to_stream(CohereChatV1, body.to_string().as_bytes()).unwrap().concat();
        let lines = reframe(CohereChatV1, &frames, Framing::Lines).unwrap().concat();
        prop_assert_eq!(reframe(CohereChatV1, &lines, Framing::Events).unwrap().concat(), frames);
        let back = stream_to_whole(CohereChatV1, &lines).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), body);
    }

    #[test]
    fn a_whole_response_comes_back_the_same(body in response(), cut: prop::sample::Index) {
        check(OpenAiResponses, &body, cut)?;
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for operation in [
            OpenAiResponses, GeminiGenerate, OllamaChat, OllamaGenerate, CohereChat, CohereChatV1,
            TgiGenerate,
        ] {
            prop_assert_eq!(stream_to_whole(operation, &bytes), None);
            prop_assert_eq!(whole_to_stream(operation, &bytes), None);
        }
        assert_forms_agree(&bytes);
    }
}
