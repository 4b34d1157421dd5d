// The wasm module without the npm package around it: what `wasm-pack build --target web` makes, as wasm-bindgen writes it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { makeSite, repository, runInPage, startWorld } from "../harness/index.js";

const site = await makeSite();
await cp(join(repository, "target/bindings/out"), join(site, "module"), { recursive: true });
const world = await startWorld({ site });
after(() => world.close());

test("the module exports the three classes, ready after its init", async () => {
  const page = await world.openPage();
  const seen = await runInPage(page, async () => {
    const { default: init, MultiWebSocket, JsonWebSocket, RelativeWebSocket } = await import("/module/manysocket.js");
    let early;
    try {
      new MultiWebSocket("/multiplexer");
    } catch (error) {
      early = error.name;
    }
    await init({ module_or_path: "/module/manysocket_bg.wasm" });
    const M = new MultiWebSocket("/multiplexer");
    const echo = (socket, message) =>
      new Promise((resolve, reject) => {
        socket.onopen = () => socket.send(message);
        socket.onmessage = ({ data }) => resolve(data);
        socket.onerror = reject;
      });
    const socket = new M.WebSocket("demo/echo");
    const result = {
      early,
      texts: await Promise.all([
        echo(socket, "grüße"),
        echo(new M.RelativeWebSocket("echo", { base: "/demo/" }), "relative"),
        echo(new M.JsonWebSocket("demo/echo"), { a: [1, null] }),
        echo(new RelativeWebSocket("demo/echo"), "native"),
        echo(new JsonWebSocket("demo/echo"), [true]),
      ]),
      kinds: [M instanceof MultiWebSocket, M instanceof EventTarget, socket instanceof M.WebSocket, new RelativeWebSocket("demo/echo") instanceof WebSocket],
      size: M.size,
      channels: (await M.inspect()).channels.length,
    };
    const closed = new Promise((resolve) => (socket.onclose = resolve));
    socket.close(3000, "done");
    const { code, reason, wasClean } = await closed;
    return { ...result, close: [code, reason, wasClean] };
  });
  assert.deepEqual(seen, {
    early: "TypeError",
    texts: ["grüße", "relative", { a: [1, null] }, "native", [true]],
    kinds: [true, true, true, true],
    size: 3,
    channels: 3,
    close: [3000, "done", true],
  });
  const { physical, virtual } = await world.server.stats();
  assert.deepEqual({ physical, virtual }, { physical: 1, virtual: 2 });
  assert.deepEqual(page.uncaught, []);
  await page.close();
});

test("calls, documents and topics load their code from the module's files", async () => {
  const page = await world.openPage();
  const seen = await runInPage(page, async () => {
    const { default: init, MultiWebSocket } = await import("/module/manysocket.js");
    await init({ module_or_path: "/module/manysocket_bg.wasm" });
    const M = new MultiWebSocket("/multiplexer");
    const topic = await M.topic("/demo/topics/classes");
    const heard = new Promise((resolve) => topic.addEventListener("message", ({ data }) => resolve(data)));
    await topic.publish("news");
    return [await M.rpc("/demo/rpc/add")(2, 3), (await M.state("/demo/state/classes")).version, await heard];
  });
  assert.deepEqual(seen, [5, 0, "news"]);
  await page.close();
});

test("a page without the shared worker's script has a separate link", async () => {
  const page = await world.openPage();
  const text = await runInPage(page, async () => {
    const { default: init, MultiWebSocket } = await import("/module/manysocket.js");
    await init({ module_or_path: "/module/manysocket_bg.wasm" });
    const M = new MultiWebSocket("/multiplexer", { shared: true });
    const socket = new M.WebSocket("demo/echo");
    socket.onopen = () => socket.send("alone");
    return new Promise((resolve, reject) => {
      socket.onmessage = ({ data }) => resolve(data);
      socket.onclose = reject;
    });
  });
  assert.equal(text, "alone");
  await page.close();
});

test("the module's types are those of the npm package", async () => {
  const program = join(site, "module/program.ts");
  await writeFile(
    program,
    `import init, { JsonWebSocket, MultiWebSocket, RelativeWebSocket } from "./manysocket.js";
    await init({ module_or_path: "/module/manysocket_bg.wasm" });
    const M = new MultiWebSocket("/multiplexer", { idleTimeout: 1000 });
    const socket: WebSocket = new M.WebSocket("/demo/echo");
    new JsonWebSocket<{ a: number }>("/demo/echo").send({ a: 1 });
    new RelativeWebSocket("echo", undefined, { base: socket });
    const sum: number = await (await M.rpc<(left: number, right: number) => number>("/demo/rpc/add"))(2, 3);
    const version: number = (await M.state<{ a: number }>("/demo/state/classes")).version;
    const published: number | null = await (await M.topic("/demo/topics/classes")).publish(\`\${sum + version}\`);
    // @ts-expect-error: a text is no number
    (await M.rpc<(left: number, right: number) => number>("/demo/rpc/add"))("2", 3);
    // @ts-expect-error: a number is no URL
    new MultiWebSocket(1);
    `,
  );
  const options = ["--strict", "--noEmit", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--lib", "es2022,dom"];
  execFileSync(process.execPath, [join(repository, "tests/node_modules/typescript/bin/tsc"), ...options, program], { stdio: "inherit" });
});
