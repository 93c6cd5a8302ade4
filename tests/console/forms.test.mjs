// What is set on the console's pages: presets, models and routing settings with what is wrong beside the field that is; answers as they come, with
// a button that stops them; first requests that can be pasted and work; and what an owner of an organisation sees of the gateway.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ADMIN_TOKEN, CONSOLE, ask, barriers, browser, logIn, until, visitor } from "./console.mjs";

const KEY = process.env.ORBYT_KEY;
const PHONE = { colorScheme: "dark", viewport: { width: 390, height: 844 } };
// Where the official clients are.
const CLIENTS = fileURLToPath(new URL("../sdk/node/", import.meta.url));
const PYTHON = process.env.ORBYT_PYTHON;

let running;

before(async () => { running = await browser(); });
after(async () => { await running?.close(); });

async function admin(options) {
  const visit = await visitor(running, options);
  await logIn(visit.page);
  return visit;
}

async function api(method, path, body) {
  const answer = await fetch(CONSOLE + path, {
    method,
    headers: { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

// A page as it is now has no barrier and is no wider than its window; a picture of it is kept where that is asked for.
async function sound(page, name) {
  assert.deepEqual(await barriers(page), [], name);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(overflow <= 0, `${name} is ${overflow} pixels too wide`);
  if (process.env.ORBYT_PICTURES) await page.screenshot({ path: `${process.env.ORBYT_PICTURES}/${name}.png`, fullPage: true });
}

const save = (page) => page.click("button:has-text('Save')");

test("a preset is made with a mistake that is told beside its field, used, changed and removed", async () => {
  const { page, troubles, context } = await admin();
  await page.goto(`${CONSOLE}/presets`);
  await page.click("a:has-text('New preset')");
  await page.fill("#edit-slug", "terse");
  await page.fill("#edit-model", "nobody/nothing");
  await page.fill("#edit-system", "Be brief.\n Very.");
  await page.fill("#edit-parameters", "{ temperature");
  await save(page);
  await page.locator("#edit-parameters[aria-invalid=true]").waitFor();
  assert.match(await page.textContent("#edit-parameters-wrong"), /JSON object/);
  assert.equal(await page.inputValue("#edit-system"), "Be brief.\n Very.", "what was typed stays");
  await page.fill("#edit-parameters", '{"temperature": 0.5}');
  await save(page);
  await page.locator("#edit-model[aria-invalid=true]").waitFor();
  assert.match(await page.textContent("#edit-model-wrong"), /nobody/);
  await sound(page, "preset-refused");
  await page.fill("#edit-model", "openai/sim-ok");
  await save(page);
  await page.waitForURL(`${CONSOLE}/presets?saved=terse`);
  assert.match(await page.locator(".banner.good").innerText(), /saved, and in force/);
  await sound(page, "presets");
  assert.equal((await ask(KEY, { model: "@preset/terse" })).status, 200);

  // Two look at it; who saves last is told that it has changed.
  await page.click("tr:has-text('terse') a:has-text('Edit')");
  const other = await context.newPage();
  await other.goto(page.url());
  await other.fill("#edit-system", "Briefer.");
  await save(other);
  await other.waitForURL(/saved=terse/);
  await page.fill("#edit-system", "Late.");
  await save(page);
  await page.locator(".banner.bad", { hasText: "has changed" }).waitFor();
  await page.click("a:has-text('Show it as it is now')");
  assert.equal(await page.inputValue("#edit-system"), "Briefer.");
  await page.click("summary:has-text('Remove')");
  await page.click("button:has-text('Remove for good')");
  await page.waitForURL(`${CONSOLE}/presets?removed=terse`);
  assert.notEqual((await ask(KEY, { model: "@preset/terse" })).status, 200);
  const { data } = await api("GET", "/api/v1/audit?limit=20");
  assert.deepEqual(["preset.set", "preset.remove"].map((action) => data.some((entry) => entry.action === action)), [true, true]);
  // What the browser itself says of answers with an error's status.
  assert.deepEqual(troubles.filter((trouble) => !/status of 4(12|22)/.test(trouble)), []);
  await context.close();
});

test("a name for models and a setting of the routing are set without a script, on a phone too", async () => {
  const { page, troubles, context } = await admin({ ...PHONE, javaScriptEnabled: false });
  await page.goto(`${CONSOLE}/models/edit`);
  await page.fill("#edit-name", "house");
  await page.fill("#edit-targets", "openai/sim-ok\nanthropic/sim-ok");
  await save(page);
  await page.waitForURL(`${CONSOLE}/models?saved=house`);
  assert.equal((await ask(KEY, { model: "house" })).status, 200);
  await page.goto(`${CONSOLE}/models/edit?name=house`);
  await page.click("summary:has-text('Remove')");
  await page.click("button:has-text('Remove for good')");
  await page.waitForURL(`${CONSOLE}/models?removed=house`);

  await page.goto(`${CONSOLE}/routing/edit?name=retry`);
  await page.fill("#edit-max", "many");
  await save(page);
  assert.match(await page.textContent("#edit-max-wrong"), /0 to 10/);
  await page.fill("#edit-max", "3");
  await save(page);
  await page.waitForURL(`${CONSOLE}/routing?saved=retry`);
  assert.match(await page.locator("tr:has-text('max')").first().innerText(), /3\s+3/);
  await api("DELETE", "/api/v1/routing/retry");
  assert.deepEqual(troubles.filter((trouble) => !/status of 422/.test(trouble)), []);
  await context.close();
});

test("the new pages have no barrier, light and dark, wide and on a phone", async () => {
  await api("PUT", "/api/v1/models/both", { targets: ["openai/sim-ok", "anthropic/sim-ok"], fallbacks: ["google/sim-ok"], strategy: "cheap" });
  for (const [name, options] of [["light", { colorScheme: "light" }], ["dark", PHONE]]) {
    const { page, troubles, context } = await admin(options);
    for (const path of ["/presets", "/presets/edit", "/models", "/models/edit?name=both", "/routing", "/routing/edit?name=routing", "/routing/edit?name=hedging", "/settings", "/pool", "/playground", "/budgets?org=org_default", "/keys", "/provider-keys"]) {
      assert.equal((await page.goto(CONSOLE + path)).status(), 200, path);
      if (["/budgets?org=org_default", "/keys", "/provider-keys"].includes(path)) await page.locator("summary.pad").first().click();
      await sound(page, `${name}${path.replaceAll(/[^a-z]/g, "-")}`);
    }
    assert.deepEqual(troubles, []);
    await context.close();
  }
  await api("DELETE", "/api/v1/models/both");
});

test("the playground shows an answer as it comes, and what it took", async () => {
  const { page, troubles, context } = await admin();
  await page.goto(`${CONSOLE}/playground`);
  await page.fill("#m", "openai/sim-slow");
  // Long enough that a browser which is slow to draw sees it under way.
  await page.fill("#p", `${"word ".repeat(60)}<b>seven</b>`);
  await page.click("button:has-text('Ask')");
  await page.locator("#answer-state", { hasText: "streaming" }).waitFor({ timeout: 30_000 });
  await page.waitForFunction(() => document.getElementById("answer-text").textContent.length > 0);
  assert.ok(await page.locator("#answer-stop").isVisible());
  await page.locator("#answer-state.good", { hasText: "success" }).waitFor({ timeout: 30_000 });
  assert.match(await page.textContent("#answer-text"), /<b>seven<\/b>/);
  assert.match(await page.textContent("#answer-facts"), /openai\/sim-slow · \d+ tokens in, \d+ out · .* · first output after/);
  await sound(page, "playground-answered");
  await page.click("#answer-link");
  await page.waitForURL(/\/requests\/req_/);
  assert.deepEqual(troubles, []);
  await context.close();
});

test("an answer is stopped, and the gateway hears of it", async () => {
  const { page, troubles, context } = await admin(PHONE);
  await page.goto(`${CONSOLE}/playground`);
  await page.fill("#m", "openai/sim-slow");
  await page.fill("#p", "word ".repeat(400));
  await page.click("button:has-text('Ask')");
  await page.waitForFunction(() => document.getElementById("answer-text").textContent.length > 0, null, { timeout: 30_000 });
  const hasOwnKey = async () => (await api("GET", "/api/v1/keys?limit=1000")).data.some((key) => key.metadata?.purpose === "console" && key.status === "active");
  assert.ok(await hasOwnKey());
  await page.click("#answer-stop");
  await page.locator("#answer-state", { hasText: "stopped" }).waitFor();
  await sound(page, "playground-stopped");
  const id = (await page.getAttribute("#answer-link", "href")).split("/").pop();
  await until("the ledger has it", async () => (await page.goto(`${CONSOLE}/requests/${id}`)).status() === 200 && (await page.content()).includes("client gone"));
  await until("its key is revoked", async () => !(await hasOwnKey()));
  assert.deepEqual(troubles.filter((trouble) => !trouble.includes("404")), []);
  await context.close();
});

test("a refused request says why, and the playground works without a script", async () => {
  const { page, troubles, context } = await admin();
  await page.goto(`${CONSOLE}/playground`);
  await page.fill("#m", "openai/sim-400");
  await page.fill("#p", "x");
  await page.click("button:has-text('Ask')");
  await page.locator("#answer-state.bad").waitFor({ timeout: 30_000 });
  assert.ok((await page.textContent("#answer-text")).length > 0);
  assert.deepEqual(troubles, []);
  await context.close();

  const plain = await admin({ javaScriptEnabled: false });
  await plain.page.goto(`${CONSOLE}/playground`);
  await plain.page.fill("#m", "openai/sim-ok");
  await plain.page.fill("#p", "without a script");
  await plain.page.click("button:has-text('Ask')");
  assert.match(await plain.page.locator("#answered pre").innerText(), /without a script/);
  const { id } = await ask(KEY, { model: "openai/sim-500", extra: { retry: 0 } });
  await until("the ledger has it", async () => (await plain.page.goto(`${CONSOLE}/requests/${id}`)).status() === 200);
  await plain.page.fill("#replay-model", "anthropic/sim-ok");
  await plain.page.click("button:has-text('Replay')");
  await plain.page.waitForURL((url) => url.pathname.startsWith("/requests/req_") && !url.pathname.endsWith(id));
  await plain.context.close();
});

test("the first requests of an empty page work as they are pasted", async () => {
  const made = await api("POST", "/api/v1/orgs", { name: `empty ${Date.now()}` });
  const org = (made.data ?? made).id;
  const { page, troubles, context } = await admin();
  await page.goto(`${CONSOLE}/overview?org=${org}`);
  await sound(page, "first-requests");
  const snippet = async (name) => page.textContent(`#first-${name}`);
  await page.click("summary:has-text('Python')");
  assert.ok(await page.locator("#first-python").isVisible());
  const environment = { ...process.env, ORBYT_API_KEY: KEY };
  const run = async (program, argumentsOf, cwd) => (await promisify(execFile)(program, argumentsOf, { env: environment, cwd })).stdout;
  assert.match(await run("sh", ["-c", await snippet("curl")]), /"chat\.completion"/);
  assert.match(await run("node", ["--input-type=module", "-e", await snippet("node")], CLIENTS), /Hello/);
  assert.match(await run(PYTHON, ["-c", await snippet("python")]), /Hello/);
  // With a key that was just made, nothing is left to be filled in.
  await page.goto(`${CONSOLE}/keys?org=${org}`);
  await page.click("summary:has-text('New key')");
  await page.fill("#k-name", "first");
  await page.click("button:has-text('Create key')");
  await page.click("summary:has-text('A first request with it')");
  await sound(page, "new-key");
  assert.match(await run("node", ["--input-type=module", "-e", await page.textContent("#new-node")], CLIENTS), /Hello/);
  assert.deepEqual(troubles, []);
  await context.close();
});

test("a session tells which tools were called and names what was called over and over", async () => {
  const tools = [{ type: "function", function: { name: "look_up", parameters: { type: "object", properties: { q: { type: "string" } } } } }];
  const session = `agent ${Date.now()}`;
  for (let step = 0; step < 3; step += 1) {
    const answer = await ask(KEY, { model: "openai/sim-ok", stream: step % 2 === 1, tools, extra: { session_id: session } });
    assert.match(answer.text, /look_up/);
  }
  const { page, troubles, context } = await admin();
  await until("the ledger has them", async () => {
    await page.goto(`${CONSOLE}/sessions/${encodeURIComponent(session)}`);
    return (await page.locator("tbody tr").count()) === 3;
  });
  assert.match(await page.locator(".banner", { hasText: "loop" }).innerText(), /look_up .* in 3 steps: 1, 2, 3/);
  assert.equal(await page.locator("tbody .tag", { hasText: "look_up" }).count(), 3);
  await sound(page, "session");
  assert.deepEqual(troubles.filter((trouble) => !trouble.includes("404")), []);
  await context.close();
});

test("an owner of an organisation sees how the gateway fares, and no key of it", async () => {
  const made = await api("POST", "/api/v1/orgs", { name: `owned ${Date.now()}` });
  const org = (made.data ?? made).id;
  const email = `owner${Date.now()}@example.com`;
  const { password } = await api("POST", `/api/v1/orgs/${org}/members`, { email, role: "owner" });
  await ask(KEY, { model: "openai/sim-ok" });
  const { page, troubles, context } = await visitor(running);
  await page.goto(`${CONSOLE}/login`);
  await page.fill("#email", email);
  await page.fill("#password", password);
  await page.click("form:has(#email) button[type=submit]");
  await page.waitForURL(`${CONSOLE}/overview`);
  for (const path of ["/overview", "/pool", "/settings", "/routing", "/models", "/presets"]) {
    assert.equal((await page.goto(CONSOLE + path)).status(), 200, path);
    const content = await page.content();
    assert.ok(!content.includes("openai_01") && !content.includes("data_dir") && !content.includes("Master key"), path);
    await sound(page, `owner${path.replace("/", "-")}`);
  }
  await page.goto(`${CONSOLE}/pool`);
  assert.match(await page.locator("tr", { hasText: "openai" }).first().innerText(), /ready/);
  for (const path of ["/overview/feed", "/presets/edit", "/routing/edit?name=retry"]) assert.equal((await page.goto(CONSOLE + path)).status(), 403, path);
  assert.deepEqual(troubles.filter((trouble) => !trouble.includes("403")), []);
  await context.close();
});
