// OpenAI's text completions (legacy) through the official SDK for Node. `gateway.py` starts the gateway and says in the environment where.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.ORBYT_URL, apiKey: process.env.ORBYT_KEY, maxRetries: 0 });
// The first is passed on as it is, the others are asked as a chat of each upstream format.
const PASSED = "openai/gpt-3.5-turbo-instruct";
const MODELS = [PASSED, "openai/gpt-4o", "anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash"];
const WORDS = "one two three four five";

for (const model of MODELS) {
  const provider = model.split("/")[0];

  test(`${model}: a text completion`, async () => {
    const answer = await client.completions.create({ model, prompt: WORDS, max_tokens: 100 });
    assert.equal(answer.object, "text_completion");
    assert.deepEqual([answer.choices[0].text, answer.choices[0].finish_reason], [WORDS, "stop"]);
    assert.equal(answer.usage.completion_tokens, 5);
  });

  test(`${model}: a streamed text completion`, async () => {
    const chunks = [];
    const request = { model, prompt: WORDS, stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await client.completions.create(request)) chunks.push(chunk);
    const choices = chunks.flatMap((chunk) => chunk.choices);
    assert.equal(choices.map((choice) => choice.text).join(""), WORDS);
    assert.deepEqual(choices.map((choice) => choice.finish_reason).filter(Boolean), ["stop"]);
    assert.equal(chunks.at(-1).usage.completion_tokens, 5);
  });

  test(`${model}: a text completion that breaks is an error`, async () => {
    const stream = await client.completions.create({ model: `${provider}/sim-cut-after-tokens`, prompt: WORDS, stream: true });
    await assert.rejects(async () => {
      for await (const chunk of stream) assert.ok(chunk.choices.every((choice) => choice.finish_reason === null));
    }, OpenAI.APIError);
  });

  test(`${model}: tokens and several prompts`, async () => {
    for (const prompt of [[1, 2], ["a", "b"]]) {
      const asked = client.completions.create({ model, prompt, echo: true });
      if (model === PASSED) {
        assert.ok((await asked).choices[0].text);
      } else {
        await assert.rejects(asked, (error) => error instanceof OpenAI.BadRequestError && error.param === "prompt");
      }
    }
  });
}
