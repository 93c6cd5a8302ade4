// The console's one script: copying, live lists, answers as they come, and times in the reader's own zone. Pages work without it; what is
// live on them then stays as it was when they were loaded. Everything shown is set as text, never as markup.
"use strict";

const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

function localTimes(root) {
  for (const time of root.querySelectorAll("time[data-clock]")) {
    const when = new Date(time.dateTime);
    if (!time.title) time.title = time.dateTime;
    const sameDay = when.toDateString() === new Date().toDateString();
    time.textContent = sameDay ? clock(when) : `${when.toLocaleDateString()} ${clock(when)}`;
  }
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  if (className) made.className = className;
  return made;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const text = "value" in source ? source.value : source.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without leave to use the clipboard the text is selected, to be copied by hand.
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return;
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
});

// A part of a page that is fetched again every so often, as long as the page is looked at.
for (const part of document.querySelectorAll("[data-refresh]")) {
  let waits = false;
  setInterval(async () => {
    // A console that is slow is not asked once more for each turn.
    if (waits || document.hidden || part.contains(document.activeElement)) return;
    waits = true;
    try {
      const answer = await fetch(part.dataset.refresh, { headers: { accept: "text/html" } });
      // To the login: what stands there would stay as it is for ever.
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector(`[data-refresh="${CSS.escape(part.dataset.refresh)}"]`);
      if (!fresh) { location.reload(); return; }
      part.replaceChildren(...fresh.childNodes);
      localTimes(part);
    } catch { /* The next turn tries again. */ } finally { waits = false; }
  }, Number(part.dataset.every || 2) * 1000);
}

