// What the official SDKs for Node do beside the cases of the matrix. `gateway.py` starts the gateway and says in the environment where it is.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const baseURL = process.env.ORBYT_URL;
const client = new OpenAI({ baseURL, apiKey: process.env.ORBYT_KEY, maxRetries: 0 });
const claude = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, "/anthropic"), apiKey: process.env.ORBYT_KEY, maxRetries: 0 });
// One model of each upstream format.
const MATRIX = JSON.parse(readFileSync(new URL("../matrix.json", import.meta.url), "utf8"));
const MODELS = MATRIX.upstreams.map((upstream) => upstream.model);
const WORDS = "one two three four five";
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

  test(`${provider}: an answer by a schema, parsed by the SDK`, async () => {
    const answer = await client.chat.completions.parse({
      model,
      messages: user("Who?"),
      response_format: zodResponseFormat(Person, "person"),
    });
    assert.ok(Person.safeParse(answer.choices[0].message.parsed).success);
  });

  test(`${provider}: the events of a streamed response`, async () => {
    const events = await collect(await client.responses.create({ model, input: WORDS, stream: true }));
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    assert.equal(events.at(-1).type, "response.completed");
    assert.equal(events.at(-1).response.usage.output_tokens, 5);
  });

  test(`${provider}: a response by a schema, parsed by the SDK`, async () => {
    const answer = await client.responses.parse({ model, input: "Who?", text: { format: zodTextFormat(Person, "person") } });
    assert.ok(Person.safeParse(answer.output_parsed).success);
  });

  test(`${provider}: a message's stream has the usage of the whole`, async () => {
    const asked = { model, max_tokens: 500, messages: user(WORDS) };
    const [whole, streamed] = [await claude.messages.create(asked), await claude.messages.stream(asked).finalMessage()];
    assert.deepEqual([streamed.stop_reason, streamed.usage.output_tokens], [whole.stop_reason, whole.usage.output_tokens]);
    const counted = await claude.messages.countTokens({ model, messages: user(WORDS.repeat(20)) });
    assert.ok(counted.input_tokens > 20);
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
}

test("fifty at once", async () => {
  const ask = async (_, number) => {
    const text = `number ${number} of fifty`;
    const answer = await client.chat.completions.create({ model: MODELS[number % MODELS.length], messages: user(text) });
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
