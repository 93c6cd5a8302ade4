"""Google's official SDK against each upstream format: the base URL and the key are all that is changed."""


import pydantic
import pytest
from google import genai
from google.genai import errors, types

from conftest import MODELS, UPSTREAMS, calls_of

WORDS = "one two three four five"
# The beginning of a picture, which is all that a simulated provider looks at.
PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
TOOLS = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="The weather at a place.",
            parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")}, required=["city"]),
        ),
        types.FunctionDeclaration(
            name="get_time",
            parameters_json_schema={"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
        ),
    ]
)


class Person(pydantic.BaseModel):
    """What the structured answers are."""

    name: str
    age: int
    tags: list[str]


def sdk(gateway, key=None):
    """The stock SDK, which retries nothing here, so that a test sees every failure."""
    options = types.HttpOptions(base_url=gateway.url.removesuffix("/v1"), retry_options=types.HttpRetryOptions(attempts=1))
    return genai.Client(api_key=key or gateway.key, http_options=options)


@pytest.fixture(scope="session")
def google(gateway):
    return sdk(gateway)


@pytest.fixture(params=MODELS, ids=[model.split("/")[0] for model in MODELS])
def target(request):
    """A model of each upstream format."""
    return request.param


def test_an_answer(google, target):
    answer = google.models.generate_content(model=target, contents=WORDS)
    candidate = answer.candidates[0]
    assert (answer.text, candidate.finish_reason, candidate.content.role) == (WORDS, types.FinishReason.STOP, "model")
    assert answer.usage_metadata.prompt_token_count > 0 and answer.usage_metadata.candidates_token_count == 5
    assert answer.response_id and answer.model_version