// A stream of events for as long as the page is looked at: a browser holds no more than six connections to one address, so tabs in the
// background let theirs go. Who comes back goes on where it was, as far as the console still knows.
function follow(address, handlers, last = "") {
  let source = null;
  let wait = 0;
  const stop = () => {
    clearTimeout(wait);
    source?.close();
    source = null;
  };
  const start = () => {
    if (source || document.hidden) return;
    clearTimeout(wait);
    // A new stream cannot say by itself where the one before has ended.
    const place = last ? `${address.includes("?") ? "&" : "?"}after=${encodeURIComponent(last)}` : "";
    source = new EventSource(address + place);
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) last = event.lastEventId;
        handle(event);
      });
    }
    source.addEventListener("begin", (event) => { last = event.lastEventId; });
    source.addEventListener("over", () => { stop(); location.reload(); });
    source.addEventListener("error", async () => {
      // While it tries again by itself there is nothing to do. What was refused is not tried again: nobody is logged in any more, or too
      // many are watching.
      if (source?.readyState !== EventSource.CLOSED) return;
      stop();
      const answer = await fetch("/api/v1/session").catch(() => null);
      if (answer?.status === 401) location.reload();
      else wait = setTimeout(start, 5000);
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", start);
  start();
}

// The operations feed.
const feed = document.getElementById("feed");
if (feed) {
  follow(feed.dataset.source, { line: (event) => {
    const line = JSON.parse(event.data);
    const item = element("li");
    const time = element("time", clock(line.at_ms));
    time.dateTime = new Date(line.at_ms).toISOString();
    item.append(time, element("span", line.text, `text ${line.level}`));
    feed.prepend(item);
    document.getElementById("feed-empty")?.remove();
    while (feed.children.length > 200) feed.lastChild.remove();
  } });
}

// An answer as it comes, in the place of a page of it: the playground and replays.
const stage = document.getElementById("answer");
if (stage) {
  const part = (name) => document.getElementById(`answer-${name}`);
  const [state, text, thoughts, reasoning, link, stop, told] = ["state", "text", "thoughts", "reasoning", "link", "stop", "facts"].map(part);
  const show = (word, tone) => { state.textContent = word; state.className = `badge ${tone}`; };
  let running = null;

  const on = {
    head({ status, id }) {
      show(status < 400 ? "streaming" : String(status), status < 400 ? "live" : "bad");
      if (!id) return;
      link.href = `/requests/${encodeURIComponent(id)}`;
      link.hidden = false;
    },
    said({ kind, text: piece }) {
      if (kind === "reasoning") thoughts.hidden = false;
      (kind === "reasoning" ? reasoning : text).append(piece);
    },
    failed({ why }) { show("failed", "bad"); text.append(why); },
    end(it) {
      show(it.ok ? "success" : String(it.status >= 400 ? it.status : "failed"), it.ok ? "good" : "bad");
      const seconds = (ms) => ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
      const parts = [
        it.target,
        it.tokens && `${it.tokens.prompt} tokens in, ${it.tokens.completion} out`,
        it.cost_usd !== null && it.cost_usd !== undefined ? `$${it.cost_usd}` : it.ok && "cost not known",
        seconds(it.took_ms),
        it.first_ms !== null && it.first_ms !== undefined && `first output after ${seconds(it.first_ms)}`,
        it.why && String(it.why).replaceAll("_", " "),
      ];
      told.textContent = parts.filter(Boolean).join(" · ");
    },
  };

  async function read(answer) {
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    let pending = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (pending + decoder.decode(value, { stream: true })).split("\n\n");
      pending = events.pop();
      for (const event of events) {
        const lines = event.split("\n");
        const field = (name) => lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
        if (field("event") && field("data")) on[field("event")]?.(JSON.parse(field("data")));
      }
    }
  }

  stop.addEventListener("click", () => running?.abort());
  for (const form of document.querySelectorAll("form[data-stream]")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (running) return;
      running = new AbortController();
      const button = form.querySelector("button[type=submit]");
      const begun = performance.now();
      button.disabled = true;
      for (const box of [text, reasoning, told]) box.textContent = "";
      document.getElementById("answered")?.replaceChildren();
      thoughts.hidden = link.hidden = true;
      stage.hidden = stop.hidden = false;
      show("asking", "live");
      stage.scrollIntoView({ block: "nearest" });
      try {
        const answer = await fetch(form.dataset.stream, { method: "POST", body: new URLSearchParams(new FormData(form)), signal: running.signal });
        if (answer.headers.get("content-type")?.startsWith("text/event-stream")) await read(answer);
        else on.failed({ why: (await answer.json().catch(() => null))?.detail ?? `The console answered ${answer.status}.` });
        if (state.classList.contains("live")) on.failed({ why: "The answer ended early." });
      } catch (error) {
        if (running.signal.aborted) {
          show("stopped", "warn");
          told.textContent = `stopped after ${((performance.now() - begun) / 1000).toFixed(1)} s`;
        } else on.failed({ why: error.message });
      } finally {
        running = null;
        button.disabled = false;
        stop.hidden = true;
      }
    });
  }
}

