"""What the official SDKs say of requests: one check for each wire format, in which a member that the SDK does not know is an error.

`CHECKS[dialect](body, target)` raises a `ValueError` that says what is wrong. Of lists that an SDK declares as `Iterable`, every item is looked at.
"""

import base64
import binascii
import inspect
import json
import re
import typing

import anthropic.types.message_create_params
import botocore.session
import botocore.validate
import cohere.v2.client
import google.genai.types as google
import ollama._types
import openai.types.chat.completion_create_params
import pydantic
import pydantic_core
import typing_extensions


def strict(schema):
    """A core schema of pydantic's without its leniencies: no unknown members, no lists that are only looked at when they are used."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if isinstance(schema, tuple):
        return tuple(strict(item) for item in schema)
    if not isinstance(schema, dict):
        return schema
    schema = {name: strict(value) for name, value in schema.items()}
    kind = schema.get("type")
    if kind in ("typed-dict", "model-fields"):
        schema["extra_behavior"] = "forbid"
        schema.pop("extras_schema", None)
    if kind in ("typed-dict", "model"):
        schema["config"] = {**schema.get("config", {}), "extra_fields_behavior": "forbid", "defer_build": False}
    if kind == "generator":
        schema["type"] = "list"
    if kind == "union":
        # `Literal[…] | Any`, `Mapping | Message`: what is known is what is meant.
        kinds = {choice_type(choice) for choice in schema["choices"]}
        loose = {"any"} if "literal" in kinds else {"dict"} if kinds & {"model", "definition-ref"} else set()
        schema["choices"] = [choice for choice in schema["choices"] if choice_type(choice) not in loose]
    return schema


def choice_type(choice):
    return (choice[0] if isinstance(choice, tuple) else choice).get("type")


class Typed:
    """A check by types that pydantic understands."""

    def __init__(self, annotation):
        adapter = pydantic.TypeAdapter(typing.Union[annotation, None], config=pydantic.ConfigDict(arbitrary_types_allowed=True))
        self.validator = pydantic_core.SchemaValidator(strict(adapter.core_schema))

    def __call__(self, body, _target):
        self.validator.validate_json(json.dumps(body), strict=True)


def cohere_types():
    """The parameters of the SDK's method, of which there is no type."""
    parameters = inspect.signature(cohere.v2.client.V2Client.chat).parameters.values()
    members = {}
    for parameter in parameters:
        if parameter.name not in ("self", "request_options"):
            required = parameter.default is inspect.Parameter.empty
            members[parameter.name] = parameter.annotation if required else typing_extensions.NotRequired[parameter.annotation]
    return typing_extensions.TypedDict("Chat", {**members, "stream": bool})


class GoogleRequest(typing_extensions.TypedDict, total=False):
    """The body that the SDK makes of its method's parameters."""

    contents: typing_extensions.Required[list[google.Content]]
    systemInstruction: google.Content
    tools: list[google.Tool]
    toolConfig: google.ToolConfig
    safetySettings: list[google.SafetySetting]
    generationConfig: google.GenerationConfig
    cachedContent: str
    labels: dict[str, str]


class Anthropic(Typed):
    """The SDK no longer names the sampling parameters, which the API goes on taking for the models that have them (the corpus shows it)."""

    SAMPLING = ("temperature", "top_p", "top_k")
    WITHOUT = ("anthropic/claude-opus-4-8",)

    def __call__(self, body, target):
        if target not in self.WITHOUT:
            body = {name: value for name, value in body.items() if name not in self.SAMPLING}
        super().__call__(body, target)


class Bedrock:
    """A check by the service model of boto3, for the whole answer and the stream."""

    def __init__(self):
        service = botocore.session.get_session().get_service_model("bedrock-runtime")
        self.shapes = [service.operation_model(name).input_shape for name in ("Converse", "ConverseStream")]

    def __call__(self, body, _target):
        for shape in self.shapes:
            request = self.read(shape, {"modelId": "a-model", **body}, "")
            report = botocore.validate.ParamValidator().validate(request, shape)
            if report.has_errors():
                raise ValueError(report.generate_report())

    def read(self, shape, value, path):
        """Base64 as bytes; words, patterns and sizes are looked at here, because botocore leaves them to the server."""
        if shape.type_name == "structure" and isinstance(value, dict) and not getattr(shape, "is_document_type", False):
            members = shape.members
            return {k: self.read(members[k], v, f"{path}.{k}") if k in members else v for k, v in value.items()}
        if shape.type_name == "list" and isinstance(value, list):
            return [self.read(shape.member, item, f"{path}[{at}]") for at, item in enumerate(value)]
        if shape.type_name == "blob":
            try:
                return base64.b64decode(value, validate=True)
            except binascii.Error as problem:
                raise ValueError(f"{path}: {problem}") from None
        if shape.type_name == "string" and isinstance(value, str):
            if shape.enum and value not in shape.enum:
                raise ValueError(f"{path}: {value!r} is none of {shape.enum}")
            pattern = shape.metadata.get("pattern")
            if pattern and not re.fullmatch(pattern, value):
                raise ValueError(f"{path}: {value!r} does not match {pattern}")
            if not shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", len(value)):
                raise ValueError(f"{path}: {len(value)} characters")
        return value


def summary(problem):
    """A line about what is wrong: of the branches of a union, the one that was understood furthest."""
    if not isinstance(problem, pydantic_core.ValidationError):
        return re.sub(r"\[\d+\]", "[]", str(problem))
    errors = problem.errors(include_url=False)
    worst = max(errors, key=lambda error: (error["type"] == "extra_forbidden", len(error["loc"])))
    place = ".".join("[]" if isinstance(step, int) else step for step in worst["loc"])
    return f"{place}: {worst['msg']} ({str(worst['input'])[:60]})"


CHECKS = {
    "openai_chat": Typed(openai.types.chat.completion_create_params.CompletionCreateParams),
    "anthropic_messages": Anthropic(anthropic.types.message_create_params.MessageCreateParams),
    "gemini": Typed(GoogleRequest),
    "cohere": Typed(cohere_types()),
    "ollama": Typed(ollama._types.ChatRequest),
    "bedrock_converse": Bedrock(),
}
