"""The official OpenAI SDK, plain, streaming, with tools and with errors."""

import asyncio
import json

import openai

from checks import RUN, Attempts, base_url, check, main, question, raises

URL = base_url() + "/v1"
MODEL = "gpt-4o-mini"
TOOL_PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": TOOL_PARAMETERS}}]
KEY = f"sk-{RUN}"

client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)


def user(text):
    return [{"role": "user", "content": question(text)}]


def chat(text, model=MODEL, with_client=client, **more):
    return with_client.chat.completions.create(model=model, messages=user(text), **more)


def plain_text(text, **more):
    return chat(text, **more).choices[0].message.content


@check
def a_chat_is_answered(first):
    answer = chat("hello 東京")
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer._request_id, "no request id"
    choice = answer.choices[0]
    assert choice.finish_reason == "stop" and choice.message.role == "assistant"
    assert len(choice.message.content.split()) == 12
    usage = answer.usage
    assert usage.completion_tokens == 12 and usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 0
    return choice.message.content, usage.model_dump()


@check
def a_chat_stream_says_the_same_without_usage(first):
    chunks = list(chat("streamed", stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(len(chunk.choices) == 1 for chunk in chunks), "an extra chunk"
    assert all(chunk.usage is None for chunk in chunks), "usage that was not asked for"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices[0].finish_reason == "stop"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == plain_text("streamed")
    return text


@check
def a_chat_stream_ends_with_usage_for_who_asks(first):
    chunks = list(chat("usage", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 12
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].usage.model_dump() == chat("usage").usage.model_dump()
    return chunks[-1].usage.model_dump()


@check
def a_plain_answer_can_be_streamed_afterwards(first):
    text = plain_text("first plain, then streamed")
    chunks = list(chat("first plain, then streamed", stream=True))
    assert text == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return text


@check
def the_stream_helper_builds_the_whole_completion(first):
    with client.chat.completions.stream(model=MODEL, messages=user("helper")) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds, kinds
    assert final.choices[0].message.content == plain_text("helper")
    return final.choices[0].message.content


@check
def a_tool_is_called_and_its_result_is_answered(first):
    answer = chat("what is the weather?", tools=TOOLS)
    assert answer.choices[0].finish_reason == "tool_calls"
    call = answer.choices[0].message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert call.type == "function" and call.function.name == "weather"
    assert isinstance(arguments["city"], str) and isinstance(arguments["days"], int)
    messages = user("what is the weather?") + [
        answer.choices[0].message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    after = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert after.choices[0].message.tool_calls is None
    return arguments, bool(after.choices[0].message.content)


@check
def a_tool_call_streams_its_arguments(first):
    request = {"model": MODEL, "messages": user("weather, streamed"), "tools": TOOLS}
    with client.chat.completions.stream(**request) as stream:
        for _event in stream:
            pass
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    plain = chat("weather, streamed", tools=TOOLS).choices[0].message.tool_calls[0]
    assert call.function.arguments == plain.function.arguments
    assert call.function.name == "weather" and call.id.startswith("call_")
    return call.function.arguments


@check
def many_choices_are_all_there(first):
    answer = chat("choices", n=3)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2] and len(set(texts)) == 3
    heard = ["", "", ""]
    for chunk in chat("choices", n=3, stream=True):
        heard[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert heard == texts
    return texts


@check
def max_tokens_shortens(first):
    answer = chat("short", max_completion_tokens=3)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 3
    return answer.choices[0].message.content


@check
def completions_are_answered_and_streamed(first):
    prompt = question("once upon a time")
    answer = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=prompt)
    assert answer.object == "text_completion" and answer.usage.total_tokens > 12
    stream = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=prompt, stream=True)
    assert answer.choices[0].text == "".join(chunk.choices[0].text for chunk in stream)
    return answer.choices[0].text


@check
def a_response_is_answered_and_streamed(first):
    request = {"model": MODEL, "input": question("respond"), "instructions": "be brief"}
    answer = client.responses.create(**request)
    assert answer.status == "completed" and answer.id.startswith("resp_")
    assert answer.usage.output_tokens == 12 and len(answer.output_text.split()) == 12
    events = list(client.responses.create(**request, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    deltas = (e.delta for e in events if e.type == "response.output_text.delta")
    assert "".join(deltas) == answer.output_text == events[-1].response.output_text
    assert events[-1].response.usage == answer.usage
    with client.responses.stream(**request) as stream:
        for _event in stream:
            pass
        assert stream.get_final_response().output_text == answer.output_text
    return answer.output_text, answer.usage.model_dump()


@check
def a_response_calls_a_function(first):
    tools = [{"type": "function", "name": "weather", "parameters": TOOL_PARAMETERS, "strict": True}]
    request = {"model": MODEL, "input": question("the weather?"), "tools": tools}
    call = client.responses.create(**request).output[0]
    assert call.type == "function_call" and call.name == "weather"
    with client.responses.stream(**request) as stream:
        done = [e for e in stream if e.type == "response.function_call_arguments.done"]
    assert [event.arguments for event in done] == [call.arguments]
    return json.loads(call.arguments)


@check
def embeddings_are_the_same_in_both_encodings(first):
    request = {"model": "text-embedding-3-small", "input": [question("a"), question("b")]}
    coded = client.embeddings.create(**request)
    plain = client.embeddings.create(**request, encoding_format="float")
    assert len(coded.data) == 2 and len(coded.data[0].embedding) == 8
    assert [item.embedding for item in coded.data] == [item.embedding for item in plain.data]
    assert coded.usage.prompt_tokens == coded.usage.total_tokens > 0
    return [item.embedding for item in coded.data]


@check
def moderations_and_models_are_answered(first):
    verdict = client.moderations.create(input=question("nice"))
    assert verdict.results[0].flagged is False and verdict.results[0].categories.hate is False
    names = [model.id for model in client.models.list()]
    assert MODEL in names and client.models.retrieve(MODEL).id == MODEL
    return names


@check
def errors_are_of_their_class_with_body_and_request_id(first):
    classes = {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        403: openai.PermissionDeniedError,
        404: openai.NotFoundError,
        409: openai.ConflictError,
        422: openai.UnprocessableEntityError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        503: openai.InternalServerError,
    }
    heard = []
    for status, kind in classes.items():
        for stream in (False, True):
            call = lambda: chat("error", model=f"fail-{status}", stream=stream)  # noqa: B023
            error = raises(kind, call)
            assert error.status_code == status and error.request_id, error
            assert "as asked" in error.body["message"], error.body
            heard.append((status, error.type, error.code))
    return heard


@check
def a_question_that_is_none_is_refused_by_name(first):
    call = lambda: client.chat.completions.create(model=MODEL, messages=None)
    error = raises(openai.BadRequestError, call)
    assert error.param == "messages", error
    return error.message


@check
def a_failure_is_retried_and_then_answered(first):
    attempts = Attempts()
    retrying = client.with_options(
        max_retries=2, http_client=openai.DefaultHttpxClient(event_hooks=attempts.hooks())
    )
    text = plain_text("flaky", model=f"{MODEL}+fail-429-once", with_client=retrying)
    assert attempts.sent == (2 if first else 1), attempts.sent
    assert text
    return text


@check
def x_should_retry_is_obeyed(first):
    sent = {}
    for model, kind in {
        "fail-429-final": openai.RateLimitError,
        "fail-500-final": openai.InternalServerError,
        "fail-400-retry": openai.BadRequestError,
        "fail-400": openai.BadRequestError,
        "fail-429": openai.RateLimitError,
    }.items():
        attempts = Attempts()
        http = openai.DefaultHttpxClient(event_hooks=attempts.hooks())
        retrying = client.with_options(max_retries=1, http_client=http)
        raises(kind, lambda: chat("retry", model=model, with_client=retrying))  # noqa: B023
        sent[model] = attempts.sent
    assert list(sent.values()) == [1, 1, 2, 1, 2], sent
    return sent


@check
def an_error_event_in_a_stream_is_raised(first):
    heard = []
    error = raises(
        openai.APIError,
        lambda: heard.extend(chat("late", model="error-event", stream=True)),
    )
    assert len(heard) == 3 and "as asked" in error.message, error
    return len(heard)


@check
def a_cut_stream_is_raised_and_never_looks_complete(first):
    heard = []
    stream = chat("cut", model="cut-midstream", stream=True)
    try:
        heard.extend(stream)
    except Exception as error:  # noqa: BLE001: which one depends on the HTTP library
        assert not isinstance(error, openai.APIStatusError), error
    else:
        raise AssertionError("a cut stream ended like a whole one")
    # How much of it arrives is up to the sockets on the way.
    assert len(heard) <= 3 and all(chunk.choices[0].finish_reason is None for chunk in heard)


@check
def a_stream_left_early_hurts_no_other_call(first):
    stream = chat("left early", stream=True)
    role = next(iter(stream)).choices[0].delta.role
    stream.close()
    return role, plain_text("left early")


@check
def raw_responses_have_their_headers(first):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=user("raw"))
    assert raw.headers["content-type"] == "application/json"
    assert raw.http_response.status_code == 200 and raw.retries_taken == 0
    streaming = client.chat.completions.with_streaming_response
    with streaming.create(model=MODEL, messages=user("raw"), stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = list(response.iter_lines())
    assert [line for line in lines if line][-1] == "data: [DONE]"
    return raw.parse().choices[0].message.content


@check
async def the_async_client_hears_the_same(first):
    async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as asyncly:
        create = asyncly.chat.completions.create
        answer = await create(model=MODEL, messages=user("async"))
        text = ""
        async for chunk in await create(model=MODEL, messages=user("async"), stream=True):
            text += chunk.choices[0].delta.content or ""
        assert text == answer.choices[0].message.content
        try:
            await create(model="fail-404", messages=user("async"))
        except openai.NotFoundError as error:
            assert error.request_id
        else:
            raise AssertionError("wanted NotFoundError")
    return text


@check
async def many_equal_calls_at_once_are_all_answered(first):
    async def stream(asyncly):
        text = ""
        create = asyncly.chat.completions.create
        async for chunk in await create(model=MODEL, messages=user("at once"), stream=True):
            text += chunk.choices[0].delta.content or ""
        return text

    async def plain(asyncly):
        answer = await asyncly.chat.completions.create(model=MODEL, messages=user("at once"))
        return answer.choices[0].message.content

    async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as asyncly:
        calls = [stream(asyncly) for _ in range(8)] + [plain(asyncly) for _ in range(8)]
        texts = await asyncio.gather(*calls)
    assert len(set(texts)) == 1 and texts[0], texts
    return texts[0]


main()
