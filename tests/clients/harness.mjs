// What the Node drivers share: the wire tap, the steps, the fixed answers, the one JSON document.
//
// A driver brings an SDK's client and says how each step is asked of it; what is reported is read
// off the wire, below the SDK, so that what the SDK drops, renames or adds in parsing can neither
// hide a difference nor invent one. Beside it, under `seen`, is what the SDK's user got. The
// contract is in README.md.

import { AsyncLocalStorage } from "node:async_hooks";
import { existsSync, accessSync, constants, readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";

// Standard output carries one JSON document. SDKs remark on things by console.debug.
console.log = console.info = console.debug = console.error;

/** The cache directory of tests/setup/setup.sh, by the same rule. */
export function cacheDir() {
  if (process.env.MCP_GATEWAY_TEST_CACHE) return process.env.MCP_GATEWAY_TEST_CACHE;
  const shared = "/var/cache/mcp-gateway-tests";
  if (existsSync(join(shared, "npm"))) return shared;
  for (const dir of [shared, "/var/cache"]) {
    try {
      accessSync(dir, constants.W_OK);
      return shared;
    } catch {}
  }
  return join(homedir(), ".cache/mcp-gateway-tests");
}

/** `require` as seen from the pinned npm packages. */
export const requirePinned = createRequire(join(cacheDir(), "npm", "package.json"));

/** What every driver's client says and answers. The same in python_sdk.py. */
export const CLIENT_INFO = { name: "gateway-test-client", version: "1.0.0" };
export const ROOTS = [{ uri: "file:///tmp/mcp-gateway-root", name: "fixed root" }];
export const CAPABILITIES = {
  sampling: {},
  elicitation: { form: {}, url: {} },
  roots: { listChanged: true },
};

export function answerSampling() {
  return {
    role: "assistant",
    content: { type: "text", text: "a fixed answer" },
    model: "fixed-model",
    stopReason: "endTurn",
  };
}

export function answerElicitation(params) {
  if (params.mode === "url") return { action: "accept" };
  const content = {};
  for (const [name, schema] of Object.entries(params.requestedSchema.properties)) {
    content[name] = fixedValue(schema);
  }
  return { action: "accept", content };
}

const FORMATS = { email: "ada@example.com", uri: "https://example.com/", date: "2026-01-02" };

function fixedValue(schema) {
  if (schema.type === "array") return [fixedValue(schema.items)];
  const choice = schema.oneOf ?? schema.anyOf;
  if (choice) return choice[0].const;
  if (schema.enum) return schema.enum[0];
  if (schema.type === "boolean") return true;
  if (schema.type === "integer" || schema.type === "number") return schema.minimum ?? 7;
  return FORMATS[schema.format] ?? "Ada";
}

/** fetch() over a Unix socket, for clients that take a fetch of one's own. */
export function unixFetch(socketPath) {
  return (input, init = {}) =>
    new Promise((resolve, reject) => {
      const url = new URL(typeof input === "string" || input instanceof URL ? input : input.url);
      const headers = Object.fromEntries(new Headers(init.headers).entries());
      const request = http.request(
        { socketPath, path: url.pathname + url.search, method: init.method ?? "GET", headers },
        (reply) => {
          const empty = [204, 205, 304].includes(reply.statusCode);
          if (empty) reply.resume();
          const body = empty ? null : Readable.toWeb(reply);
          const headers = new Headers();
          for (let i = 0; i < reply.rawHeaders.length; i += 2) {
            headers.append(reply.rawHeaders[i], reply.rawHeaders[i + 1]);
          }
          resolve(new Response(body, { status: reply.statusCode, headers }));
        },
      );
      request.on("error", (error) =>
        reject(init.signal?.aborted ? init.signal.reason : new TypeError("fetch failed", { cause: error })),
      );
      if (init.signal) {
        const abort = () => request.destroy(init.signal.reason);
        if (init.signal.aborted) return abort();
        init.signal.addEventListener("abort", abort, { once: true });
      }
      request.end(init.body ?? undefined);
    });
}

/** Which step a message belongs to: whatever was running when the SDK sent it. */
const currentStep = new AsyncLocalStorage();

/** Records every message of a transport, as it went over the wire. */
export class Tap {
  exchanges = []; // ours: {method, params, step, response?, progress, late}
  requests = []; // the server's: {method, params, answer}
  notifications = []; // the server's, but for progress that belongs to an exchange
  #open = new Map(); // our id -> exchange
  #tokens = new Map(); // our progress token -> exchange
  #asked = new Map(); // the server's id -> request
  #seen = new WeakSet();
  #waiters = new Set();
  #consumed = new Map();

  /** Wraps `transport` in place; the SDK keeps talking to the same object. */
  attach(transport) {
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      for (const one of [message].flat()) this.#sent(one);
      return send(message, options);
    };
    let handler;
    Object.defineProperty(transport, "onmessage", {
      configurable: true,
      get: () => handler,
      set: (next) => {
        handler =
          next &&
          ((message, extra) => {
            this.#received(message);
            return next(message, extra);
          });
      },
    });
    return transport;
  }

  #sent(message) {
    if (message.method === "notifications/cancelled") {
      const exchange = this.#open.get(message.params?.requestId);
      if (exchange) exchange.cancelled = true;
    } else if (message.method !== undefined && message.id !== undefined) {
      const { method, params, id } = message;
      const exchange = { method, params, step: currentStep.getStore(), progress: [], late: 0 };
      this.exchanges.push(exchange);
      this.#open.set(id, exchange);
      const token = params?._meta?.progressToken;
      if (token !== undefined) this.#tokens.set(token, exchange);
    } else if (message.method === undefined) {
      const request = this.#asked.get(message.id);
      if (request) request.answer = message.error ? { error: message.error } : { result: message.result };
    }
  }

  #received(message) {
    if (this.#seen.has(message)) return;
    this.#seen.add(message);
    const { id, method, params } = message;
    if (method === undefined) {
      const exchange = this.#open.get(id);
      if (!exchange) this.notifications.push({ method: "(response nobody asked for)", params: message });
      else if (exchange.response) this.notifications.push({ method: "(second response)", params: message });
      else exchange.response = message;
      return;
    }
    if (id !== undefined) {
      const request = { method, params, answer: null };
      this.requests.push(request);
      this.#asked.set(id, request);
    } else {
      const exchange = method === "notifications/progress" && this.#tokens.get(params?.progressToken);
      if (exchange) {
        const { progressToken: _, ...rest } = params;
        exchange.progress.push(rest);
        if (exchange.response) exchange.late += 1;
      } else {
        this.notifications.push({ method, params });
      }
    }
    for (const wake of this.#waiters) wake();
  }

  /** Waits until `count` more messages of this kind have come than earlier waits took. */
  async wait(list, method, count, seconds) {
    const key = `${list === this.requests} ${method}`;
    const due = (this.#consumed.get(key) ?? 0) + count;
    const there = () => list.filter((message) => message.method === method).length;
    const missed = await until(() => there() >= due, seconds, this.#waiters);
    if (missed) return { come: there() - (due - count) };
    this.#consumed.set(key, due);
    return null;
  }
}

/** What the SDK's user got: results and exceptions by step, questions, notifications. */
export class Seen {
  steps = {};
  questions = [];
  heard = [];
  during = null;
  #consumed = new Map();
  #waiters = new Set();

  /** A handler of the SDK for one kind of question. */
  answering(method, answer) {
    return async (request) => {
      const params = request.params ?? {};
      const result = await answer(params);
      this.questions.push({ during: this.during, method, params, answer: structuredClone(result) });
      return result;
    };
  }

  hear(method, params = {}) {
    this.heard.push({ during: this.during, method, params });
    for (const wake of this.#waiters) wake();
  }

  /** As the tap's, of what the user heard. */
  async wait(method, count, seconds) {
    const due = (this.#consumed.get(method) ?? 0) + count;
    const there = () => this.heard.filter((one) => one.method === method).length;
    const missed = await until(() => there() >= due, seconds, this.#waiters);
    if (missed) return { come: there() - (due - count) };
    this.#consumed.set(method, due);
    return null;
  }
}

/** Waits for `ready`, which is asked again at every wake-up; true if that took too long. */
async function until(ready, seconds, waiters) {
  const deadline = Date.now() + seconds * 1000;
  while (!ready()) {
    const left = deadline - Date.now();
    if (left <= 0) return true;
    await new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, left);
      waiters.add(done);
    });
  }
  return false;
}

/** An exception as the user sees it; an error in the body of an HTTP status is looked up there. */
function raised(error) {
  let { code = null, data } = error;
  if (typeof code !== "number") {
    try {
      ({ code, data } = JSON.parse(error.data.text).error);
    } catch {
      code = null;
    }
  }
  const report = { name: error.name, code, message: error.message };
  return data === undefined || code === null ? report : { ...report, data };
}

/** The method a step's answer is read from, and the list that pages are joined on. */
const METHODS = {
  "tools/list": ["tools/list", "tools"],
  "resources/list": ["resources/list", "resources"],
  "resources/templates/list": ["resources/templates/list", "resourceTemplates"],
  "prompts/list": ["prompts/list", "prompts"],
  call: ["tools/call"],
  "resources/read": ["resources/read"],
  subscribe: ["resources/subscribe"],
  unsubscribe: ["resources/unsubscribe"],
  "prompts/get": ["prompts/get"],
  complete: ["completion/complete"],
  setLevel: ["logging/setLevel"],
  ping: ["ping"],
};

/** Runs steps against one SDK client. `sdk[op](step, options)` asks; the tap has the answer. */
class Script {
  saved = {};
  done = [];

  constructor(sdk, tap, seen, variables, bare) {
    this.bare = bare;
    this.sdk = sdk;
    this.tap = tap;
    this.seen = seen;
    this.variables = { ...variables };
  }

  async run(steps) {
    for (const step of steps) this.done.push(await this.step(step));
  }

  async step(template) {
    const step = this.#fill(template);
    const head = step.id === undefined ? { op: step.op } : { op: step.op, id: step.id };
    this.seen.during = step.id ?? this.seen.during;
    switch (step.op) {
      case "parallel": {
        const steps = await Promise.all(template.steps.map((one) => this.step(one)));
        return { ...head, ok: steps.every((one) => one.ok), steps };
      }
      case "bare": {
        const tap = new Tap();
        const sdk = await this.bare(tap);
        await sdk.connect();
        const script = new Script(sdk, tap, this.seen, this.variables, this.bare);
        await script.run(template.steps);
        await sdk.close();
        return { ...head, ok: script.done.every((one) => one.ok), steps: script.done };
      }
      case "sleep":
        await new Promise((resolve) => setTimeout(resolve, step.seconds * 1000));
        return { ...head, ok: true };
      case "notify":
        await this.sdk.notify(step);
        return { ...head, ok: true };
      case "watch":
      case "unwatch":
      case "logLevel":
        try {
          this.seen.steps[step.id ?? step.op] = { returned: await this.sdk[step.op](step) };
          return { ...head, ok: true };
        } catch (error) {
          this.seen.steps[step.id ?? step.op] = { raised: raised(error) };
          return { ...head, ok: false, error: { code: null, message: error.message } };
        }
      case "wait": {
        const list = step.request ? this.tap.requests : this.tap.notifications;
        const method = step.request ?? step.notification ?? step.heard;
        const [count, seconds] = [step.count ?? 1, step.seconds ?? 5];
        const missed = await (step.heard
          ? this.seen.wait(method, count, seconds)
          : this.tap.wait(list, method, count, seconds));
        if (!missed) return { ...head, ok: true };
        const message = `${missed.come} of ${count} ${method} came in ${seconds} s`;
        return { ...head, ok: false, error: { code: null, message } };
      }
    }
    const deadline = Date.now() + (step.seconds ?? 10) * 1000;
    for (;;) {
      const report = { ...head, ...(await this.#ask(step)) };
      if (Date.now() > deadline || this.#reached(report, step)) return this.#keep(step, report);
      await new Promise((resolve) => setTimeout(resolve, (step.every ?? 0.3) * 1000));
    }
  }

  async #ask(step) {
    const [method, list] = step.op === "raw" ? [step.method] : METHODS[step.op] ?? [];
    if (!method || !this.sdk[step.op]) throw new Error(`no such step: ${step.op}`);
    const mark = {};
    const options = { timeout: (step.timeout ?? 60) * 1000 };
    const outcome = {};
    const abort = new AbortController();
    const cancel = () => abort.abort("cancelled by the client");
    if (step.progress) {
      outcome.progress = [];
      options.onprogress = (one) => {
        outcome.progress.push(one);
        if (step.cancel_on_progress) cancel();
      };
    }
    if (step.cancel_after_ms !== undefined || step.cancel_on_progress) options.signal = abort.signal;
    if (step.cancel_after_ms !== undefined) setTimeout(cancel, step.cancel_after_ms);
    const pages = [];
    const mine = () => this.tap.exchanges.filter((one) => one.step === mark && one.method === method);
    let complaint;
    await currentStep.run(mark, async () => {
      try {
        let cursor;
        do {
          pages.push(await this.sdk[step.op](step, options, cursor));
          cursor = list && mine().at(-1)?.response?.result?.nextCursor;
        } while (cursor !== undefined);
      } catch (error) {
        complaint = error;
      }
    });
    if (list) outcome.pages = mine().length;
    if (abort.signal.aborted) outcome.cancelled = true;
    else if (complaint) outcome.raised = raised(complaint);
    else outcome.returned = list ? { ...pages[0], [list]: pages.flatMap((page) => page[list]) } : pages[0];
    if (step.id !== undefined) this.seen.steps[step.id] = outcome;
    return account(mine(), list, step, complaint);
  }

  #reached(report, { until = {}, until_has = "" }) {
    return (
      Object.entries(until).every(([path, values]) => values.includes(lookup(report.result, path))) &&
      (until_has === "" || JSON.stringify(report.result ?? null).includes(until_has))
    );
  }

  #keep(step, report) {
    for (const [name, path] of Object.entries(step.save ?? {})) {
      const value = lookup(report.result, path);
      if (value !== undefined) this.variables[name] = this.saved[name] = value;
    }
    return report;
  }

  #fill(value) {
    if (typeof value === "string") {
      const whole = /^\$\{(\w+)\}$/.exec(value);
      if (whole) return this.variables[whole[1]] ?? value;
      return value.replace(/\$\{(\w+)\}/g, (text, name) => this.variables[name] ?? text);
    }
    if (Array.isArray(value)) return value.map((one) => this.#fill(one));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, this.#fill(one)]));
    }
    return value;
  }
}

function lookup(value, path) {
  return path.split(".").reduce((at, key) => at?.[key], value);
}

/** One step's report, from what its exchanges showed on the wire. */
function account(exchanges, list, step, complaint) {
  const report = { ok: false };
  const last = exchanges.at(-1);
  if (last?.response && !last.cancelled) {
    const { result, error } = last.response;
    if (error) {
      report.error = error;
    } else {
      report.ok = true;
      report.result = list ? joined(exchanges, list) : result;
      // The wire carried a result and the SDK would not have it.
      if (complaint) report.client_error = complaint.name;
    }
  } else if (last?.cancelled && (step.cancel_after_ms !== undefined || step.cancel_on_progress)) {
    report.error = { code: null, message: "cancelled by the client" };
    report.answered_after_cancel = false;
    report.late_answer = last; // settled at the end of the run
  } else {
    const why = complaint?.message ?? "the SDK answered by itself";
    report.error = { code: null, message: last ? `client: ${why}` : `not sent: ${why}` };
  }
  if (step.progress) report.progress = last?.progress ?? [];
  if (last?.late) report.progress_after_answer = last.late;
  return report;
}

function joined(exchanges, list) {
  const { nextCursor: _, ...first } = exchanges[0].response.result;
  if (exchanges.length === 1) return first;
  return { ...first, [list]: exchanges.flatMap((one) => one.response?.result?.[list] ?? []) };
}

function settle(steps) {
  for (const step of steps) {
    if (step.steps) settle(step.steps);
    if (step.late_answer) {
      step.answered_after_cancel = step.late_answer.response !== undefined;
      delete step.late_answer;
    }
  }
}

/** What the server said of itself, off the wire, in either era. */
function introduction(tap) {
  const opening = tap.exchanges.filter((one) => one.response?.result);
  const legacy = opening.find((one) => one.method === "initialize")?.response.result;
  if (legacy) {
    const { serverInfo, protocolVersion, capabilities, instructions } = legacy;
    return { era: "legacy", serverInfo, protocolVersion, capabilities, instructions };
  }
  const modern = opening.find((one) => one.method === "server/discover")?.response.result;
  if (!modern) return null;
  const { supportedVersions, capabilities, instructions, _meta } = modern;
  const serverInfo = _meta?.["io.modelcontextprotocol/serverInfo"];
  return { era: "modern", serverInfo, supportedVersions, capabilities, instructions };
}

/** The command line that every driver takes. */
export function parseArguments(argv, usage) {
  const variables = {};
  const options = { era: undefined, deadline: 120 };
  const words = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i];
    if (word === "--var") {
      const [name, ...value] = argv[++i].split("=");
      variables[name] = value.join("=");
    } else if (word === "--era") options.era = argv[++i];
    else if (word === "--deadline") options.deadline = Number(argv[++i]);
    else words.push(word);
  }
  if (words.length !== 2) {
    console.error(usage);
    process.exit(64);
  }
  const [endpoint, script] = words.map(readJson);
  const steps = Array.isArray(script) ? script : script.steps;
  return { endpoint, steps, ordered: script.ordered ?? false, variables, options };
}