// DevTools.
const list = document.getElementById("live");
if (list) {
  const MOST = 300;
  const rows = new Map();
  const waiting = [];
  const search = document.getElementById("live-search");
  const state = document.getElementById("live-state");
  const pause = document.getElementById("live-pause");
  const status = document.getElementById("live-status");
  let paused = false;
  let missed = 0;

  const shows = (row) => {
    const text = search.value.trim().toLowerCase();
    return (!state.value || row.dataset.state === state.value) && (!text || row.textContent.toLowerCase().includes(text) || row.dataset.id.includes(text));
  };
  const filter = () => { for (const row of list.children) row.hidden = !shows(row); };
  search.addEventListener("input", filter);
  state.addEventListener("change", filter);

  const tell = () => {
    const parts = [paused ? `paused, ${waiting.length} waiting` : "live"];
    if (missed > 0) parts.push(`${missed} missed`);
    status.textContent = parts.join(" · ");
    status.className = paused ? "badge warn" : "badge live";
  };

  const BADGES = { pending: "live", streaming: "live", success: "good", error: "bad" };
  const cell = (row, name) => row.querySelector(`[data-cell="${name}"]`);

  function rowOf(event) {
    let row = rows.get(event.id);
    if (row) return row;
    row = document.getElementById("live-row").content.firstElementChild.cloneNode(true);
    row.dataset.id = event.id;
    const link = row.querySelector("a");
    link.href = `/requests/${encodeURIComponent(event.id)}`;
    link.textContent = clock(event.at_ms);
    link.title = event.id;
    rows.set(event.id, row);
    list.prepend(row);
    document.getElementById("live-empty")?.remove();
    while (list.children.length > MOST) {
      rows.delete(list.lastElementChild.dataset.id);
      list.lastElementChild.remove();
    }
    return row;
  }

  function apply(event) {
    const row = rowOf(event);
    if (hasEnded(row)) return;
    const shown = event.state === "attempt" ? "pending" : event.state;
    // Of several attempts the one that streams is what the row is about.
    if (!(shown === "pending" && row.dataset.state === "streaming")) {
      row.dataset.state = shown;
      const badge = cell(row, "state").firstElementChild;
      badge.textContent = shown;
      badge.className = `badge ${BADGES[shown]}`;
    }
    if (event.node) list.closest("table").classList.add("nodes");
    if (list.dataset.node) cell(row, "node").textContent = event.node || list.dataset.node;
    if (event.caller) cell(row, "key").textContent = event.caller;
    if (event.model && !cell(row, "asked").textContent) cell(row, "asked").textContent = event.model;
    if (event.provider && event.model) cell(row, "target").textContent = `${event.provider}/${event.model}`;
    if (event.attempt) cell(row, "attempts").textContent = event.attempt;
    if (event.state === "attempt" && event.verdict) cell(row, "note").textContent = `${event.provider} ${event.reason || event.status || "failed"}: ${event.verdict}`.replaceAll("_", " ");
    if (event.ttft_ms !== undefined) cell(row, "ttft").textContent = `${event.ttft_ms} ms`;
    if (shown === "success" || shown === "error") {
      cell(row, "status").textContent = event.status ?? "";
      if (event.latency_ms !== undefined) cell(row, "latency").textContent = `${event.latency_ms} ms`;
      if (event.tokens) cell(row, "tokens").textContent = `${event.tokens.prompt} + ${event.tokens.completion}`;
      if (event.cost_usd !== undefined) cell(row, "cost").textContent = `$${event.cost_usd}`;
      if (event.reason) cell(row, "note").textContent = event.reason.replaceAll("_", " ");
    }
    row.hidden = !shows(row);
  }

  for (const row of list.children) rows.set(row.dataset.id, row);
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) for (const event of waiting.splice(0)) apply(event);
    tell();
  });
  document.getElementById("live-clear").addEventListener("click", () => { rows.clear(); list.replaceChildren(); });

  // The ends of requests that were not told are looked up in what the ledger has by now.
  let looksUp = 0;
  let looks = 0;
  const hasEnded = (row) => row.dataset.state === "success" || row.dataset.state === "error";
  function lookUp() {
    looks = 0;
    if (!looksUp) looksUp = setTimeout(look, 3000);
  }
  async function look() {
    looksUp = 0;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const known of page.querySelectorAll("#live tr[data-id]")) {
        const row = rows.get(known.dataset.id);
        if (!row || hasEnded(row)) continue;
        localTimes(known);
        rows.set(known.dataset.id, known);
        row.replaceWith(known);
        known.hidden = !shows(known);
      }
    } catch { /* The next turn tries again. */ }
    looks += 1;
    if (looks < 10 && [...rows.values()].some((row) => !hasEnded(row))) looksUp = setTimeout(look, 3000);
  }

  follow(list.dataset.source, {
    open: tell,
    error: () => { status.textContent = "connecting…"; status.className = "badge warn"; },
    gap: lookUp,
    missed: (event) => { missed += JSON.parse(event.data).missed; tell(); lookUp(); },
    message: (message) => {
      const event = JSON.parse(message.data);
      if (!paused) return apply(event);
      waiting.push(event);
      if (waiting.length > 2000) { waiting.shift(); missed += 1; }
      tell();
    },
  }, list.dataset.after);
}

localTimes(document);
// On a phone the links scroll sideways.
document.querySelector("nav [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "center" });
