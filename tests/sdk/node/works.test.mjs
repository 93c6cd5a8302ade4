// What is no conversation, with the official OpenAI SDK for Node: embeddings, pictures, speech, transcripts, moderation.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.env.ORBYT_URL, apiKey: process.env.ORBYT_KEY, maxRetries: 0 });
const sound = () => toFile(Buffer.from([0x52, 0x49, 0x00, 0xff]), "a.wav");

for (const model of ["openai/text-embedding-3-small", "google/gemini-embedding-001"]) {
  test(`${model}: embeddings in both encodings`, async () => {
    const input = ["one two", "three"];
    // The SDK asks for base64 unless it is told otherwise, and takes it apart itself.
    const packed = await client.embeddings.create({ model, input });
    const plain = await client.embeddings.create({ model, input, encoding_format: "float" });
    assert.deepEqual(packed.data.map((item) => item.index), [0, 1]);
    assert.equal(packed.usage.prompt_tokens, 4);
    packed.data.forEach((item, at) => {
      assert.equal(item.embedding.length, 512);
      item.embedding.forEach((value, place) => assert.ok(Math.abs(value - plain.data[at].embedding[place]) < 1e-6));
    });
  });
}

test("pictures", async () => {
  const answer = await client.images.generate({ model: "openai/gpt-image-1", prompt: "a red circle" });
  assert.equal(Buffer.from(answer.data[0].b64_json, "base64").toString(), "a red circle");
  const image = await toFile(Buffer.from([1, 2, 3]), "p.png", { type: "image/png" });
  const edited = await client.images.edit({ model: "openai/gpt-image-1", prompt: "green", image });
  assert.equal(Buffer.from(edited.data[0].b64_json, "base64").toString(), "green of p.png (3 bytes)");
});

test("speech", async () => {
  const spoken = await client.audio.speech.create({ model: "openai/tts-1", voice: "alloy", input: "hello" });
  assert.equal(spoken.headers.get("content-type"), "audio/mpeg");
  assert.equal(Buffer.from(await spoken.arrayBuffer()).toString("latin1"), "\xff\xf3hello");
});

test("transcripts, whole and streamed", async () => {
  const heard = await client.audio.transcriptions.create({ model: "openai/whisper-1", file: await sound() });
  assert.equal(heard.text, "Text of a.wav (4 bytes)");
  const stream = await client.audio.transcriptions.create({ model: "openai/gpt-4o-transcribe", file: await sound(), stream: true });
  const kinds = [];
  for await (const event of stream) kinds.push(event.type);
  assert.deepEqual(kinds, ["transcript.text.delta", "transcript.text.done"]);
});

test("moderation", async () => {
  const answer = await client.moderations.create({ input: ["good", "bad"] });
  assert.deepEqual(answer.results.map((result) => result.flagged), [false, true]);
});

test("errors are the SDK's own", async () => {
  await assert.rejects(client.embeddings.create({ model: "openai/gpt-4o", input: "x" }), OpenAI.BadRequestError);
});
