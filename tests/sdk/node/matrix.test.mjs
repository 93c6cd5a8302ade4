// Every official SDK for Node × every upstream format × the cases of `matrix.json`, which the tests for Python read too.
// `gateway.py` starts the gateway and says in the environment where it is.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as drivers from "./drivers.mjs";

const MATRIX = JSON.parse(readFileSync(new URL("../matrix.json", import.meta.url), "utf8"));

for (const [name, driver] of Object.entries(drivers)) {
  for (const upstream of MATRIX.upstreams) {
    for (const one of MATRIX.cases) {
      test(`${name} × ${upstream.provider} × ${one.name}`, () => play(name, driver, upstream, one));
    }
  }
}

async function play(name, driver, upstream, one) {
  const sdk = driver({ ...MATRIX, url: process.env.ORBYT_URL, key: one.key ?? process.env.ORBYT_KEY });
  const usual = one.media ? upstream.sees : upstream.model;
  const question = {
    model: one.model ? `${upstream.provider}/${one.model}` : usual,
    turns: sdk.user(one.say, one.media),
    useTools: "calls" in one,
    structured: one.structured,
    stream: one.stream,
  };
  if (one.left) return isLeft(sdk, `${name} of Node leaves ${upstream.provider}`, question);
  if (one.breaks) return breaks(sdk, one, question);
  const status = one.status ?? (upstream.cannot?.includes(one.media) && 400);
  if (status) {
    await assert.rejects(sdk.ask(question), (error) => error instanceof sdk.error && error.status === status);
    return;
  }
  let told = await sdk.ask(question);
  assert.deepEqual(told.calls.map((call) => call.name), one.calls ?? []);
  if (one.calls) {
    assert.equal(typeof told.calls[0].input.city, "string");
    const results = sdk.results(told.calls.map(({ id }, at) => ({ id, text: `result ${at}` })));
    told = await sdk.ask({ ...question, stream: false, turns: [...question.turns, ...told.turn, ...results] });
    assert.match(told.text, /result 0.*result 1/s);
  } else if (one.structured) {
    assert.deepEqual(Object.keys(JSON.parse(told.text)).sort(), [...MATRIX.schema.required].sort());
  } else if (one.media === "pdf") {
    assert.ok(told.text.includes(one.text), told.text);
  } else {
    assert.equal(told.text, one.text);
  }
}

/** The beginning, then the SDK's own error; only that where the break came as soon as the first words, so that nothing was sent yet. */
async function breaks(sdk, one, question) {
  let heard = "";
  await assert.rejects(async () => {
    for await (const text of sdk.texts(question)) heard += text;
  }, sdk.error);
  assert.ok(one.say.startsWith(heard.trim()), heard);
}

/** A stream that its reader leaves ends at the provider too. */
async function isLeft(sdk, marker, question) {
  const turns = sdk.user(`${marker} ${"and on ".repeat(200)}`);
  for await (const _ of sdk.texts({ ...question, turns })) break;
  for (const left = performance.now(); ; ) {
    const calls = await (await fetch(process.env.ORBYT_SIM_CALLS)).json();
    const gone = calls.filter((call) => JSON.stringify(call).includes(marker)).map((call) => call.client_gone);
    if (gone.length === 1 && gone[0]) return;
    assert.ok(performance.now() - left < 10_000, `the provider still streams long after the client left: ${gone}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
