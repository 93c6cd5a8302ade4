// The official OpenAI SDK for Node against the gateway. `gateway.py` starts it and says in the environment where it is.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const baseURL = process.env.ORBYT_URL;
const client = new OpenAI({ baseURL, apiKey: process.env.ORBYT_KEY, maxRetries: 0 });
// One model of each upstream format.
const MODELS = ["openai/gpt-4o", "anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash"];
const WORDS = "one two three four five";
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const TOOLS = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
  {
    type: "function",
    function: {
      name: "get_time",
      parameters: { type: "object", properties: { zone: { type: "string" } }, required: ["zone"] },
    },
  },
];
const Person = z.object({ name: z.string(), age: z.number(), tags: z.array(z.string()) });

const user = (content) => [{ role: "user", content }];

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

for (const model of MODELS) {
  const provider = model.split("/")[0];

  test(`${provider}: an answer`, async () => {
    const answer = await client.chat.completions.create({ model, messages: user(WORDS) });
    assert.equal(answer.choices[0].message.content, WORDS);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.completion_tokens, 5);
  });

  test(`${provider}: a stream with usage`, async () => {
    const stream = await client.chat.completions.create({
      model,
      messages: user(WORDS),
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await collect(stream);
    assert.equal(textOf(chunks), WORDS);
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.equal(chunks.at(-1).usage.completion_tokens, 5);
    assert.equal(chunks.filter((chunk) => chunk.usage).length, 1);
  });

  test(`${provider}: a stream without usage`, async () => {
    const chunks = await collect(await client.chat.completions.create({ model, messages: user(WORDS), stream: true }));
    assert.equal(textOf(chunks), WORDS);
    assert.ok(chunks.every((chunk) => !chunk.usage));
  });

  test(`${provider}: tool calls and their results`, async () => {
    const messages = user("Call get_weather and get_time.");
    const first = await client.chat.completions.create({ model, messages, tools: TOOLS });
    const calls = first.choices[0].message.tool_calls;
    assert.equal(first.choices[0].finish_reason, "tool_calls");
    assert.deepEqual(calls.map((call) => call.function.name), ["get_weather", "get_time"]);
    const results = calls.map((call, place) => ({ role: "tool", tool_call_id: call.id, content: `result ${place}` }));
    const turns = [...messages, first.choices[0].message, ...results];
    const second = await client.chat.completions.create({ model, messages: turns, tools: TOOLS });
    assert.match(second.choices[0].message.content, /result 0.*result 1/s);
  });

  test(`${provider}: tool calls put together by the stream helper`, async () => {
    const messages = user("Call get_weather and get_time.");
    const message = await client.chat.completions.stream({ model, messages, tools: TOOLS }).finalMessage();
    assert.deepEqual(message.tool_calls.map((call) => call.function.name), ["get_weather", "get_time"]);
    assert.equal(typeof JSON.parse(message.tool_calls[0].function.arguments).city, "string");
  });

  test(`${provider}: an answer by a schema, parsed by the SDK`, async () => {
    const answer = await client.chat.completions.parse({
      model,
      messages: user("Who?"),
      response_format: zodResponseFormat(Person, "person"),
    });
    assert.ok(Person.safeParse(answer.choices[0].message.parsed).success);
  });

  test(`${provider}: a picture`, async () => {
    const parts = [
      { type: "text", text: "What is it?" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } },
    ];
    const answer = await client.chat.completions.create({ model, messages: user(parts) });
    assert.equal(answer.choices[0].message.content, "What is it?\nI see image/png, 70 bytes.");
  });

  test(`${provider}: a stream that is left ends at the provider too`, async () => {
    const marker = `node-leaves-${provider}`;
    const messages = user(`${marker} ${"and on ".repeat(200)}`);
    const stream = await client.chat.completions.create({ model: `${provider}/sim-slow`, messages, stream: true });
    for await (const _ of stream) break;
    const left = performance.now();
    for (;;) {
      const calls = await (await fetch(process.env.ORBYT_SIM_CALLS)).json();
      const ours = calls.filter((call) => JSON.stringify(call).includes(marker));
      assert.equal(ours.length, 1);
      if (ours[0].client_gone) break;
      assert.ok(performance.now() - left < 1000, "the provider still streams a second after the client left");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });

  test(`${provider}: another model answers, by \`extra\` in the body`, async () => {
    const others = MODELS.filter((other) => other !== model);
    const { data, response } = await client.chat.completions
      .create({ model: `${provider}/sim-500`, messages: user("Hello"), extra: { fallback_models: others, retry: 0 } })
      .withResponse();
    assert.equal(data.choices[0].message.content, "Hello");
    assert.equal(response.headers.get("x-orbyt-fallback"), "true");
    assert.equal(response.headers.get("x-orbyt-attempts"), "2");
    assert.equal(response.headers.get("x-provider"), others[0].split("/")[0]);
  });

  test(`${provider}: errors are the SDK's own`, async () => {
    const ask = (model, messages = user("Hello")) => client.chat.completions.create({ model, messages });
    await assert.rejects(ask(`${provider}/sim-404`), OpenAI.NotFoundError);
    await assert.rejects(ask(`${provider}/sim-400`), OpenAI.BadRequestError);
    await assert.rejects(ask(model, []), OpenAI.BadRequestError);
  });

  test(`${provider}: a stream cut after it began is an error`, async () => {
    const stream = await client.chat.completions.create({
      model: `${provider}/sim-cut-after-tokens`,
      messages: user("word ".repeat(50)),
      stream: true,
    });
    await assert.rejects(collect(stream), OpenAI.APIError);
  });
}

test("a wrong key", async () => {
  const stranger = new OpenAI({ baseURL, apiKey: "sk-or-v1-wrong", maxRetries: 0 });
  const asked = stranger.chat.completions.create({ model: MODELS[0], messages: user("Hello") });
  await assert.rejects(asked, OpenAI.AuthenticationError);
});

test("fifty at once", async () => {
  const ask = async (_, number) => {
    const text = `number ${number} of fifty`;
    const answer = await client.chat.completions.create({ model: MODELS[number % 3], messages: user(text) });
    return answer.choices[0].message.content === text;
  };
  const right = await Promise.all(Array.from({ length: 50 }, ask));
  assert.ok(right.every(Boolean));
});

test("the list of models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(MODELS.slice(0, 1).every((model) => ids.includes(model)));
});