function readJson(text) {
  return JSON.parse(/^\s*[[{]/.test(text) ? text : readFileSync(text, "utf8"));
}

export const USAGE = `usage: DRIVER [--era ERA] [--var NAME=VALUE]... [--deadline SECONDS] ENDPOINT SCRIPT
  ENDPOINT  {"stdio": ["cmd", "arg"], "env": {}} | {"http": URL} | {"unix": PATH, "path": "/mcp"} | {"sse": URL}
  SCRIPT    a list of steps, or an object with "steps"; JSON, or the name of a file with it`;

/** Runs a driver: `make({endpoint, options, tap, seen, bare})` gives {connect, close, and a function per op}. */
export async function drive(make) {
  const { endpoint, steps, variables, options } = parseArguments(process.argv.slice(2), USAGE);
  const unfinished = () => console.error(`driver: not finished after ${options.deadline} s`);
  setTimeout(() => unfinished() ?? process.exit(3), (options.deadline + 5) * 1000).unref();
  const tap = new Tap();
  const seen = new Seen();
  const sdk = await make({ endpoint, options, tap, seen });
  await sdk.connect();
  const bare = (tap) => make({ endpoint, options, tap, seen, bare: true });
  const script = new Script(sdk, tap, seen, variables, bare);
  const late = new Promise((resolve) => setTimeout(resolve, options.deadline * 1000, "late").unref());
  const finished = (await Promise.race([script.run(steps), late])) !== "late";
  if (!finished) unfinished();
  settle(script.done);
  const document = {
    server: introduction(tap) ?? sdk.introduction?.() ?? null,
    negotiated: sdk.negotiated(),
    steps: script.done,
    requests: tap.requests,
    notifications: tap.notifications,
    saved: script.saved,
    seen: { steps: seen.steps, questions: seen.questions, heard: seen.heard, tasks: [] },
  };
  const text = JSON.stringify(document, null, 1);
  if (finished) await sdk.close();
  process.stdout.write(text + "\n", () => process.exit(finished ? 0 : 3));
}
