// The console as people use it: a key's life from its making to its end, every page without a barrier, and nothing that a client wrote is ever
// more than text.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ADMIN_TOKEN, CONSOLE, ask, barriers, browser, logIn, until, visitor } from "./console.mjs";

const KEY = process.env.ORBYT_KEY;
const PAGES = [
  "/overview", "/devtools", "/requests", "/sessions", "/usage", "/pool", "/models", "/presets", "/routing", "/playground",
  "/keys", "/provider-keys", "/budgets", "/audit", "/settings", "/docs", "/docs/configuration", "/docs/service",
];
const CANARY = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>";

let running;

before(async () => { running = await browser(); });
after(async () => { await running?.close(); });

async function admin(options) {
  const visit = await visitor(running, options);
  await logIn(visit.page);
  return visit;
}

// Makes a key in the form and returns it.
async function newKey(page, name) {
  await page.goto(`${CONSOLE}/keys`);
  await page.click("summary:has-text('New key')");
  await page.fill("#k-name", name);
  await page.click("button:has-text('Create key')");
  const key = await page.textContent("#new-key");
  assert.match(key, /^sk-or-v1-[0-9a-f]{64}$/);
  return key;
}

test("the documents are read without logging in, and link to each other", async () => {
  const { page, troubles, context } = await visitor(running);
  await page.goto(`${CONSOLE}/docs`);
  await page.click("main a:has-text('Budgets, credits and prices')");
  await page.waitForURL(`${CONSOLE}/docs/budgets`);
  assert.equal(await page.locator("h1").count(), 1);
  assert.deepEqual(await barriers(page), []);
  await page.goto(`${CONSOLE}/docs/admin-api#lists-versions-errors`);
  assert.ok(await page.locator("#lists-versions-errors").isVisible());
  assert.deepEqual(troubles, []);
  await logIn(page);
  await page.click("nav a:has-text('Documentation')");
  await page.waitForURL((url) => url.pathname === "/docs");
  assert.ok(await page.locator("nav a[aria-current=page]:has-text('Documentation')").isVisible());
  await context.close();
});

test("a login leads to a page of the console and nowhere else", async () => {
  const { page, context } = await visitor(running);
  for (const next of ["%2F%09%2Fevil.example", "%2F%5Cevil.example", "%2F%2Fevil.example", "%2F%01"]) {
    await page.goto(`${CONSOLE}/login?next=${next}`);
    await page.fill("#token", ADMIN_TOKEN);
    await page.click("form:has(#token) button[type=submit]");
    await page.waitForURL(`${CONSOLE}/overview`);
  }
  await context.close();
});

test("nobody sees a page without logging in, and comes back to it after", async () => {
  const { page, context } = await visitor(running);
  await page.goto(`${CONSOLE}/requests?status=failed`);
  assert.equal(new URL(page.url()).pathname, "/login");
  await page.fill("#token", "a wrong one");
  await page.click("form:has(#token) button[type=submit]");
  await page.waitForSelector("[role=alert]");
  await page.fill("#token", ADMIN_TOKEN);
  await page.click("form:has(#token) button[type=submit]");
  await page.waitForURL(`${CONSOLE}/requests?status=failed`);
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  await page.click("button:has-text('Log out')");
  await page.goto(`${CONSOLE}/overview`);
  assert.equal(new URL(page.url()).pathname, "/login");
  await context.close();
});

