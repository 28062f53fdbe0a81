#!/usr/bin/env node
// Drives the TypeScript SDK v1 (@modelcontextprotocol/sdk): stdio, Streamable HTTP on TCP and on a
// Unix socket, HTTP+SSE. Legacy era only: it knows no other.

import {
  CAPABILITIES, CLIENT_INFO, ROOTS, answerElicitation, answerSampling, drive, requirePinned, unixFetch,
} from "./harness.mjs";

const sdk = (path) => requirePinned(`@modelcontextprotocol/sdk/${path}`);
const { Client } = sdk("client/index.js");
const { StdioClientTransport } = sdk("client/stdio.js");
const { StreamableHTTPClientTransport } = sdk("client/streamableHttp.js");
const { SSEClientTransport } = sdk("client/sse.js");
const {
  CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema, ResultSchema, LoggingMessageNotificationSchema,
  PromptListChangedNotificationSchema, ResourceListChangedNotificationSchema, ResourceUpdatedNotificationSchema,
  ToolListChangedNotificationSchema,
} = sdk("types.js");

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
  if (options.era && options.era !== "legacy") throw new Error(`this SDK has no era ${options.era}`);
  const client = new Client(CLIENT_INFO, { capabilities: bare ? {} : CAPABILITIES });
  if (!bare) {
    client.setRequestHandler(CreateMessageRequestSchema, seen.answering("sampling/createMessage", answerSampling));
    client.setRequestHandler(ElicitRequestSchema, seen.answering("elicitation/create", answerElicitation));
    client.setRequestHandler(ListRootsRequestSchema, seen.answering("roots/list", () => ({ roots: ROOTS })));
  }
  for (const schema of [
    LoggingMessageNotificationSchema, PromptListChangedNotificationSchema, ResourceListChangedNotificationSchema,
    ResourceUpdatedNotificationSchema, ToolListChangedNotificationSchema,
  ]) {
    client.setNotificationHandler(schema, ({ method, params }) => seen.hear(method, params));
  }
  client.fallbackNotificationHandler = async ({ method, params }) => seen.hear(method, params);
  const watched = [];
  client.onerror = (error) => console.error(`client: ${error.message}`);
  const transport = tap.attach(transportFor(endpoint));
  const page = (cursor) => (cursor === undefined ? {} : { cursor });
  return {
    connect: () => client.connect(transport),
    close: () => client.close(),
    negotiated: () => tap.exchanges.find((one) => one.method === "initialize")?.response?.result?.protocolVersion,
    "tools/list": (step, options, cursor) => client.listTools(page(cursor), options),
    "resources/list": (step, options, cursor) => client.listResources(page(cursor), options),
    "resources/templates/list": (step, options, cursor) => client.listResourceTemplates(page(cursor), options),
    "prompts/list": (step, options, cursor) => client.listPrompts(page(cursor), options),
    call: (step, options) =>
      client.callTool({ name: step.name, arguments: step.arguments, _meta: step._meta }, undefined, options),
    "resources/read": (step, options) => client.readResource({ uri: step.uri }, options),
    subscribe: (step, options) => client.subscribeResource({ uri: step.uri }, options),
    unsubscribe: (step, options) => client.unsubscribeResource({ uri: step.uri }, options),
    "prompts/get": (step, options) => client.getPrompt({ name: step.name, arguments: step.arguments }, options),
    complete: (step, options) =>
      client.complete({ ref: step.ref, argument: step.argument, context: step.context }, options),
    setLevel: (step, options) => client.setLoggingLevel(step.level, options),
    ping: (step, options) => client.ping(options),
    raw: (step, options) => client.request({ method: step.method, params: step.params }, ResultSchema, options),
    logLevel: ({ level }) => level && client.setLoggingLevel(level),
    watch: async ({ uris = [] }) => {
      for (const uri of uris) watched.push(uri) && (await client.subscribeResource({ uri }));
    },
    unwatch: async () => {
      while (watched.length) await client.unsubscribeResource({ uri: watched.pop() });
    },
    notify: (step) => client.notification({ method: step.method, params: step.params }),
  };
});
