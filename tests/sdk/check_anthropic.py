"""The official Anthropic SDK, plain, streaming, with tools and with errors."""

import asyncio

import anthropic
from anthropic import _exceptions as exceptions

from checks import RUN, Attempts, base_url, check, main, question, raises

URL = base_url()
MODEL = "claude-haiku-4-5"
TOOLS = [
    {
        "name": "weather",
        "description": "of a city",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        },
    }
]
KEY = f"sk-ant-{RUN}"

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)


def request(text, model=MODEL, **more):
    messages = [{"role": "user", "content": question(text)}]
    return {"model": model, "max_tokens": 100, "messages": messages, **more}


def ask(text, with_client=client, **more):
    return with_client.messages.create(**request(text, **more))


def plain_text(text, **more):
    return ask(text, **more).content[0].text


@check
def a_message_is_answered(first):
    answer = ask("hello 東京", system="be brief")
    assert answer.id.startswith("msg_") and answer.type == "message"
    assert answer.model == MODEL and answer.role == "assistant"
    assert answer._request_id, "no request id"
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None
    assert len(answer.content) == 1 and len(answer.content[0].text.split()) == 12
    assert answer.usage.output_tokens == 12 and answer.usage.input_tokens > 0
    assert answer.usage.cache_read_input_tokens == 0
    return answer.content[0].text, answer.usage.model_dump()


@check
def a_stream_has_its_events_in_order_and_says_the_same(first):
    events = list(ask("streamed", stream=True))
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    deltas = [event for event in events if event.type == "content_block_delta"]
    text = "".join(event.delta.text for event in deltas)
    whole = ask("streamed")
    assert text == whole.content[0].text
    started = events[0].message.usage
    ended = [event for event in events if event.type == "message_delta"][0]
    assert started.input_tokens == whole.usage.input_tokens
    assert ended.usage.output_tokens == whole.usage.output_tokens
    assert ended.delta.stop_reason == whole.stop_reason
    return text


@check
def a_plain_answer_can_be_streamed_afterwards(first):
    text = plain_text("first plain, then streamed")
    with client.messages.stream(**request("first plain, then streamed")) as stream:
        assert "".join(stream.text_stream) == text
    return text


@check
def the_stream_helper_builds_the_whole_message(first):
    with client.messages.stream(**request("helper")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
        assert stream.request_id, "no request id"
    whole = ask("helper")
    assert final.content[0].text == text == whole.content[0].text
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens == 12
    assert final.stop_reason == "end_turn"
    return text


@check
def a_tool_is_used_and_its_result_is_answered(first):
    answer = ask("what is the weather?", tools=TOOLS)
    assert answer.stop_reason == "tool_use"
    use = answer.content[0]
    assert use.type == "tool_use" and use.name == "weather" and use.id.startswith("toolu_")
    assert isinstance(use.input["city"], str) and isinstance(use.input["days"], int)
    after = request("what is the weather?", tools=TOOLS)
    after["messages"] += [
        {"role": "assistant", "content": [block.to_dict() for block in answer.content]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "rain"}],
        },
    ]
    assert client.messages.create(**after).stop_reason == "end_turn"
    return use.input


@check
def a_tool_use_streams_its_input(first):
    with client.messages.stream(**request("weather, streamed", tools=TOOLS)) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert "input_json" in kinds
    assert final.content[0].input == ask("weather, streamed", tools=TOOLS).content[0].input
    assert final.stop_reason == "tool_use"
    return final.content[0].input


@check
def max_tokens_shortens(first):
    answer = ask("short", max_tokens=3)
    assert answer.stop_reason == "max_tokens" and answer.usage.output_tokens == 3
    return answer.content[0].text


@check
def tokens_are_counted_and_models_listed(first):
    counted = request("count me")
    del counted["max_tokens"]
    tokens = client.messages.count_tokens(**counted).input_tokens
    assert tokens == ask("count me").usage.input_tokens
    names = [model.id for model in client.models.list()]
    assert MODEL in names and client.models.retrieve(MODEL).id == MODEL
    return tokens, names


@check
def errors_are_of_their_class_with_body_and_request_id(first):
    classes = {
        400: (anthropic.BadRequestError, "invalid_request_error"),
        401: (anthropic.AuthenticationError, "authentication_error"),
        403: (anthropic.PermissionDeniedError, "permission_error"),
        404: (anthropic.NotFoundError, "not_found_error"),
        413: (exceptions.ContentTooLargeError, "request_too_large"),
        429: (anthropic.RateLimitError, "rate_limit_error"),
        500: (anthropic.InternalServerError, "api_error"),
        529: (exceptions.OverloadedError, "overloaded_error"),
    }
    for status, (kind, name) in classes.items():
        for stream in (False, True):
            call = lambda: ask("error", model=f"fail-{status}", stream=stream)  # noqa: B023
            error = raises(kind, call)
            assert error.status_code == status and error.request_id, error
            assert error.body["error"]["type"] == name, error.body
            assert error.body["request_id"] == error.request_id, error.body
    return list(classes)