test("a key is made, used while DevTools watches, explained, and revoked", async () => {
  const { page, troubles, context } = await admin();
  const name = `life of a key ${Date.now()}`;
  const key = await newKey(page, name);

  // Watched while it streams: the first target fails, the next one streams slowly.
  const watching = await context.newPage();
  await watching.goto(`${CONSOLE}/devtools`);
  await watching.waitForFunction(() => document.getElementById("live-status").textContent.startsWith("live"));
  // A state may be gone before a look from outside: the page itself notes what its first row said, one after the other.
  await watching.evaluate(() => {
    window.seen = [];
    new MutationObserver(() => {
      const state = document.querySelector("#live tr .badge")?.textContent;
      if (state && window.seen.at(-1) !== state) window.seen.push(state);
    }).observe(document.getElementById("live"), { childList: true, subtree: true });
  });
  const { status, id } = await ask(key, { model: "openai/sim-503", stream: true, extra: { fallback_models: ["anthropic/sim-slow"], retry: 0 } });
  assert.equal(status, 200);
  const row = watching.locator("#live tr", { hasText: name });
  await row.locator(".badge.good", { hasText: "success" }).waitFor({ timeout: 30_000 });
  assert.deepEqual((await watching.evaluate(() => window.seen)).slice(-3), ["pending", "streaming", "success"]);

  // Why it went where it went.
  await row.locator("a").click();
  await watching.waitForURL(`${CONSOLE}/requests/${id}`);
  await watching.locator("h2", { hasText: "Why it went there" }).waitFor({ timeout: 30_000 });
  const timeline = await watching.locator("[aria-label=Timeline]").innerText();
  assert.match(timeline, /openai\/sim-503/);
  assert.match(timeline, /503/);
  assert.match(timeline, /anthropic\/sim-slow/);
  assert.match(await watching.locator("[aria-label=Plan]").innerText(), /served/);
  assert.match(await watching.textContent("#curl"), /\$ORBYT_API_KEY/);
  assert.ok(!(await watching.content()).includes(key), "the key is nowhere on the page");

  // Its end.
  await page.goto(`${CONSOLE}/keys`);
  const own = page.locator("tr", { hasText: name });
  await own.locator("summary").click();
  await own.locator("button:has-text('Revoke')").click();
  await page.locator("tr", { hasText: name }).locator(".badge", { hasText: "revoked" }).waitFor();
  const refused = await until("the key is refused", async () => {
    const answer = await ask(key, { model: "openai/sim-ok" });
    return answer.status === 401 && answer;
  });
  assert.match(refused.text, /key/);
  assert.deepEqual(troubles, []);
  await context.close();
});

test("tabs in the background let their connections go, and catch up when they are looked at again", async () => {
  const { page, troubles, context } = await admin();
  const isLive = (tab) => tab.waitForFunction(() => document.getElementById("live-status").textContent.startsWith("live"));
  const look = (tab, away) => tab.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, away);
  // More than the six connections that a browser holds to one address.
  const tabs = [];
  for (let number = 0; number < 9; number += 1) {
    const tab = number === 0 ? page : await context.newPage();
    await tab.goto(`${CONSOLE}/devtools`);
    await isLive(tab);
    await look(tab, true);
    tabs.push(tab);
  }
  const { id } = await ask(KEY, { model: "openai/sim-ok" });
  await look(tabs[0], false);
  await tabs[0].locator(`#live tr[data-id="${id}"] .badge.good`).waitFor({ timeout: 30_000 });
  assert.deepEqual(troubles, []);
  await context.close();
});

test("who logs out elsewhere stops watching, and comes back to the login", async () => {
  const { page, context } = await admin();
  await page.goto(`${CONSOLE}/devtools`);
  await page.waitForFunction(() => document.getElementById("live-status").textContent.startsWith("live"));
  const other = await context.newPage();
  await other.goto(`${CONSOLE}/settings`);
  await other.click("button:has-text('Log out')");
  await page.waitForURL(`${CONSOLE}/login?next=%2Fdevtools`, { timeout: 30_000 });
  await context.close();
});

