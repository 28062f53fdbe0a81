#!/usr/bin/env node
// Drives the MCP Inspector's CLI: stdio, Streamable HTTP on TCP, HTTP+SSE, and Streamable HTTP on a
// Unix socket through a relay of ours, since the CLI cannot dial one.
//
// The CLI does one thing a run: every step is a process and a session of its own, so nothing
// carries over from one to the next, there is no wire to tap, and what is reported is what it
// prints. Steps it has no words for are reported as skipped, never as passed.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { USAGE, cacheDir, parseArguments } from "./harness.mjs";

const packages = join(cacheDir(), "npm", "node_modules");
const launcher = join(packages, "@modelcontextprotocol/inspector/clients/launcher/build/index.js");

/** The Inspector wants Node 22.19: ours, or the one among the pinned packages. */
function nodeFor() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 22 || (major === 22 && minor >= 19)) return process.execPath;
  const pinned = join(packages, `node-${process.platform}-${process.arch}`, "bin/node");
  if (existsSync(pinned)) return pinned;
  throw new Error(`the Inspector needs Node 22.19, this is ${process.versions.node}`);
}

/** What the CLI's client declares is not ours to choose: roots, and nothing else. */
const LACKS = new Set(["sampling", "elicitation", "session"]);

const WORDS = {
  "tools/list": () => ["tools/list"],
  call: (step) => ["tools/call", "--tool-name", step.name, "--tool-args-json", JSON.stringify(step.arguments ?? {})],
  "resources/list": () => ["resources/list"],
  "resources/read": (step) => ["resources/read", "--uri", step.uri],
  "resources/templates/list": () => ["resources/templates/list"],
  "prompts/list": () => ["prompts/list"],
  "prompts/get": (step) => [
    "prompts/get",
    "--prompt-name",
    step.name,
    ...Object.entries(step.arguments ?? {}).flatMap(([name, value]) => ["--prompt-args", `${name}=${value}`]),
  ],
  setLevel: (step) => ["logging/setLevel", "--log-level", step.level],
};

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill()));

function inspect(target, words) {
  return new Promise((resolve, reject) => {
    const args = [launcher, "--cli", ...target, "--format", "json", "-q", "--method", ...words];
    const child = spawn(nodeFor(), args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, HOME: home } });
    running.add(child);
    let out = "";
    let err = "";
    child.stdout.on("data", (data) => (out += data));
    child.stderr.on("data", (data) => (err += data));
    child.on("error", reject);
    child.on("close", () => {
      running.delete(child);
      resolve(report(out, err));
    });
  });
}

function report(out, err) {
  const last = (text) => text.trim().split("\n").at(-1);
  try {
    if (out.trim()) return { ok: true, result: JSON.parse(last(out)).result };
    const { code, message } = JSON.parse(last(err)).error;
    return { ok: false, error: { code, message } };
  } catch {
    throw new Error(`the Inspector said nothing that can be read: ${out}${err}`);
  }
}

/** A TCP port on loopback that leads to a Unix socket. */
function relay(path) {
  return new Promise((resolve) => {
    const server = net.createServer((near) => {
      const far = net.connect(path);
      near.pipe(far).pipe(near);
      near.on("error", () => far.destroy());
      far.on("error", () => near.destroy());
    });
    server.unref();
    server.listen(0, "127.0.0.1", () => resolve(server.address().port));
  });
}

async function targetFor(endpoint, era) {
  const rest = era ? ["--protocol-era", era] : [];
  if (endpoint.stdio) {
    const [command, ...args] = endpoint.stdio;
    const config = join(home, "config.json");
    const env = { HOME: process.env.HOME, ...endpoint.env };
    const server = { type: "stdio", command, args, env, cwd: endpoint.cwd };
    writeFileSync(config, JSON.stringify({ mcpServers: { it: server } }));
    return ["--config", config, "--server", "it", ...rest];
  }
  if (endpoint.sse) return ["--server-url", endpoint.sse, "--transport", "sse", ...rest];
  const url = endpoint.http ?? `http://127.0.0.1:${await relay(endpoint.unix)}${endpoint.path ?? "/mcp"}`;
  return ["--server-url", url, "--transport", "http", ...rest];
}

function fill(value, variables) {
  return JSON.parse(
    JSON.stringify(value, (_, one) =>
      typeof one === "string" ? one.replace(/\$\{(\w+)\}/g, (text, name) => variables[name] ?? text) : one,
    ),
  );
}

async function run(target, step, variables) {
  const head = step.id === undefined ? { op: step.op } : { op: step.op, id: step.id };
  if (step.op === "parallel") {
    const steps = await Promise.all(step.steps.map((one) => run(target, one, variables)));
    return { ...head, ok: steps.every((one) => one.ok || one.skipped), steps };
  }
  const lacking = [step.needs ?? []].flat().filter((need) => LACKS.has(need));
  if (lacking.length) return { ...head, ok: false, skipped: `the Inspector's CLI has no ${lacking}` };
  if (!WORDS[step.op]) return { ...head, ok: false, skipped: `the Inspector's CLI has no ${step.op}` };
  return { ...head, ...(await inspect(target, WORDS[step.op](fill(step, variables)))) };
}

const { endpoint, steps, ordered, variables, options } = parseArguments(process.argv.slice(2), USAGE);
// The CLI keeps a catalog and a token store under HOME; neither is wanted, nor is the user's.
const home = mkdtempSync(join(tmpdir(), "inspector-"));
process.on("exit", () => rmSync(home, { recursive: true, force: true }));
setTimeout(() => {
  console.error(`driver: not finished after ${options.deadline} s`);
  process.exit(3);
}, options.deadline * 1000).unref();

const target = await targetFor(endpoint, options.era);
const opening = await inspect(target, ["initialize"]);
if (!opening.ok) throw new Error(`initialize: ${JSON.stringify(opening.error)}`);
const done = [];
// Nothing carries over from step to step but the backend's files; where there are none, three at
// a time, for the CLI takes two seconds to let go of a stdio server.
const place = steps.entries();
const worker = async () => {
  for (const [at, step] of place) done[at] = await run(target, step, variables);
};
await Promise.all(Array.from({ length: ordered ? 1 : 3 }, worker));
const document = {
  server: opening.result,
  negotiated: opening.result.protocolVersion,
  steps: done,
  requests: [],
  notifications: [],
  saved: {},
};
process.stdout.write(JSON.stringify(document, null, 1) + "\n", () => process.exit(0));
