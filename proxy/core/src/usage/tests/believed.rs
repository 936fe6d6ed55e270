//! Which of a server's numbers are believed.

use super::*;

/// One bound for tokens and money: what is beyond it is a server's defect.
#[test]
fn more_tokens_than_there_can_be_are_not_believed_and_estimated() {
    let answer = |tokens: u64| {
        let text =
            COMPLETION.replace(r#""prompt_tokens":5"#, &format!(r#""prompt_tokens":{tokens}"#));
        let mut reader = AnswerReader::new(Operation::OpenAiCompletions, Framing::Whole);
        reader.push(text.as_bytes());
        reader.finish(true)
    };
    for tokens in [TOKENS_BELIEVED_MAX + 1, u64::from(u32::MAX), u64::MAX] {
        let reading = answer(tokens);
        assert!(reading.disbelieved && reading.verdict.is_finished());
        let reading = reading.fill_gaps(400);
        assert_eq!(reading.quality, Quality::Estimated);
        assert_eq!((reading.usage.input, reading.usage.output), (100, 2));
    }
    let reading = answer(TOKENS_BELIEVED_MAX - 7);
    assert_eq!((reading.disbelieved, reading.usage.total()), (false, TOKENS_BELIEVED_MAX));
}
