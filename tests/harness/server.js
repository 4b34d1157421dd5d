// Runs a server for a test: on a free port, stopped by SIGTERM.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./site.js";

/** The shipped server, and the test server (tests/server). */
const programs = {
  shipped: process.env.MANYSOCKET_SERVER ?? `${repository}target/debug/manysocket-server`,
  test: process.env.MANYSOCKET_TEST_SERVER ?? `${repository}target/debug/manysocket-test-server`,
};

// Far longer than a start takes; it ends a test whose server hangs.
const PATIENCE = 60_000;

/**
 * Starts the server on a site and waits until it listens.
 * @param {string} site the folder to serve
 * @param {{ kind?: "shipped" | "test", listen?: string, more?: string[], within?: string[] }} [options] `more`: further arguments;
 *   `within`: a program with arguments that executes the server
 */
export async function startServer(site, { kind = "shipped", listen = "127.0.0.1:0", more = [], within = [] } = {}) {
  const [program, ...words] = [...within, programs[kind], "--listen", listen, "--static", site, ...more];
  const server = await startProgram(program, words);
  return {
    ...server,
    /** Returns its counts of open connections: `{ physical, native, virtual }`. */
    stats: async () => (await fetch(`${server.origin}/demo/stats`)).json(),
  };
}

/** Makes a certificate for `localhost` in a folder; returns the arguments with which a server uses it. */
export function makeCertificate(folder) {
  execFileSync(programs.test, ["--certificate", folder]);
  return ["--tls-cert", join(folder, "cert.pem"), "--tls-key", join(folder, "key.pem")];
}

/** Starts a program and waits until it prints its address. */
export async function startProgram(program, words, options = {}) {
  if (program.startsWith("/") && !existsSync(program)) {
    throw new Error(`${program} is not there: run \`cargo build\`, or these tests by \`cargo xtask test\``);
  }
  const child = spawn(program, words, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const listening = new Promise((resolve, reject) => {
    const read = (chunk) => {
      output += chunk;
      const line = /listening on ((?:https?|ws):\/\/[^\s/]+)/.exec(output);
      if (line) resolve(line[1]);
    };
    child.stdout.setEncoding("utf8").on("data", read);
    child.stderr.setEncoding("utf8").on("data", read);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the server ended with code ${code}:\n${output}`)));
    setTimeout(() => reject(new Error(`the server does not listen:\n${output}`)), PATIENCE).unref();
  });
  let origin;
  try {
    origin = await listening;
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
  return {
    /** Its address as an origin: `http://127.0.0.1:49152`. */
    origin,
    /** Returns all its output so far, including its log. */
    output: () => output,
    /** Returns its resident memory in bytes (Linux). */
    memory: () => 1024 * /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))[1],
    /** Stops the process with its connections open, until `resume()`; to others the network seems to be gone. */
    pause: () => child.kill("SIGSTOP"),
    resume: () => child.kill("SIGCONT"),
    /** Kills it, as a crash would. */
    async kill() {
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await exit;
    },
    /** Stops it with SIGTERM; returns its exit code. */
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const exit = once(child, "exit");
      child.kill("SIGTERM");
      const forced = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
      const [code] = await exit;
      clearTimeout(forced);
      return code;
    },
  };
}
