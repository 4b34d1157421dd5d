// Runs Firefox for a test by WebDriver BiDi, which Firefox serves over a WebSocket.
// https://w3c.github.io/webdriver-bidi/
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";

/** The browser's program that `cargo xtask test` found; null if there is none. */
export const firefox = [process.env.FIREFOX, "/usr/bin/firefox-esr", "/usr/bin/firefox"].find((path) => path && existsSync(path)) ?? null;

// No requests to its vendor, and no welcome pages.
const PREFERENCES = {
  "app.normandy.enabled": false,
  "app.update.disabledForTesting": true,
  "browser.aboutwelcome.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.homepage_override.mstone": "ignore",
  "datareporting.policy.dataSubmissionEnabled": false,
  "extensions.update.enabled": false,
  // After a refused handshake, Firefox would wait before it connects again (RFC 6455 §7.2.3).
  "network.websocket.delay-failed-reconnects": false,
  "services.settings.server": "data:,",
  "toolkit.telemetry.reportingpolicy.firstRun": false,
};

// Far longer than a start takes; it ends a test whose browser hangs.
const PATIENCE = 60_000;

/** Starts the browser, in a separate profile. */
export async function startFirefox() {
  const profile = await mkdtemp(join(tmpdir(), "manysocket-firefox-"));
  const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
  await writeFile(join(profile, "user.js"), lines.join(""));
  const words = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"];
  const child = spawn(firefox, words, { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const command = await connect(await addressOf(child));
    await command("session.new", { capabilities: { alwaysMatch: { acceptInsecureCerts: true } } });
    return {
      openPage: (url) => openPage(command, url),
      async close() {
        await command("browser.close", {});
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Reads the browser's address from its output. */
async function addressOf(child) {
  let output = "";
  return new Promise((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (chunk) => {
      output += chunk;
      const line = /WebDriver BiDi listening on (\S+)/.exec(output);
      if (line) resolve(line[1]);
    });
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`Firefox ended with code ${code}:\n${output}`)));
    setTimeout(() => reject(new Error(`Firefox does not listen:\n${output}`)), PATIENCE).unref();
  });
}

/** Connects; returns a function that sends a command and resolves with its result. */
async function connect(address) {
  const socket = new WebSocket(`${address}/session`);
  await once(socket, "open");
  const waiting = new Map();
  socket.on("message", (text) => {
    const { id, type, result, error, message } = JSON.parse(text);
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (type === "success") resolve?.(result);
    else reject?.(new Error(`${error}: ${message}`));
  });
  socket.on("close", () => {
    for (const { reject } of waiting.values()) reject(new Error("Firefox has ended"));
  });
  let last = 0;
  return (method, params) => {
    const id = ++last;
    socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  };
}

async function openPage(command, url) {
  const { context } = await command("browsingContext.create", { type: "tab" });
  await command("browsingContext.navigate", { context, url, wait: "complete" });
  return {
    /** Runs a function in the page and returns its result as plain data, as Playwright's `evaluate` does. */
    async evaluate(code, argument) {
      const { type, result, exceptionDetails } = await command("script.callFunction", {
        functionDeclaration: `async (argument) => JSON.stringify(await (${code})(JSON.parse(argument)))`,
        arguments: [{ type: "string", value: JSON.stringify(argument ?? null) }],
        awaitPromise: true,
        target: { context },
      });
      if (type === "exception") throw new Error(exceptionDetails.text);
      return result.value === undefined ? undefined : JSON.parse(result.value);
    },
    goto: (url) => command("browsingContext.navigate", { context, url, wait: "complete" }),
    /** Goes back by one entry of the history. */
    back: () => command("browsingContext.traverseHistory", { context, delta: -1 }),
    close: () => command("browsingContext.close", { context }),
  };
}