test("a request is replayed against another model, with a key that is gone afterwards", async () => {
  const { page, troubles, context } = await admin();
  const { id } = await ask(KEY, { model: "openai/sim-500", extra: { retry: 0 } });
  await until("the ledger has it", async () => (await page.goto(`${CONSOLE}/requests/${id}`)).status() === 200);
  await page.fill("#replay-model", "anthropic/sim-ok");
  await page.click("button:has-text('Replay')");
  await page.locator("#answer-state.good", { hasText: "success" }).waitFor({ timeout: 30_000 });
  await page.click("#answer-link");
  await page.waitForURL((url) => url.pathname.startsWith("/requests/req_") && !url.pathname.endsWith(id));
  await page.locator("h2", { hasText: "Timeline" }).waitFor({ timeout: 30_000 });
  assert.match(await page.locator("[aria-label=Timeline]").innerText(), /anthropic\/sim-ok/);
  await page.goto(`${CONSOLE}/keys`);
  const own = page.locator("tr", { hasText: /console [0-9a-f]{8}/ });
  assert.equal(await own.count(), await own.locator(".badge", { hasText: "revoked" }).count());
  assert.deepEqual(troubles, []);
  await context.close();
});

test("the playground asks and says which request it was", async () => {
  const { page, troubles, context } = await admin();
  await page.goto(`${CONSOLE}/playground`);
  await page.fill("#m", "openai/sim-ok");
  await page.fill("#p", "What is a <b>canary</b>?");
  await page.click("button:has-text('Ask')");
  await page.locator("#answer-state.good", { hasText: "success" }).waitFor({ timeout: 30_000 });
  assert.match(await page.textContent("#answer-text"), /<b>canary<\/b>/);
  await page.click("text=Why it went there");
  await page.waitForURL(/\/requests\/req_/);
  assert.deepEqual(troubles, []);
  await context.close();
});

test("what clients write stays text, on every page", async () => {
  const { page, troubles, context } = await admin();
  await newKey(page, CANARY.slice(0, 60).replaceAll("/", "-"));
  const answer = await ask(KEY, { model: `openai/${CANARY}`, user: CANARY, messages: [{ role: "user", content: CANARY }] }, { "x-trace-id": "canary<b>" });
  assert.ok(answer.id);
  await ask(KEY, { model: "openai/sim-ok", user: CANARY, messages: [{ role: "user", content: CANARY }], extra: { session_id: CANARY } });
  await until("the ledger has them", async () => {
    await page.goto(`${CONSOLE}/requests?range=1h&q=${encodeURIComponent("canary")}`);
    return (await page.content()).includes("onerror") || (await page.locator("tbody tr").count()) > 0;
  });
  for (const path of [...PAGES, `/requests/${answer.id}`, `/sessions/${encodeURIComponent(CANARY)}`, "/usage?by=user", `/requests?q=${encodeURIComponent(CANARY)}`, `/models?q=${encodeURIComponent(CANARY)}`]) {
    await page.goto(CONSOLE + path);
    assert.equal(await page.locator("img, script:not([src])").count(), 0, path);
  }
  assert.deepEqual(troubles.filter((trouble) => !trouble.includes("404")), []);
  await context.close();
});

test("every page is there, without a barrier, light and dark, wide and on a phone", async () => {
  await ask(KEY, { model: "openai/sim-ok", user: "kim", extra: { session_id: "a session" } });
  await ask(KEY, { model: "openai/sim-429", extra: { fallback_models: ["anthropic/sim-ok"] } });
  for (const options of [{ colorScheme: "light" }, { colorScheme: "dark", viewport: { width: 390, height: 844 } }]) {
    const { page, troubles, context } = await admin(options);
    for (const path of PAGES) {
      const answer = await page.goto(CONSOLE + path);
      assert.equal(answer.status(), 200, path);
      assert.equal(await page.locator("h1").count(), 1, path);
      assert.deepEqual(await barriers(page), [], `${path} ${JSON.stringify(options)}`);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(overflow <= 0, `${path} is ${overflow} pixels wider than a ${options.viewport?.width ?? 1440} pixels wide window`);
    }
    assert.deepEqual(troubles, []);
    await context.close();
  }
});