def test_a_stream_is_the_same_answer(google, target):
    pieces = list(google.models.generate_content_stream(model=target, contents=WORDS))
    assert "".join(piece.text for piece in pieces if piece.text) == WORDS and len(pieces) > 2
    assert pieces[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert pieces[-1].usage_metadata.candidates_token_count == 5


def test_instructions_and_limits(google, gateway, target):
    marker = f"instructions for {target} of google"
    config = types.GenerateContentConfig(
        system_instruction=marker, max_output_tokens=2, temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["never"]
    )
    answer = google.models.generate_content(model=target, contents=WORDS, config=config)
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert calls_of(gateway, marker)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools_and_their_results(google, target, streamed):
    config = types.GenerateContentConfig(tools=[TOOLS], automatic_function_calling={"disable": True})
    contents = [types.Content(role="user", parts=[types.Part(text="Call get_weather and get_time.")])]
    if streamed:
        pieces = list(google.models.generate_content_stream(model=target, contents=contents, config=config))
        parts = [part for piece in pieces for part in piece.candidates[0].content.parts or []]
    else:
        parts = google.models.generate_content(model=target, contents=contents, config=config).candidates[0].content.parts
    calls = [part.function_call for part in parts if part.function_call]
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    assert isinstance(calls[0].args["city"], str)
    results = [types.Part.from_function_response(name=call.name, response={"result": f"{call.name} is done"}) for call in calls]
    contents += [types.Content(role="model", parts=parts), types.Content(role="user", parts=results)]
    told = google.models.generate_content(model=target, contents=contents, config=config).text
    assert "get_weather is done" in told and "get_time is done" in told


def test_functions_that_the_sdk_calls_itself(google, target):
    seen = []

    def get_weather(city: str) -> str:
        """The weather at a place."""
        seen.append(city)
        return f"sunny in {city}"

    config = types.GenerateContentConfig(tools=[get_weather])
    answer = google.models.generate_content(model=target, contents="Call get_weather.", config=config)
    assert len(seen) == 1 and "sunny in" in answer.text


def test_a_forced_tool(google, target):
    calling = types.FunctionCallingConfig(mode="ANY", allowed_function_names=["get_time"])
    config = types.GenerateContentConfig(
        tools=[TOOLS], tool_config=types.ToolConfig(function_calling_config=calling), automatic_function_calling={"disable": True}
    )
    answer = google.models.generate_content(model=target, contents="x", config=config)
    assert [call.name for call in answer.function_calls] == ["get_time"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("schema", [Person, Person.model_json_schema()], ids=["type", "schema"])
def test_structured_answers(google, target, streamed, schema):
    named = {"response_schema": schema} if schema is Person else {"response_json_schema": schema}
    config = types.GenerateContentConfig(response_mime_type="application/json", max_output_tokens=4000, **named)
    if streamed:
        pieces = google.models.generate_content_stream(model=target, contents="A person.", config=config)
        person = Person.model_validate_json("".join(piece.text for piece in pieces if piece.text))
    else:
        answer = google.models.generate_content(model=target, contents="A person.", config=config)
        person = answer.parsed if schema is Person else Person.model_validate_json(answer.text)
    assert isinstance(person, Person)


@pytest.mark.parametrize("upstream", UPSTREAMS, ids=[upstream["model"].split("/")[0] for upstream in UPSTREAMS])
def test_pictures_and_documents(google, upstream):
    parts = ["What is this?", types.Part.from_bytes(data=PIXEL, mime_type="image/png")]
    reads = "pdf" not in upstream.get("cannot", [])
    if reads:
        parts.append(types.Part.from_bytes(data=b"%PDF-1.4 tiny", mime_type="application/pdf"))
    seen = google.models.generate_content(model=upstream["sees"], contents=parts).text
    assert "image" in seen and (not reads or "pdf" in seen.lower())


@pytest.mark.parametrize("thinker", ["anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash", "openai/o4-mini"])
@pytest.mark.parametrize("shown", [True, False], ids=["shown", "hidden"])
def test_thoughts_go_through_a_chat(google, thinker, shown):
    thinking = types.ThinkingConfig(include_thoughts=shown, thinking_budget=1024)
    config = types.GenerateContentConfig(thinking_config=thinking, max_output_tokens=4000)
    chat = google.chats.create(model=thinker, config=config)
    pieces = list(chat.send_message_stream(WORDS))
    parts = [part for piece in pieces for part in piece.candidates[0].content.parts or []]
    thoughts = "".join(part.text for part in parts if part.thought and part.text)
    assert thoughts.startswith("The user says") if shown else not thoughts
    assert "".join(part.text for part in parts if part.text and not part.thought) == WORDS
    assert chat.send_message("And again.").text == "And again."


def test_counting_tokens(google, target):
    assert google.models.count_tokens(model=target, contents=WORDS * 20).total_tokens > 20


def test_errors_are_the_sdks_own(gateway, google, target):
    provider, nobody = target.split("/")[0], sdk(gateway, "nobodys")
    with pytest.raises(errors.ClientError) as refused:
        nobody.models.generate_content(model=target, contents="x")
    assert (refused.value.code, refused.value.status) == (401, "UNAUTHENTICATED")
    with pytest.raises(errors.ClientError) as refused:
        google.models.generate_content(model=f"{provider}/sim-400", contents="x")
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    with pytest.raises(errors.ServerError) as failed:
        list(google.models.generate_content_stream(model=f"{provider}/sim-500", contents="x"))
    assert (failed.value.code, failed.value.status) == (503, "UNAVAILABLE")


def test_what_only_google_can_do(google, target):
    config = types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch())])
    if target.startswith("google/"):
        assert google.models.generate_content(model=target, contents=WORDS, config=config).text == WORDS
        return
    with pytest.raises(errors.ClientError) as refused:
        google.models.generate_content(model=target, contents=WORDS, config=config)
    assert refused.value.code == 400 and "googleSearch" in refused.value.message


def test_a_stream_that_breaks_is_an_error(fresh, target):
    google, provider, heard = sdk(fresh), target.split("/")[0], ""
    with pytest.raises(errors.APIError) as broken:
        for piece in google.models.generate_content_stream(model=f"{provider}/sim-cut-after-tokens", contents=WORDS):
            heard += piece.text or ""
    assert heard and WORDS.startswith(heard.strip())
    assert broken.value.status == "UNAVAILABLE"


def test_leaving_a_stream_early(google, target):
    stream = google.models.generate_content_stream(model=target, contents=WORDS)
    next(iter(stream))
    stream.close()
    # The gateway is none the worse for it.
    assert google.models.generate_content(model=target, contents="still here").text == "still here"


def test_the_list_of_models(google):
    models = {model.name: model for model in google.models.list(config={"page_size": 10})}
    assert len(models) > 20
    model = models["models/google/gemini-2.5-flash"]
    assert "generateContent" in model.supported_actions and model.input_token_limit > 1000
    assert google.models.get(model="google/gemini-2.5-flash") == model
    with pytest.raises(errors.APIError) as unknown:
        google.models.get(model="nobody/x")
    assert unknown.value.code == 404
