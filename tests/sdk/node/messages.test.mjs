// Anthropic's official SDK for Node against the gateway. `gateway.py` starts it and says in the environment where it is.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const baseURL = process.env.ORBYT_URL.replace(/\/v1$/, "/anthropic");
const client = new Anthropic({ baseURL, apiKey: process.env.ORBYT_KEY, maxRetries: 0 });
// One model of each upstream format.
const MODELS = ["openai/gpt-4o", "anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash"];
const WORDS = "one two three four five";
const TOOLS = [
  { name: "get_weather", input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } },
  { name: "get_time", input_schema: { type: "object", properties: { zone: { type: "string" } }, required: ["zone"] } },
];

const user = (content) => [{ role: "user", content }];

for (const model of MODELS) {
  const provider = model.split("/")[0];
  const asked = { model, max_tokens: 500 };

  test(`messages, ${provider}: an answer, and the same as a stream`, async () => {
    const whole = await client.messages.create({ ...asked, messages: user(WORDS) });
    assert.equal(whole.content[0].text, WORDS);
    assert.equal(whole.stop_reason, "end_turn");
    const stream = client.messages.stream({ ...asked, messages: user(WORDS) });
    let said = "";
    stream.on("text", (text) => (said += text));
    const final = await stream.finalMessage();
    assert.equal(said, WORDS);
    assert.deepEqual(final.content[0].text, whole.content[0].text);
    assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  });

  test(`messages, ${provider}: tools in a stream and their results`, async () => {
    const messages = user("Call get_weather and get_time.");
    const answer = await client.messages.stream({ ...asked, messages, tools: TOOLS }).finalMessage();
    const calls = answer.content.filter((block) => block.type === "tool_use");
    assert.deepEqual(calls.map((call) => call.name), ["get_weather", "get_time"]);
    assert.equal(typeof calls[0].input.city, "string");
    const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: `${call.name} is done` }));
    const turns = [...messages, { role: "assistant", content: answer.content }, ...user(results)];
    const next = await client.messages.create({ ...asked, messages: turns, tools: TOOLS });
    assert.match(next.content[0].text, /get_weather is done/);
  });

  test(`messages, ${provider}: tokens and errors`, async () => {
    const counted = await client.messages.countTokens({ model, messages: user(WORDS.repeat(20)) });
    assert.ok(counted.input_tokens > 20);
    const wrong = client.messages.create({ model: `${provider}/sim-400`, max_tokens: 1, messages: user("x") });
    await assert.rejects(wrong, (error) => error instanceof Anthropic.BadRequestError && error.error.type === "error");
  });

  test(`messages, ${provider}: a stream that breaks is an error`, async () => {
    let said = "";
    const broken = client.messages.stream({ model: `${provider}/sim-cut-after-tokens`, max_tokens: 100, messages: user(WORDS) });
    broken.on("text", (text) => (said += text));
    await assert.rejects(broken.finalMessage());
    assert.ok(said.length > 0 && WORDS.startsWith(said.trim()));
  });
}
