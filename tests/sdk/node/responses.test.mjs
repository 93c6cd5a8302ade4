// OpenAI's Responses through the official SDK for Node. `gateway.py` starts the gateway and says in the environment where it is.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.env.ORBYT_URL, apiKey: process.env.ORBYT_KEY, maxRetries: 0 });
// One model of each upstream format.
const MODELS = ["openai/gpt-4o", "anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash"];
const WORDS = "one two three four five";
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const TOOLS = ["get_weather", "get_time"].map((name) => ({ type: "function", name, parameters, strict: true }));
const Person = z.object({ name: z.string(), age: z.number(), tags: z.array(z.string()) });

for (const model of MODELS) {
  const provider = model.split("/")[0];

  test(`${provider}: a response`, async () => {
    const answer = await client.responses.create({ model, input: WORDS });
    assert.equal(answer.output_text, WORDS);
    assert.equal(answer.status, "completed");
    assert.equal(answer.usage.output_tokens, 5);
  });

  test(`${provider}: a streamed response`, async () => {
    const events = [];
    for await (const event of await client.responses.create({ model, input: WORDS, stream: true })) events.push(event);
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    assert.equal(deltas.map((event) => event.delta).join(""), WORDS);
    assert.equal(events.at(-1).type, "response.completed");
  });

  test(`${provider}: a response by the stream helper`, async () => {
    const final = await client.responses.stream({ model, input: WORDS }).finalResponse();
    assert.equal(final.output.at(-1).content[0].text, WORDS);
  });

  test(`${provider}: tool calls of a response and their results`, async () => {
    const input = [{ role: "user", content: "Call get_weather and get_time." }];
    const first = await client.responses.stream({ model, input, tools: TOOLS, store: false }).finalResponse();
    const calls = first.output.filter((item) => item.type === "function_call");
    assert.deepEqual(calls.map((call) => call.name), ["get_weather", "get_time"]);
    const results = calls.map((call, place) => ({
      type: "function_call_output",
      call_id: call.call_id,
      output: `result ${place}`,
    }));
    const second = await client.responses.create({
      model,
      input: [...input, ...first.output, ...results],
      tools: TOOLS,
      store: false,
    });
    assert.match(second.output_text, /result 0.*result 1/s);
  });

  test(`${provider}: a response by a schema, parsed by the SDK`, async () => {
    const text = { format: zodTextFormat(Person, "person") };
    const answer = await client.responses.parse({ model, input: "Who?", text });
    assert.ok(Person.safeParse(answer.output_parsed).success);
  });

  test(`${provider}: a streamed response that breaks is an error`, async () => {
    const request = { model: `${provider}/sim-cut-after-tokens`, input: WORDS, stream: true };
    await assert.rejects(async () => {
      for await (const event of await client.responses.create(request)) assert.notEqual(event.type, "response.completed");
    }, OpenAI.APIError);
  });
}
