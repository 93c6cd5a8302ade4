/**
 * The official OpenAI client, pointed at an Orbyt gateway, with the gateway's extensions typed.
 *
 *     const client = new Orbyt({ traceId: "checkout-42" });
 *     await client.chat.completions.create({ ..., extra: { fallback_models: ["openai/gpt-4o-mini"], retry: 1 } });
 */
import OpenAI, { OpenAIError, type ClientOptions } from "openai";

/** Where a gateway listens when nothing else is said. */
export const DEFAULT_BASE_URL = "http://127.0.0.1:3001/v1";

/** What one request can say to the gateway; none of it reaches a provider. See docs/extra.md. */
export interface Extra {
  /** Models to try next, in this order; or providers, for the same model there. */
  fallback_models?: string[];
  /** A strategy (`"cheap"`, `"fast"`, `"reliable"`, …), or the id of the only provider that may serve. */
  provider?: string;
  /** How often the same target is tried again, 0 to 10. */
  retry?: number;
  /** The deadline of the whole request. */
  timeout_ms?: number;
  /** Your own provider key, or keys by provider. */
  byok?: string | Record<string, string>;
  /** Past the cache, or how it is used: `ttl` in seconds or as a duration such as `"5m"`. */
  cache?: false | { ttl?: number | string; semantic?: boolean };
  /** The slug of a preset. */
  preset?: string;
  /** Requests of one session keep to one target where the gateway is told so. */
  session_id?: string;
  /** The trace that the request belongs to. */
  trace_id?: string;
  /** Keep nothing of what the request carries. */
  store?: false;
  /** What the request may cost at most, in dollars. */
  max_cost?: number;
}

declare module "openai/resources/chat/completions/completions" {
  interface ChatCompletionCreateParamsBase {
    extra?: Extra;
  }
}

/** The options of the official client, and the trace that all requests of this one belong to. */
export interface OrbytOptions extends ClientOptions {
  traceId?: string;
}

/** `OpenAI`, by default at `ORBYT_BASE_URL` with `ORBYT_API_KEY`. */
export class Orbyt extends OpenAI {
  constructor({ traceId, ...options }: OrbytOptions = {}) {
    // A variable that is set to nothing (`${X:-}` in a compose file) is none: the official client would go to OpenAI with this key.
    const apiKey = options.apiKey || process.env.ORBYT_API_KEY;
    if (!apiKey) {
      // The official client would take OPENAI_API_KEY, which is nobody else's business.
      throw new OpenAIError("a gateway key is needed: apiKey, or ORBYT_API_KEY in the environment");
    }
    const baseURL = options.baseURL || process.env.ORBYT_BASE_URL || DEFAULT_BASE_URL;
    super({ ...options, apiKey, baseURL });
    if (traceId !== undefined) {
      const given = options.defaultHeaders;
      const headers = given instanceof Headers || Array.isArray(given) ? Object.fromEntries(given) : given;
      // Read with each request, and passed on by withOptions().
      this._options.defaultHeaders = { ...headers, "x-trace-id": traceId };
    }
  }
}

export default Orbyt;
