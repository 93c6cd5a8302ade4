// One question, asked by each official SDK for Node in its own words: what `matrix.test.mjs` runs its cases with.
//
// `ask` gives what the SDK made of an answer: `{ text, calls: [{ id, name, input }], turn }`; `turn` goes back as the model's.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const user = (content) => [{ role: "user", content }];

export function chat({ url, key, picture, pdf, schema, tools }) {
  const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
  const functions = Object.entries(tools).map(([name, parameters]) => ({ type: "function", function: { name, parameters } }));
  const media = {
    picture: { type: "image_url", image_url: { url: `data:image/png;base64,${picture}` } },
    pdf: { type: "file", file: { filename: "a.pdf", file_data: `data:application/pdf;base64,${pdf}` } },
  };
  const form = { type: "json_schema", json_schema: { name: "person", strict: true, schema } };
  const request = ({ model, turns, useTools, structured }) => ({
    model,
    messages: turns,
    ...(useTools && { tools: functions }),
    ...(structured && { response_format: form }),
  });
  return {
    error: OpenAI.APIError,
    user: (text, medium) => user(medium ? [{ type: "text", text }, media[medium]] : text),
    async ask(question) {
      const asked = request(question);
      const message = question.stream
        ? await client.chat.completions.stream(asked).finalMessage()
        : (await client.chat.completions.create(asked)).choices[0].message;
      const calls = message.tool_calls ?? [];
      const read = (call) => ({ id: call.id, name: call.function.name, input: JSON.parse(call.function.arguments) });
      return { text: message.content, calls: calls.map(read), turn: [message] };
    },
    results: (results) => results.map(({ id, text }) => ({ role: "tool", tool_call_id: id, content: text })),
    async *texts(question) {
      for await (const chunk of await client.chat.completions.create({ ...request(question), stream: true })) {
        if (chunk.choices[0]?.delta.content) yield chunk.choices[0].delta.content;
      }
    },
  };
}

export function responses({ url, key, picture, pdf, schema, tools }) {
  const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
  const functions = Object.entries(tools).map(([name, parameters]) => ({ type: "function", name, parameters, strict: true }));
  const media = {
    picture: { type: "input_image", image_url: `data:image/png;base64,${picture}` },
    pdf: { type: "input_file", filename: "a.pdf", file_data: `data:application/pdf;base64,${pdf}` },
  };
  const request = ({ model, turns, useTools, structured }) => ({
    model,
    input: turns,
    store: false,
    ...(useTools && { tools: functions }),
    ...(structured && { text: { format: { type: "json_schema", name: "person", strict: true, schema } } }),
  });
  const texts = (item) => (item.type === "message" ? item.content.map((part) => part.text).join("") : "");
  return {
    error: OpenAI.APIError,
    user: (text, medium) => user(medium ? [{ type: "input_text", text }, media[medium]] : text),
    async ask(question) {
      const asked = request(question);
      const answer = question.stream
        ? await client.responses.stream(asked).finalResponse()
        : await client.responses.create(asked);
      const calls = answer.output.filter((item) => item.type === "function_call");
      const read = (call) => ({ id: call.call_id, name: call.name, input: JSON.parse(call.arguments) });
      return { text: answer.output.map(texts).join(""), calls: calls.map(read), turn: answer.output };
    },
    results: (results) => results.map(({ id, text }) => ({ type: "function_call_output", call_id: id, output: text })),
    async *texts(question) {
      for await (const event of await client.responses.create({ ...request(question), stream: true })) {
        if (event.type === "response.output_text.delta") yield event.delta;
      }
    },
  };
}

export function messages({ url, key, picture, pdf, schema, tools }) {
  const client = new Anthropic({ baseURL: url.replace(/\/v1$/, "/anthropic"), apiKey: key, maxRetries: 0 });
  const functions = Object.entries(tools).map(([name, input_schema]) => ({ name, input_schema }));
  const media = {
    picture: { type: "image", source: { type: "base64", media_type: "image/png", data: picture } },
    pdf: { type: "document", source: { type: "base64", media_type: "application/pdf", data: pdf } },
  };
  const request = ({ model, turns, useTools, structured }) => ({
    model,
    max_tokens: 500,
    messages: turns,
    ...(useTools && { tools: functions }),
    ...(structured && { output_config: { format: { type: "json_schema", schema } } }),
  });
  return {
    error: Anthropic.APIError,
    user: (text, medium) => user(medium ? [{ type: "text", text }, media[medium]] : text),
    async ask(question) {
      const asked = request(question);
      const message = question.stream ? await client.messages.stream(asked).finalMessage() : await client.messages.create(asked);
      const text = message.content.map((block) => block.text ?? "").join("");
      const calls = message.content.filter((block) => block.type === "tool_use");
      return { text, calls, turn: [{ role: "assistant", content: message.content }] };
    },
    results: (results) => user(results.map(({ id, text }) => ({ type: "tool_result", tool_use_id: id, content: text }))),
    async *texts(question) {
      for await (const event of await client.messages.create({ ...request(question), stream: true })) {
        if (event.type === "content_block_delta" && event.delta.text) yield event.delta.text;
      }
    },
  };
}
