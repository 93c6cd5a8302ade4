// What the compiler has to accept, and what it has to refuse: `npm run check`.
import Orbyt, { type Extra } from "../src/index.js";

const client = new Orbyt({ apiKey: "key", traceId: "trace" });
const messages = [{ role: "user" as const, content: "Hello!" }];

export const whole = client.chat.completions.create({ model: "auto", messages, extra: { retry: 1, cache: false } });
export const stream = client.chat.completions.create({ model: "auto", messages, stream: true, extra: { provider: "cheap" } });
export const all: Required<Extra> = {
  fallback_models: ["openai/gpt-4o-mini"],
  provider: "cheap",
  retry: 3,
  timeout_ms: 1000,
  byok: { openai: "key" },
  cache: { ttl: "5m", semantic: true },
  preset: "support",
  session_id: "session",
  trace_id: "trace",
  store: false,
  max_cost: 0.02,
};
// @ts-expect-error a number is meant
export const wrong: Extra = { retry: "often" };
// @ts-expect-error there is no such member
export const unknown = client.chat.completions.create({ model: "auto", messages, extra: { fallback_model: [] } });
