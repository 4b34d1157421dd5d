// Starts the servers of the benchmark.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
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
export const startServer = (target, site, more = [], env = {}) =>
  start(join(target, "release/manysocket-test-server"), ["--listen", "127.0.0.1:0", "--static", site, "--isolated", ...more], env);

/** Makes a certificate in a folder; returns the arguments with which the server uses it. */
export async function certificate(target, folder) {
  execFileSync(join(target, "release/manysocket-test-server"), ["--certificate", folder]);
  return ["--tls-cert", join(folder, "cert.pem"), "--tls-key", join(folder, "key.pem")];
}

/** Starts nginx before a server: it buffers answers, even those that ask it not to, and passes no handshakes of WebSockets on. */
export async function buffer(folder, upstream) {
  const free = createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address();
  free.close();
  const configuration = `daemon off; pid ${folder}/nginx.pid; error_log /dev/null; events {}
    http { access_log off; upstream server { server 127.0.0.1:${upstream}; keepalive 8; }
      server { listen 127.0.0.1:${port}; location / { proxy_pass http://server; proxy_http_version 1.1; proxy_ignore_headers X-Accel-Buffering;
        proxy_set_header Host $http_host; proxy_set_header Connection ""; } } }`;
  await writeFile(join(folder, "nginx.conf"), configuration);
  const nginx = spawn("nginx", ["-c", join(folder, "nginx.conf"), "-e", "/dev/null"], { stdio: "ignore" });
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const answered = await Promise.race([once(socket, "connect").then(() => true, () => false), once(nginx, "exit").then(() => null)]);
    socket.destroy();
    if (answered === null) throw new Error("nginx does not start");
    if (answered) return { port, stop: () => nginx.kill() };
    await new Promise((next) => setTimeout(next, 20));
  }
}
