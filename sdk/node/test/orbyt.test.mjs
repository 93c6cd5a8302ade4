// The client against the gateway: what is sent, who serves, what the ledger has of it. Run by `make test-sdks`.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import Orbyt from "../dist/index.js";

process.env.ORBYT_BASE_URL = process.env.ORBYT_URL;
process.env.ORBYT_API_KEY = process.env.ORBYT_KEY;
const request = { model: "anthropic/claude-haiku-4.5", messages: [{ role: "user", content: "Hello!" }] };

/** The requests of a trace, once there are so many: the ledger is written behind the answers. */
async function ledger(trace, many) {
  const env = { ...process.env, ORBYT_DATA_DIR: process.env.ORBYT_DATA };
  for (let turn = 0; turn < 300; turn++) {
    const text = execFileSync(process.env.ORBYT_BINARY, ["requests", "list", "--trace", trace, "--json"], { env, encoding: "utf8" });
    const lines = text.split("\n").filter(Boolean);
    if (lines.length >= many) return lines.map((line) => JSON.parse(line));
    await pause(100);
  }
  assert.fail(`not ${many} requests of ${trace} in the ledger`);
}

test("the environment is enough", async () => {
  const answer = await new Orbyt().chat.completions.create(request);
  assert.equal(answer.choices[0].message.content, "Hello!");
});

test("extra is the gateway's", async () => {
  const client = new Orbyt();
  const { response } = await client.chat.completions.create({ ...request, extra: { provider: "openai", retry: 0 } }).withResponse();
  assert.equal(response.headers.get("x-provider"), "openai");
  await assert.rejects(client.chat.completions.create({ ...request, extra: { fallback_model: [] } }), /fallback_model/);
});

test("a trace is in the ledger, and stays with derived clients and headers of one's own", async () => {
  const trace = `node-${process.pid}`;
  const client = new Orbyt({ traceId: trace, defaultHeaders: { "x-title": "test" } });
  await client.chat.completions.create(request);
  await client.withOptions({ timeout: 30_000 }).chat.completions.create(request);
  assert.equal((await ledger(trace, 2)).length, 2);
});

test("a key of OpenAI's is never sent to the gateway", () => {
  const { ORBYT_API_KEY } = process.env;
  delete process.env.ORBYT_API_KEY;
  process.env.OPENAI_API_KEY = "sk-not-for-the-gateway";
  try {
    assert.throws(() => new Orbyt(), /ORBYT_API_KEY/);
  } finally {
    process.env.ORBYT_API_KEY = ORBYT_API_KEY;
    delete process.env.OPENAI_API_KEY;
  }
});

test("a variable that is set to nothing is none, and nobody else gets the key", () => {
  const { ORBYT_BASE_URL, ORBYT_API_KEY } = process.env;
  process.env.ORBYT_BASE_URL = "";
  try {
    assert.equal(new Orbyt().baseURL, "http://127.0.0.1:3001/v1");
    assert.equal(new Orbyt({ baseURL: "" }).baseURL, "http://127.0.0.1:3001/v1");
    process.env.ORBYT_API_KEY = "";
    assert.throws(() => new Orbyt({ apiKey: "" }), /ORBYT_API_KEY/);
  } finally {
    Object.assign(process.env, { ORBYT_BASE_URL, ORBYT_API_KEY });
  }
});

test("the types have what the documents have", () => {
  const page = readFileSync(new URL("../../../docs/extra.md", import.meta.url), "utf8").split("\n## ")[0];
  const rows = page.split("\n").filter((line) => line.startsWith("| `")).map((line) => line.split("|"));
  const documented = rows.filter((row) => !row[3].includes("refused")).map((row) => row[1].trim().replaceAll("`", ""));
  const types = readFileSync(new URL("../src/index.ts", import.meta.url), "utf8").split("export interface Extra {")[1].split("\n}")[0];
  const typed = [...types.matchAll(/^  (\w+)\?:/gm)].map((match) => match[1]);
  assert.deepEqual([...new Set(documented)].sort(), typed.sort());
});
