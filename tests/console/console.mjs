// A browser at the console: Chromium of the system, driven by playwright-core out of the SDKs' node_modules. Everything that a page reports as an
// error, and every violation of the Content-Security-Policy, is kept, for tests to find none.

import { createRequire } from "node:module";
import { existsSync, readFileSync } from "node:fs";

const modules = createRequire(new URL("../sdk/node/package.json", import.meta.url));
const { chromium } = modules("playwright-core");
const axe = readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");

export const CONSOLE = process.env.ORBYT_CONSOLE_URL;
export const GATEWAY = process.env.ORBYT_URL;
export const ADMIN_TOKEN = process.env.ORBYT_ADMIN_TOKEN;

const BROWSERS = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const SWITCHES = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export async function browser() {
  const executablePath = BROWSERS.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("there is no Chromium: scripts/deps.sh test says what is missing");
  return chromium.launch({ executablePath, headless: true, chromiumSandbox: false, args: SWITCHES });
}

// A new visitor, with what went wrong on their pages.
export async function visitor(running, options = {}) {
  const context = await running.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const troubles = [];
  const page = await context.newPage();
  page.on("pageerror", (error) => troubles.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) troubles.push(`${message.type()}: ${message.text()}`);
  });
  page.on("dialog", (dialog) => { troubles.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  return { context, page, troubles };
}

export async function logIn(page, token = ADMIN_TOKEN) {
  await page.goto(`${CONSOLE}/login`);
  await page.fill("#token", token);
  await page.click("form:has(#token) button[type=submit]");
  await page.waitForURL((url) => url.pathname !== "/login");
}

// What axe finds that is serious, in a sentence each. It runs in a world of its own, which the page's policy does not concern.
export async function barriers(page) {
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", { expression, contextId: executionContextId, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  await evaluate(axe);
  const violations = await evaluate("axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations)");
  await session.detach();
  return violations
    .filter((violation) => ["serious", "critical"].includes(violation.impact))
    .map((violation) => `${violation.id}: ${violation.help}: ${violation.nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
}

// One request to the gateway; the answer whole.
export async function ask(key, body, headers = {}) {
  const answer = await fetch(`${GATEWAY}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
    body: JSON.stringify({ messages: [{ role: "user", content: "Hello" }], ...body }),
  });
  return { status: answer.status, id: answer.headers.get("x-request-id"), text: await answer.text() };
}

// Waits until something is so.
export async function until(what, is) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const found = await is();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within 30 s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