@check
def a_question_that_is_none_is_refused_by_name(first):
    call = lambda: client.messages.create(model=MODEL, max_tokens=9, messages=None)
    error = raises(anthropic.BadRequestError, call)
    assert "messages" in error.body["error"]["message"], error
    return error.body["error"]


@check
def a_failure_is_retried_and_then_answered(first):
    attempts = Attempts()
    retrying = client.with_options(
        max_retries=2, http_client=anthropic.DefaultHttpxClient(event_hooks=attempts.hooks())
    )
    text = plain_text("flaky", model=f"{MODEL}+fail-429-once", with_client=retrying)
    assert attempts.sent == (2 if first else 1), attempts.sent
    return text


@check
def x_should_retry_is_obeyed(first):
    sent = {}
    for model, kind in {
        "fail-429-final": anthropic.RateLimitError,
        "fail-529-final": exceptions.OverloadedError,
        "fail-400-retry": anthropic.BadRequestError,
        "fail-400": anthropic.BadRequestError,
        "fail-429": anthropic.RateLimitError,
    }.items():
        attempts = Attempts()
        http = anthropic.DefaultHttpxClient(event_hooks=attempts.hooks())
        retrying = client.with_options(max_retries=1, http_client=http)
        raises(kind, lambda: ask("retry", model=model, with_client=retrying))  # noqa: B023
        sent[model] = attempts.sent
    assert list(sent.values()) == [1, 1, 2, 1, 2], sent
    return sent


@check
def an_error_event_in_a_stream_is_raised(first):
    heard = []
    try:
        heard.extend(ask("late", model="error-event", stream=True))
    except anthropic.APIStatusError as error:
        assert error.body["error"]["type"] == "overloaded_error", error.body
    else:
        raise AssertionError("an error event was not raised")
    assert heard[0].type == "message_start"
    return [event.type for event in heard]


@check
def a_cut_stream_is_raised_and_never_looks_complete(first):
    heard = []
    stream = ask("cut", model="cut-midstream", stream=True)
    try:
        heard.extend(stream)
    except Exception as error:  # noqa: BLE001: which one depends on the HTTP library
        assert not isinstance(error, anthropic.APIStatusError), error
    else:
        raise AssertionError("a cut stream ended like a whole one")
    # How much of it arrives is up to the sockets on the way.
    assert len(heard) <= 3 and all(event.type != "message_stop" for event in heard)


@check
def a_stream_left_early_hurts_no_other_call(first):
    stream = ask("left early", stream=True)
    kind = next(iter(stream)).type
    stream.close()
    return kind, plain_text("left early")


@check
def raw_responses_have_their_headers(first):
    raw = client.messages.with_raw_response.create(**request("raw"))
    assert raw.headers["content-type"] == "application/json"
    with client.messages.with_streaming_response.create(**request("raw"), stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-2:] == ["event: message_stop", 'data: {"type":"message_stop"}'], lines[-2:]
    return raw.parse().content[0].text


@check
async def the_async_client_hears_the_same(first):
    async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY, max_retries=0) as asyncly:
        answer = await asyncly.messages.create(**request("async"))
        async with asyncly.messages.stream(**request("async")) as stream:
            text = "".join([part async for part in stream.text_stream])
        assert text == answer.content[0].text
        try:
            await asyncly.messages.create(**request("async", model="fail-404"))
        except anthropic.NotFoundError as error:
            assert error.request_id
        else:
            raise AssertionError("wanted NotFoundError")
    return text


@check
async def many_equal_calls_at_once_are_all_answered(first):
    async def stream(asyncly):
        async with asyncly.messages.stream(**request("at once")) as stream:
            return (await stream.get_final_message()).content[0].text

    async def plain(asyncly):
        return (await asyncly.messages.create(**request("at once"))).content[0].text

    async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY, max_retries=0) as asyncly:
        calls = [stream(asyncly) for _ in range(8)] + [plain(asyncly) for _ in range(8)]
        texts = await asyncio.gather(*calls)
    assert len(set(texts)) == 1 and texts[0], texts
    return texts[0]


main()
