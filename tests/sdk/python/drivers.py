"""One question, asked by each official SDK in its own words: what `test_matrix.py` runs its cases with."""

import dataclasses
import json

import anthropic
import openai


@dataclasses.dataclass
class Told:
    """What an SDK made of an answer."""

    text: str
    # (id, name, arguments)
    calls: list
    # What goes back as the model's turn.
    turn: list


class Chat:
    """OpenAI's chat completions."""

    ERROR = openai.APIError

    def __init__(self, url, key, matrix):
        self.client, self.matrix = openai.OpenAI(base_url=url, api_key=key, max_retries=0), matrix
        self.tools = [
            {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in matrix["tools"].items()
        ]

    def user(self, text, media):
        if not media:
            return [{"role": "user", "content": text}]
        data = self.matrix[media]
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        if media == "pdf":
            part = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}}
        return [{"role": "user", "content": [{"type": "text", "text": text}, part]}]

    def request(self, model, turns, tools, structured):
        request = {"model": model, "messages": turns}
        if tools:
            request["tools"] = self.tools
        if structured:
            schema = {"name": "person", "strict": True, "schema": self.matrix["schema"]}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return request

    def ask(self, stream, *question):
        request = self.request(*question)
        if stream:
            with self.client.chat.completions.stream(**request) as events:
                message = events.get_final_completion().choices[0].message
        else:
            message = self.client.chat.completions.create(**request).choices[0].message
        calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
        return Told(message.content, calls, [message.model_dump(exclude_none=True, exclude={"parsed"})])

    def results(self, results):
        return [{"role": "tool", "tool_call_id": call, "content": text} for call, text in results]

    def texts(self, *question):
        """The texts of a stream as they come."""
        with self.client.chat.completions.create(**self.request(*question), stream=True) as events:
            for chunk in events:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content


class Responses(Chat):
    """OpenAI's Responses."""

    def __init__(self, url, key, matrix):
        super().__init__(url, key, matrix)
        self.tools = [
            {"type": "function", "name": name, "parameters": schema, "strict": True} for name, schema in matrix["tools"].items()
        ]

    def user(self, text, media):
        if not media:
            return [{"role": "user", "content": text}]
        data = self.matrix[media]
        part = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
        if media == "pdf":
            part = {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}
        return [{"role": "user", "content": [{"type": "input_text", "text": text}, part]}]

    def request(self, model, turns, tools, structured):
        request = {"model": model, "input": turns, "store": False}
        if tools:
            request["tools"] = self.tools
        if structured:
            form = {"type": "json_schema", "name": "person", "strict": True, "schema": self.matrix["schema"]}
            request["text"] = {"format": form}
        return request

    def ask(self, stream, *question):
        request = self.request(*question)
        if stream:
            with self.client.responses.stream(**request) as events:
                answer = events.get_final_response()
        else:
            answer = self.client.responses.create(**request)
        calls = [item for item in answer.output if item.type == "function_call"]
        calls = [(call.call_id, call.name, json.loads(call.arguments)) for call in calls]
        return Told(answer.output_text, calls, [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output])

    def results(self, results):
        return [{"type": "function_call_output", "call_id": call, "output": text} for call, text in results]

    def texts(self, *question):
        with self.client.responses.create(**self.request(*question), stream=True) as events:
            for event in events:
                assert event.type != "response.completed" or event.response.output_text
                if event.type == "response.output_text.delta":
                    yield event.delta


class Messages:
    """Anthropic's messages."""

    ERROR = anthropic.APIError

    def __init__(self, url, key, matrix):
        self.client = anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key=key, max_retries=0)
        self.matrix = matrix
        self.tools = [{"name": name, "input_schema": schema} for name, schema in matrix["tools"].items()]

    def user(self, text, media):
        if not media:
            return [{"role": "user", "content": text}]
        kind, media_type = ("image", "image/png") if media == "picture" else ("document", "application/pdf")
        source = {"type": "base64", "media_type": media_type, "data": self.matrix[media]}
        return [{"role": "user", "content": [{"type": "text", "text": text}, {"type": kind, "source": source}]}]

    def request(self, model, turns, tools, structured):
        request = {"model": model, "max_tokens": 500, "messages": turns}
        if tools:
            request["tools"] = self.tools
        if structured:
            request["output_config"] = {"format": {"type": "json_schema", "schema": self.matrix["schema"]}}
        return request

    def ask(self, stream, *question):
        request = self.request(*question)
        if stream:
            with self.client.messages.stream(**request) as events:
                message = events.get_final_message()
        else:
            message = self.client.messages.create(**request)
        text = "".join(block.text for block in message.content if block.type == "text")
        calls = [(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"]
        return Told(text, calls, [{"role": "assistant", "content": message.content}])

    def results(self, results):
        blocks = [{"type": "tool_result", "tool_use_id": call, "content": text} for call, text in results]
        return [{"role": "user", "content": blocks}]

    def texts(self, *question):
        with self.client.messages.stream(**self.request(*question)) as events:
            yield from events.text_stream


DRIVERS = {"chat": Chat, "responses": Responses, "messages": Messages}
