#!/usr/bin/env node
// Drives the TypeScript SDK v2 (@modelcontextprotocol/client): stdio, Streamable HTTP on TCP and on
// a Unix socket, HTTP+SSE. It negotiates the era by itself unless --era says legacy or modern.

import {
  CAPABILITIES, CLIENT_INFO, ROOTS, answerElicitation, answerSampling, drive, requirePinned, unixFetch,
} from "./harness.mjs";

const { Client, SSEClientTransport, StreamableHTTPClientTransport } = requirePinned("@modelcontextprotocol/client");
const { StdioClientTransport } = requirePinned("@modelcontextprotocol/client/stdio");

/** A schema that takes any result, for requests that the SDK has no types for. */
const ANY = { "~standard": { version: 1, vendor: "gateway-tests", validate: (value) => ({ value }) } };

const LOG_LEVEL = "io.modelcontextprotocol/logLevel";

const ERAS = { auto: "auto", legacy: "legacy", modern: { pin: "2026-07-28" } };

function transportFor(endpoint) {
  if (endpoint.stdio) {
    const [command, ...args] = endpoint.stdio;
    return new StdioClientTransport({ command, args, env: endpoint.env, cwd: endpoint.cwd, stderr: "inherit" });
  }
  if (endpoint.http) return new StreamableHTTPClientTransport(new URL(endpoint.http));
  if (endpoint.sse) return new SSEClientTransport(new URL(endpoint.sse));
  const url = new URL(endpoint.path ?? "/mcp", "http://localhost");
  return new StreamableHTTPClientTransport(url, { fetch: unixFetch(endpoint.unix) });
}

await drive(({ endpoint, options, tap, seen, bare }) => {
  const mode = ERAS[options.era ?? "auto"];
  if (!mode) throw new Error(`no era ${options.era}: auto, legacy or modern`);
  const client = new Client(CLIENT_INFO, { capabilities: bare ? {} : CAPABILITIES, versionNegotiation: { mode } });
  if (!bare) {
    client.setRequestHandler("sampling/createMessage", seen.answering("sampling/createMessage", answerSampling));
    client.setRequestHandler("elicitation/create", seen.answering("elicitation/create", answerElicitation));
    client.setRequestHandler("roots/list", seen.answering("roots/list", () => ({ roots: ROOTS })));
  }
  for (const kind of [
    "message", "tools/list_changed", "prompts/list_changed", "resources/list_changed", "resources/updated",
  ]) {
    client.setNotificationHandler(`notifications/${kind}`, ({ method, params }) => seen.hear(method, params));
  }
  client.fallbackNotificationHandler = async ({ method, params }) => seen.hear(method, params);
  const modern = () => client.getNegotiatedProtocolVersion() >= "2026-07-28";
  const watched = [];
  let subscription;
  let level;
  client.onerror = (error) => console.error(`client: ${error.message}`);
  const transport = tap.attach(transportFor(endpoint));
  const page = (cursor) => (cursor === undefined ? undefined : { cursor });
  // Lists and reads have a cache; a test wants the server's answer.
  const fresh = (options) => ({ ...options, cacheMode: "bypass" });
  return {
    connect: () => client.connect(transport),
    close: () => client.close(),
    negotiated: () => client.getNegotiatedProtocolVersion(),
    // On stdio the SDK asks server/discover of a child of its own, which no tap sees.
    introduction: () => ({
      era: "modern",
      serverInfo: client.getServerVersion(),
      supportedVersions: client.getDiscoverResult()?.supportedVersions,
      capabilities: client.getServerCapabilities(),
      instructions: client.getInstructions(),
    }),
    "tools/list": (step, options, cursor) => client.listTools(page(cursor), fresh(options)),
    "resources/list": (step, options, cursor) => client.listResources(page(cursor), fresh(options)),
    "resources/templates/list": (step, options, cursor) => client.listResourceTemplates(page(cursor), fresh(options)),
    "prompts/list": (step, options, cursor) => client.listPrompts(page(cursor), fresh(options)),
    call: (step, options) => {
      const _meta = level ? { ...step._meta, [LOG_LEVEL]: level } : step._meta;
      return client.callTool({ name: step.name, arguments: step.arguments, _meta }, options);
    },
    "resources/read": (step, options) => client.readResource({ uri: step.uri }, fresh(options)),
    subscribe: (step, options) => client.subscribeResource({ uri: step.uri }, options),
    unsubscribe: (step, options) => client.unsubscribeResource({ uri: step.uri }, options),
    "prompts/get": (step, options) => client.getPrompt({ name: step.name, arguments: step.arguments }, options),
    complete: (step, options) =>
      client.complete({ ref: step.ref, argument: step.argument, context: step.context }, options),
    setLevel: (step, options) => client.setLoggingLevel(step.level, options),
    ping: (step, options) => client.ping(options),
    raw: (step, options) => client.request({ method: step.method, params: step.params }, ANY, options),
    // By request in the modern era, by a request of its own before.
    logLevel: async (step) => {
      if (modern()) level = step.level;
      else if (step.level) await client.setLoggingLevel(step.level);
    },
    // By a subscription in the modern era; before, changes of lists are told unasked.
    watch: async ({ tools, prompts, resources, uris = [], timeout = 60 }) => {
      if (!modern()) {
        for (const uri of uris) watched.push(uri) && (await client.subscribeResource({ uri }));
        return undefined;
      }
      const filter = {
        ...(tools && { toolsListChanged: true }),
        ...(prompts && { promptsListChanged: true }),
        ...(resources && { resourcesListChanged: true }),
        ...(uris.length && { resourceSubscriptions: uris }),
      };
      subscription = await client.listen(filter, { timeout: timeout * 1000 });
      return { honored: subscription.honoredFilter };
    },
    unwatch: async () => {
      await subscription?.close();
      while (watched.length) await client.unsubscribeResource({ uri: watched.pop() });
    },
    notify: (step) => client.notification({ method: step.method, params: step.params }),
  };
});
