// Under zone.js: our timers and listeners are in no zone of the page's, and a page's handlers run in the zone where they were added.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

/** Wraps timers and listeners as zone.js does. */
function install() {
  const root = { name: "root", pending: 0 };
  const run = (zone, act, self, args) => {
    const outer = Zone.current;
    Zone.current = zone;
    try {
      return Reflect.apply(act, self, args);
    } finally {
      Zone.current = outer;
    }
  };
  root.run = (act) => run(root, act, undefined, []);
  globalThis.Zone = { root, current: root };
  globalThis.fork = (name) => {
    const zone = { name, pending: new Set() };
    zone.run = (act) => run(zone, act, undefined, []);
    return zone;
  };
  const { setTimeout, clearTimeout } = globalThis;
  globalThis.setTimeout = (act, ...more) => {
    const zone = Zone.current;
    const id = setTimeout((...args) => {
      zone.pending.delete?.(id);
      run(zone, act, undefined, args);
    }, ...more);
    zone.pending.add?.(id);
    return id;
  };
  globalThis.zones = [];
  const inAll = (act) => zones.forEach(act);
  globalThis.clearTimeout = (id) => {
    inAll(({ pending }) => pending.delete(id));
    clearTimeout(id);
  };
  const { addEventListener } = EventTarget.prototype;
  globalThis.listened = [];
  EventTarget.prototype.addEventListener = function (type, listener, ...more) {
    const zone = Zone.current;
    listened.push(`${this.constructor.name} ${type} ${zone.name}`);
    const wrapped = typeof listener === "function" ? function (...args) { return run(zone, listener, this, args); } : listener;
    return addEventListener.call(this, type, wrapped, ...more);
  };
}

for (const kind of ["native", "virtual", "shared"]) {
  test(`${kind}: an idle socket leaves no timer in its zone, and handlers run in theirs`, async (t) => {
    const page = await world.openPage();
    t.after(() => page.close());
    await runInPage(page, install);
    const seen = await runInPage(page, async (kind) => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      const M = kind === "native" ? { WebSocket } : new MultiWebSocket("/multiplexer", { shared: kind === "shared" });
      const [app, other] = [fork("app"), fork("other")];
      zones.push(app, other);
      const seen = [];
      const socket = app.run(() => {
        const socket = new M.WebSocket("/demo/echo");
        socket.addEventListener("open", () => seen.push(`open ${Zone.current.name}`));
        return socket;
      });
      await new Promise((resolve) => Zone.root.run(() => socket.addEventListener("open", resolve)));
      other.run(() => socket.addEventListener("message", () => seen.push(`message ${Zone.current.name}`)));
      const answered = new Promise((resolve) => Zone.root.run(() => socket.addEventListener("message", resolve)));
      app.run(() => socket.send("x"));
      await answered;
      const idle = [app.pending.size, other.pending.size];
      const closed = new Promise((resolve) => Zone.root.run(() => socket.addEventListener("close", resolve)));
      app.run(() => socket.close());
      await closed;
      // Neither the physical socket nor a port listens in the page's zones.
      const inside = listened.filter((line) => !line.endsWith(" root") && !["open", "message"].includes(line.split(" ")[1]));
      const ports = listened.filter((line) => line.startsWith("MessagePort") && !line.endsWith(" root"));
      return { seen, idle, after: [app.pending.size, other.pending.size], inside, ports };
    }, kind);
    assert.deepEqual(seen, { seen: ["open app", "message other"], idle: [0, 0], after: [0, 0], inside: [], ports: [] });
  });
}

test("a timer without a purpose is cleared", async (t) => {
  const page = await world.openPage();
  t.after(() => page.close());
  const left = await runInPage(page, async () => {
    const running = new Map();
    const { setTimeout, clearTimeout } = globalThis;
    globalThis.setTimeout = (act, milliseconds) => {
      const id = setTimeout(() => {
        running.delete(id);
        act();
      }, milliseconds);
      running.set(id, milliseconds);
      return id;
    };
    globalThis.clearTimeout = (id) => {
      running.delete(id);
      clearTimeout(id);
    };
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer", { idleTimeout: Infinity });
    const socket = new M.WebSocket("/demo/echo");
    // The timer is set anew where a task's messages are sent: after the task of an event.
    const settled = async () => {
      for (let n = 0; n < 500 && [...running.values()].some((left) => left >= 100_000); n++) await new Promise((resolve) => setTimeout(resolve, 10));
      return [...running.values()];
    };
    await new Promise((resolve) => (socket.onopen = resolve));
    const open = await settled();
    socket.close();
    await new Promise((resolve) => (socket.onclose = resolve));
    const idle = await settled();
    M.close();
    await new Promise((resolve) => M.addEventListener("close", resolve));
    return { open, idle, closed: [...running.values()] };
  });
  // That of the server's pings is the only one: the answers to open and close have arrived.
  assert.ok(left.open.length === 1 && left.open[0] < 100_000, `${left.open}`);
  assert.ok(left.idle.length === 1 && left.idle[0] < 100_000, `${left.idle}`);
  assert.deepEqual(left.closed, []);
});
