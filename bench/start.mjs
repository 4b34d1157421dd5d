// Starts the servers of the benchmark.
import { spawn } from "node:child_process";
import { join } from "node:path";

/** Starts a program that prints where it listens. */
export function start(program, parameters, env = {}) {
  const child = spawn(program, parameters, { stdio: ["ignore", "pipe", "ignore"], env: { ...process.env, ...env } });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return new Promise((resolve, reject) => {
    let printed = "";
    child.stdout.on("data", (chunk) => {
      printed += chunk;
      const port = /listening on .*?(\d+)\n/.exec(printed)?.[1];
      if (port) resolve({ pid: child.pid, port: Number(port), ended, stop: () => child.kill("SIGKILL") });
    });
    child.once("error", reject).once("exit", (code) => reject(new Error(`${program} ended with code ${code}`)));
  });
}

/** The Rust server of native and virtual sockets. @param {string} target cargo's target directory */
export const startServer = (target, site, env) =>
  start(join(target, "release/manysocket-test-server"), ["--listen", "127.0.0.1:0", "--static", site, "--isolated"], env);