test("nothing is changed by a form without its token, or by another site's page", async () => {
  const { page, context } = await admin();
  const cookies = (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  const form = (headers) => fetch(`${CONSOLE}/keys`, {
    method: "POST",
    headers: { cookie: cookies, "content-type": "application/x-www-form-urlencoded", ...headers },
    body: "name=forged",
    redirect: "manual",
  });
  assert.equal((await form({})).status, 403);
  assert.equal((await form({ origin: "https://evil.example" })).status, 403);
  await page.goto(`${CONSOLE}/keys`);
  assert.ok(!(await page.content()).includes("forged"));
  await context.close();
});

test("a member sees their own organisation, live too, and nothing of another", async () => {
  const api = async (method, path, body) => {
    const answer = await fetch(CONSOLE + path, {
      method,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    assert.ok(answer.ok, `${path}: ${answer.status}`);
    return answer.json();
  };
  const name = `org ${Date.now()}`;
  const made = await api("POST", "/api/v1/orgs", { name });
  const org = (made.data ?? made).id;
  const email = `kim${Date.now()}@example.com`;
  const { password } = await api("POST", `/api/v1/orgs/${org}/members`, { email, role: "member" });
  const { key } = await api("POST", "/api/v1/keys", { name: "their own", org });

  const { page, context } = await visitor(running);
  await page.goto(`${CONSOLE}/login`);
  await page.fill("#email", email);
  await page.fill("#password", password);
  await page.click("form:has(#email) button[type=submit]");
  await page.waitForURL(`${CONSOLE}/overview`);

  await page.goto(`${CONSOLE}/devtools`);
  await page.waitForFunction(() => document.getElementById("live-status").textContent.startsWith("live"));
  const foreign = await ask(KEY, { model: "openai/sim-ok", user: "a secret user" });
  const own = await ask(key, { model: "openai/sim-ok", user: "an own user" });
  await page.locator(`#live tr[data-id="${own.id}"] .badge.good`).waitFor({ timeout: 30_000 });
  assert.equal(await page.locator(`#live tr[data-id="${foreign.id}"]`).count(), 0);

  await until("the ledger has it", async () => (await page.goto(`${CONSOLE}/requests?user=an+own+user`)) && (await page.locator("tbody tr").count()) === 1);
  const status = async (path) => (await page.goto(CONSOLE + path)).status();
  for (const path of ["/requests?range=all", "/usage?by=user", "/usage?by=org", "/sessions", "/overview", "/keys", "/audit"]) {
    await page.goto(CONSOLE + path);
    const content = await page.content();
    assert.ok(!content.includes("a secret user") && !content.includes("org_default") && !content.includes(foreign.id), path);
  }
  assert.equal(await status(`/requests/${own.id}`), 200);
  for (const path of [`/requests/${foreign.id}`, "/requests?org=org_default", "/usage?org=org_default", "/usage.csv?org=org_default", "/devtools/events?org=org_default", "/keys?org=org_default"]) {
    assert.equal(await status(path), 404, path);
  }
  for (const path of ["/pool", "/settings", "/overview/feed"]) assert.equal(await status(path), 403, path);
  await context.close();
});

test("filters stand in the address, and the same is to be had as a file", async () => {
  const { page, troubles, context } = await admin();
  await ask(KEY, { model: "openai/sim-ok", user: "lee" });
  await until("the ledger has it", async () => {
    await page.goto(`${CONSOLE}/requests?user=lee`);
    return (await page.locator("tbody tr").count()) > 0;
  });
  await page.fill("#f-q", "no such thing");
  await page.click("form[role=search] button[type=submit]");
  assert.equal(new URL(page.url()).searchParams.get("q"), "no such thing");
  assert.equal(await page.locator("tbody tr").count(), 0);
  const csv = await page.request.get(`${CONSOLE}/usage.csv?by=user&user=lee`);
  assert.match(csv.headers()["content-disposition"], /attachment/);
  assert.match(await csv.text(), /^user,name,requests[^\n]*\n"lee","lee",1,/);
  assert.deepEqual(troubles, []);
  await context.close();
});
