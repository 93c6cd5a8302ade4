// Google's official SDK for Node against the gateway. `gateway.py` starts it and says in the environment where it is.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, FinishReason, FunctionCallingConfigMode, GoogleGenAI, Type } from "@google/genai";

const baseUrl = process.env.ORBYT_URL.replace(/\/v1$/, "");
const open = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
const client = open(process.env.ORBYT_KEY);
// One model of each upstream format.
const MODELS = [
  "openai/gpt-4o",
  "anthropic/claude-sonnet-4-20250514",
  "google/gemini-2.5-flash",
  "cohere/command-a-plus-05-2026",
  "ollama/llama3.2",
  "bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0",
];
// Those that see nothing have a neighbour that does.
const SEES = { "ollama/llama3.2": "ollama/gemma3" };
const WORDS = "one two three four five";
const TOOLS = [
  {
    functionDeclarations: [
      { name: "get_weather", parameters: { type: Type.OBJECT, properties: { city: { type: Type.STRING } }, required: ["city"] } },
      { name: "get_time", parametersJsonSchema: { type: "object", properties: { zone: { type: "string" } }, required: ["zone"] } },
    ],
  },
];

const collect = async (stream) => {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
};

for (const model of MODELS) {
  const provider = model.split("/")[0];

  test(`gemini, ${provider}: an answer, and the same as a stream`, async () => {
    const whole = await client.models.generateContent({ model, contents: WORDS });
    assert.equal(whole.text, WORDS);
    assert.equal(whole.candidates[0].finishReason, FinishReason.STOP);
    const pieces = await collect(await client.models.generateContentStream({ model, contents: WORDS }));
    assert.equal(pieces.map((piece) => piece.text ?? "").join(""), WORDS);
    assert.equal(pieces.at(-1).candidates[0].finishReason, FinishReason.STOP);
    assert.equal(pieces.at(-1).usageMetadata.candidatesTokenCount, whole.usageMetadata.candidatesTokenCount);
  });

  test(`gemini, ${provider}: tools in a streamed chat and their results`, async () => {
    const chat = client.chats.create({ model, config: { tools: TOOLS } });
    const pieces = await collect(await chat.sendMessageStream({ message: "Call get_weather and get_time." }));
    const calls = pieces.flatMap((piece) => piece.functionCalls ?? []);
    assert.deepEqual(calls.map((call) => call.name), ["get_weather", "get_time"]);
    assert.equal(typeof calls[0].args.city, "string");
    // Google wants the calls in the turn in front of their results; the others take the pieces as the chat keeps them.
    const parts = pieces.flatMap((piece) => piece.candidates[0].content.parts);
    const results = calls.map(({ id, name }) => ({ functionResponse: { id, name, response: { output: `${name} is done` } } }));
    const contents =
      provider === "google"
        ? [
            { role: "user", parts: [{ text: "Call get_weather and get_time." }] },
            { role: "model", parts },
            { role: "user", parts: results },
          ]
        : [...chat.getHistory(), { role: "user", parts: results }];
    const next = await client.models.generateContent({ model, contents, config: { tools: TOOLS } });
    assert.match(next.text, /get_weather is done/);
    assert.match(next.text, /get_time is done/);
  });

  test(`gemini, ${provider}: a forced tool and a structured answer`, async () => {
    const functionCallingConfig = { mode: FunctionCallingConfigMode.ANY, allowedFunctionNames: ["get_time"] };
    const forced = await client.models.generateContent({
      model,
      contents: "x",
      config: { tools: TOOLS, toolConfig: { functionCallingConfig } },
    });
    assert.deepEqual(forced.functionCalls.map((call) => call.name), ["get_time"]);
    const responseSchema = { type: Type.OBJECT, properties: { name: { type: Type.STRING } }, required: ["name"] };
    const config = { responseMimeType: "application/json", responseSchema, maxOutputTokens: 4000 };
    const structured = await client.models.generateContent({ model, contents: "A person.", config });
    assert.equal(typeof JSON.parse(structured.text).name, "string");
  });

  test(`gemini, ${provider}: a picture`, async () => {
    const data = Buffer.from("89504e470d0a1a0a0000000d49484452", "hex").toString("base64");
    const contents = ["What is this?", { inlineData: { mimeType: "image/png", data } }];
    const answer = await client.models.generateContent({ model: SEES[model] ?? model, contents });
    assert.match(answer.text, /image/);
  });

  test(`gemini, ${provider}: tokens and errors`, async () => {
    const counted = await client.models.countTokens({ model, contents: WORDS.repeat(20) });
    assert.ok(counted.totalTokens > 20);
    const wrong = client.models.generateContent({ model: `${provider}/sim-400`, contents: "x" });
    await assert.rejects(wrong, (error) => error instanceof ApiError && error.status === 400);
    const nobody = open("nobodys").models.generateContent({ model, contents: "x" });
    await assert.rejects(nobody, (error) => error instanceof ApiError && error.status === 401);
  });

  test(`gemini, ${provider}: a stream that breaks is an error`, async () => {
    let said = "";
    const broken = async () => {
      const stream = await client.models.generateContentStream({ model: `${provider}/sim-cut-after-tokens`, contents: WORDS });
      for await (const piece of stream) said += piece.text ?? "";
    };
    await assert.rejects(broken(), (error) => error instanceof ApiError && error.status === 503);
    assert.ok(said.length > 0 && WORDS.startsWith(said.trim()));
  });

  test(`gemini, ${provider}: leaving a stream early`, async () => {
    const stop = new AbortController();
    const config = { abortSignal: stop.signal };
    const stream = await client.models.generateContentStream({ model, contents: WORDS, config });
    await stream.next();
    stop.abort();
    assert.equal((await client.models.generateContent({ model, contents: "still here" })).text, "still here");
  });
}

test("gemini: the list of models, page by page", async () => {
  const names = [];
  for await (const model of await client.models.list({ config: { pageSize: 10 } })) names.push(model.name);
  assert.ok(names.length > 20 && names.includes("models/google/gemini-2.5-flash"), names.join());
  const model = await client.models.get({ model: "google/gemini-2.5-flash" });
  assert.equal(model.name, "models/google/gemini-2.5-flash");
  assert.ok(model.inputTokenLimit > 1000 && model.displayName);
});
