// Uses of a socket that client libraries, wrappers and instrumentation make: listeners that change during dispatch, wrapped classes and
// objects, events that are kept, cloned and dispatched again, and names that JavaScript's own objects have.
import { about, event, fired, later, outcome, record, show } from "../log.js";

/** Names that objects, functions and events have without anybody's doing. */
const INHERITED = ["__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "valueOf", "__defineGetter__", "length"];

async function opened(WebSocket, url, path = "/echo") {
  const socket = new WebSocket(url(path));
  await fired(socket, "open");
  return socket;
}

/** Echoes a text and returns the event. */
async function echoed(socket, text) {
  socket.send(text);
  return fired(socket, "message");
}

export const cases = {
  "names of prototypes as texts, protocols and reasons": about("receiving", async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    for (const name of INHERITED) log(show((await echoed(socket, name)).data));
    socket.close();
    for (const name of INHERITED) {
      const chosen = new WebSocket(url(`/protocol?choose=${name}`), INHERITED);
      await fired(chosen, "open");
      log(show(chosen.protocol));
      chosen.close(3000, name);
      log(event(await fired(chosen, "close")));
    }
  }),
  "names of prototypes in URLs, and as types of events": async ({ WebSocket, url, log }) => {
    for (const name of INHERITED) {
      const socket = await opened(WebSocket, url, `/echo?${name}=${name}&${name}`);
      log(show(socket.url));
      socket.addEventListener(name, (e) => log(`${e.type} is called`));
      log(show(socket.dispatchEvent(new Event(name))));
      socket.close();
      await fired(socket, "close");
    }
  },
  "a handler that sets itself to null": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=6"));
    socket.onopen = () => { socket.onopen = null; log(show(socket.onopen)); };
    socket.onmessage = ({ data }) => { log(`handler ${data}`); if (Number(data) === 2) socket.onmessage = null; };
    for (let n = 0; n < 6; n++) log(`listener ${(await fired(socket, "message")).data}`);
    socket.onclose = (e) => { log(show(e.code)); socket.onclose = null; };
    socket.close();
    await fired(socket, "close");
    log(show([socket.onopen, socket.onmessage, socket.onclose]));
  },
  "a handler that sets another": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=4"));
    const steps = ["a", "b", "c", "d"].map((name, n, all) => (e) => {
      log(`${name} ${e.data}`);
      socket.onmessage = steps[n + 1] ?? null;
      return all;
    });
    socket.onmessage = steps[0];
    for (let n = 0; n < 4; n++) await fired(socket, "message");
    socket.close();
  },
  "listeners that are added and removed during dispatch": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=3"));
    const late = ({ data }) => log(`late ${data}`);
    const victim = ({ data }) => log(`victim ${data}`);
    const controller = new AbortController();
    socket.addEventListener("message", ({ data }) => {
      log(`first ${data}`);
      socket.addEventListener("message", late);
      if (Number(data) !== 1) return;
      socket.removeEventListener("message", victim);
      controller.abort();
    });
    socket.addEventListener("message", victim);
    socket.addEventListener("message", ({ data }) => log(`aborted ${data}`), { signal: controller.signal, once: false, passive: true });
    socket.addEventListener("message", () => log("never"), { signal: AbortSignal.abort() });
    for (let n = 0; n < 3; n++) await fired(socket, "message");
    socket.close();
  },
  "a listener is added once for each phase, and removed by what names it": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    const listener = (e) => log(`called in phase ${e.eventPhase}`);
    for (const options of [undefined, false, {}, { once: true }, true, { capture: true }, { passive: true }]) {
      log(outcome(() => socket.addEventListener("message", listener, options)));
    }
    await echoed(socket, "1");
    socket.removeEventListener("message", listener, { capture: true });
    await echoed(socket, "2");
    socket.removeEventListener("message", listener);
    await echoed(socket, "3");
    for (const wrong of [null, undefined, 5, "x", Symbol("s"), {}]) {
      log(outcome(() => socket.addEventListener("message", wrong)));
      log(outcome(() => socket.removeEventListener("message", wrong)));
    }
    log(outcome(() => socket.addEventListener("message")));
    socket.close();
  },
  "an object's handleEvent is looked up at each event, and called on it": async ({ WebSocket, url, log, scope }) => {
    const reported = [];
    const report = (e) => { reported.push(e.type); e.preventDefault(); };
    scope.addEventListener("error", report);
    const socket = await opened(WebSocket, url);
    const listener = {
      get handleEvent() {
        log("looked up");
        return function (e) { log(show([this === listener, e.currentTarget === socket, e.data])); };
      },
    };
    const changing = { handleEvent: () => log("one") };
    for (const object of [listener, changing, { handleEvent: 5 }, {}]) socket.addEventListener("message", object);
    await echoed(socket, "1");
    changing.handleEvent = () => log("two");
    await echoed(socket, "2");
    await later(10);
    scope.removeEventListener("error", report);
    log(show(reported));
    socket.close();
  },
  "a handler that rejects": async ({ WebSocket, url, log, scope }) => {
    const rejected = new Promise((resolve) => {
      scope.addEventListener("unhandledrejection", (e) => { e.preventDefault(); resolve(e.reason); }, { once: true });
    });
    const socket = await opened(WebSocket, url);
    socket.onmessage = async ({ data }) => { await null; throw new RangeError(`mine ${data}`); };
    socket.send("x");
    const reason = await rejected;
    log(show([reason instanceof RangeError, reason.message]));
    socket.onmessage = null;
    log(show((await echoed(socket, "goes on")).data));
    socket.close();
  },
  "what a handler returns does nothing": async ({ WebSocket, url, log }) => {
    for (const value of [false, true, "text", 0, null]) {
      const socket = new WebSocket(url("/echo"));
      for (const type of ["open", "message", "error", "close"]) {
        socket[`on${type}`] = () => value;
        socket.addEventListener(type, (e) => log(show([type, e.defaultPrevented, e.returnValue, e.cancelable])));
      }
      await fired(socket, "open");
      await echoed(socket, "x");
      socket.close();
      await fired(socket, "close");
    }
  },
  "what an event says during its dispatch and after it": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    const say = (e) => show([e.type, e.target === socket, e.srcElement === socket, e.currentTarget === socket, e.composedPath().length, e.eventPhase, e.bubbles, e.cancelable, e.composed, e.cancelBubble, e.returnValue]);
    const kept = [];
    for (const type of ["open", "message", "close"]) {
      socket.addEventListener(type, (e) => {
        log(say(e));
        e.preventDefault();
        e.stopPropagation();
        log(say(e));
        kept.push(e);
      });
    }
    await fired(socket, "open");
    await echoed(socket, "x");
    socket.close();
    await fired(socket, "close");
    await later();
    for (const e of kept) log(say(e));
    // docs/differences.md: `isTrusted`.
    for (const e of kept) log(show([Object.keys(e).filter((name) => name !== "isTrusted"), Object.getOwnPropertyNames(e), String(e), Object.isExtensible(e)]));
  },
  "times of events rise, and are those of the realm's clock": async ({ WebSocket, url, log }) => {
    const begin = performance.now();
    const socket = new WebSocket(url("/burst?count=5"));
    const times = [begin];
    for (const type of ["open", "message", "close"]) socket.addEventListener(type, (e) => times.push(e.timeStamp));
    for (let n = 0; n < 5; n++) await fired(socket, "message");
    socket.close();
    await fired(socket, "close");
    times.push(performance.now());
    // Clocks are rounded.
    log(show(times.map((time, n) => n === 0 || time >= times[n - 1] - 1)));
  },
  "an event is dispatched again, elsewhere and during its dispatch": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    const other = new EventTarget();
    other.addEventListener("message", (e) => log(show(["other", e.data, e.target === other, e.isTrusted])));
    socket.addEventListener("message", (e) => log(outcome(() => other.dispatchEvent(e))), { once: true });
    const message = await echoed(socket, "x");
    await later();
    log(outcome(() => other.dispatchEvent(message)));
    socket.addEventListener("message", (e) => log(show(["again", e.data])));
    log(outcome(() => socket.dispatchEvent(message)));
    socket.close();
    const close = await fired(socket, "close");
    await later();
    other.addEventListener("close", (e) => log(show([e.code, e.wasClean, e.target === other])));
    log(outcome(() => other.dispatchEvent(close)));
  },
  "properties of events": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    const message = await echoed(socket, "x");
    for (const name of ["data", "origin", "type", "target", "ports"]) {
      log(outcome(() => { message[name] = 5; }));
      log(outcome(() => Reflect.set(message, name, 5)));
    }
    message.extra = { a: 1 };
    log(show([message.data, message.extra, Object.keys(message).length, "data" in message, Object.hasOwn(message, "data")]));
    log(outcome(() => Object.defineProperty(message, "data", { value: "patched" }).data));
    log(show([message.data, { ...message }.data, Object.prototype.toString.call(message)]));
    log(outcome(() => structuredClone(message)));
    socket.close();
  },
  "the event that a window is about": async ({ WebSocket, url, log, scope }) => {
    const socket = new WebSocket(url("/echo"));
    for (const type of ["open", "message", "close"]) socket.addEventListener(type, (e) => log(show([type, scope.event === e])));
    await fired(socket, "open");
    await echoed(socket, "x");
    socket.close();
    await fired(socket, "close");
    await later();
    log(show(typeof scope.event));
  },
  "cloning and sending a socket fails": async ({ WebSocket, url, log, scope }) => {
    const socket = await opened(WebSocket, url);
    log(outcome(() => structuredClone(socket)));
    log(outcome(() => structuredClone({ inner: [socket] })));
    log(outcome(() => new MessageChannel().port1.postMessage(socket)));
    log(outcome(() => structuredClone(1, { transfer: [socket] })));
    log(outcome(() => JSON.stringify({ socket })));
    log(outcome(() => ({ ...socket })));
    log(outcome(() => Object.assign({}, socket)));
    log(show([`${socket}`, socket + "", Object.entries(socket), Reflect.ownKeys(socket)]));
    log(show([typeof socket, new Map([[socket, 1]]).get(socket), new WeakMap([[socket, 1]]).get(socket), typeof scope.WebSocket]));
    socket.close();
  },
  "a frozen, sealed or extended socket": about("sending", async ({ WebSocket, url, log }) => {
    for (const act of [Object.freeze, Object.seal, Object.preventExtensions, (socket) => Object.assign(socket, { send: undefined, id: 1 })]) {
      const socket = new WebSocket(url("/echo"));
      log(outcome(() => act(socket) === socket));
      socket.onopen = () => log("open");
      socket.binaryType = "arraybuffer";
      await fired(socket, "open");
      WebSocket.prototype.send.call(socket, Uint8Array.of(7));
      log(show((await fired(socket, "message")).data));
      log(outcome(() => { socket.more = 1; }));
      socket.close();
      log(event(await fired(socket, "close")));
    }
  }),
  "a proxy around a socket, and an object that inherits from one": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    for (const wrapped of [new Proxy(socket, {}), Object.create(socket)]) {
      log(show([wrapped instanceof WebSocket, Object.getPrototypeOf(wrapped) === WebSocket.prototype, "send" in wrapped]));
      for (const name of ["url", "readyState", "onmessage", "binaryType", "bufferedAmount"]) log(outcome(() => wrapped[name]));
      log(outcome(() => wrapped.send("x")));
      log(outcome(() => wrapped.close()));
      log(outcome(() => { wrapped.onmessage = () => {}; }));
      log(outcome(() => wrapped.addEventListener("message", () => {})));
      log(show([wrapped.OPEN, wrapped.constructor.CLOSED]));
    }
    const bound = new Proxy(socket, {
      get(target, name) {
        const value = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
      set: (target, name, value) => Reflect.set(target, name, value),
    });
    log(show([bound.readyState, bound.protocol, bound.url === socket.url]));
    bound.onmessage = ({ data, target }) => log(show([data, target === socket, target === bound]));
    bound.send("by the proxy");
    await fired(bound, "message");
    bound.close(3001, "by the proxy");
    log(event(await fired(bound, "close")));
  },
  "a proxy around the class, as interceptors make one": about("identity", async ({ WebSocket, url, log }) => {
    const made = [];
    const Wrapped = new Proxy(WebSocket, {
      construct(target, all, newTarget) {
        log(show([all.length, newTarget === Wrapped]));
        const socket = Reflect.construct(target, all, newTarget);
        made.push(socket);
        return socket;
      },
    });
    class Heir extends Wrapped {}
    for (const Class of [Wrapped, Heir]) {
      const socket = new Class(url("/echo"), []);
      log(show([socket instanceof Class, socket instanceof WebSocket, socket.constructor === WebSocket, Class.OPEN, Class.length]));
      await fired(socket, "open");
      log(show((await echoed(socket, "x")).data));
      socket.close();
    }
    log(show(made.length));
  }),
  "a class whose constructor returns another object": async ({ WebSocket, url, log }) => {
    class Returns extends WebSocket {
      constructor(...all) {
        super(...all);
        return { inner: this };
      }
    }
    const { inner } = new Returns(url("/echo"));
    await fired(inner, "open");
    log(show((await echoed(inner, "x")).data));
    inner.close();
    class Early extends WebSocket {
      constructor(...all) {
        log(outcome(() => this));
        super(...all);
        log(outcome(() => super.url === this.url));
        log(outcome(() => super.send("early")));
      }
    }
    new Early(url("/echo")).close();
  },
  "a subclass that overrides what events go through": about("sending", async ({ WebSocket, url, log }) => {
    class Noisy extends WebSocket {
      dispatchEvent(e) { log(`dispatchEvent ${e.type}`); return super.dispatchEvent(e); }
      addEventListener(...all) { log(`addEventListener ${all[0]}`); super.addEventListener(...all); }
      get readyState() { return 10 + super.readyState; }
      get binaryType() { return "arraybuffer"; }
      set onmessage(value) { log("onmessage is set"); super.onmessage = value; }
      get onmessage() { return super.onmessage; }
      close(...all) { log("close"); super.close(...all); }
    }
    const socket = new Noisy(url("/echo"));
    socket.onmessage = ({ data }) => log(show(data instanceof Blob));
    await fired(socket, "open");
    log(show([socket.readyState, socket.binaryType]));
    socket.send(Uint8Array.of(1));
    await fired(socket, "message");
    socket.close();
    await fired(socket, "close");
    log(show(socket.readyState));
  }),
  "properties of a socket's own hide the prototype's": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    Object.defineProperty(socket, "onmessage", { set(value) { log("set"); this.addEventListener("message", (e) => value({ data: `<${e.data}>` })); }, configurable: true });
    socket.onmessage = ({ data }) => log(data);
    const { send } = socket;
    socket.send = function (data) { send.call(this, `[${data}]`); };
    socket.send("x");
    await fired(socket, "message");
    for (const name of ["dispatchEvent", "addEventListener", "removeEventListener"]) socket[name] = () => log(`${name} of its own`);
    socket.onclose = () => log("close");
    socket.send("y");
    await new Promise((resolve) => EventTarget.prototype.addEventListener.call(socket, "message", resolve));
    delete socket.send;
    socket.close();
    await new Promise((resolve) => EventTarget.prototype.addEventListener.call(socket, "close", resolve));
  },
  "methods that are replaced on the prototype, and put back": async ({ WebSocket, url, log }) => {
    const { send, close } = WebSocket.prototype;
    const getter = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
    try {
      WebSocket.prototype.send = function (data) { log(`send ${data}`); return send.apply(this, arguments); };
      WebSocket.prototype.close = function () { log("close"); return close.apply(this, arguments); };
      Object.defineProperty(WebSocket.prototype, "onmessage", {
        ...getter,
        set(value) { getter.set.call(this, value && ((e) => { log("wrapped"); value.call(this, e); })); },
      });
      const socket = await opened(WebSocket, url);
      socket.onmessage = function (e) { log(show([this === socket, e.data])); };
      await echoed(socket, "x");
      socket.onmessage = null;
      await echoed(socket, "y");
      socket.close(3002);
      log(event(await fired(socket, "close")));
    } finally {
      Object.assign(WebSocket.prototype, { send, close });
      Object.defineProperty(WebSocket.prototype, "onmessage", getter);
    }
    log(show(Object.keys(WebSocket.prototype).sort()));
  },
  "methods without their socket, and those of another": async ({ WebSocket, url, log }) => {
    const [socket, other] = [await opened(WebSocket, url), await opened(WebSocket, url)];
    const { send, close, addEventListener } = socket;
    log(outcome(() => send("x")));
    log(outcome(() => close()));
    for (const act of [() => send.call(other, "x"), () => send.bind(other)("y"), () => Reflect.apply(send, other, ["z"]), () => [..."ab"].forEach(other.send, other)]) {
      log(outcome(act));
      log(show((await fired(other, "message")).data));
    }
    // Its second echo.
    await fired(other, "message");
    log(outcome(() => addEventListener.call(other, "close", () => log("closed"))));
    close.call(other, 3003);
    log(event(await fired(other, "close")));
    log(show(socket.readyState));
    socket.close();
  },
  "send and close in each handler": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    socket.onopen = () => {
      for (const text of ["a", "b"]) log(outcome(() => socket.send(text)));
    };
    let messages = 0;
    socket.onmessage = ({ data }) => {
      log(show([data, socket.readyState]));
      if (++messages < 4) socket.send(data + data);
      else socket.close(3000, "enough");
      log(show(socket.readyState));
    };
    socket.onclose = (e) => {
      log(event(e));
      log(outcome(() => socket.send("late")));
      log(outcome(() => socket.close(4000, "again")));
      log(show([socket.readyState, socket.bufferedAmount > 0, socket.url === url("/echo"), socket.protocol]));
      log(outcome(() => { socket.binaryType = "arraybuffer"; }));
      log(show(socket.binaryType));
    };
    await fired(socket, "close");
    const refused = record(new WebSocket(url("/refuse?status=403")), log);
    refused.onerror = () => {
      log(outcome(() => refused.close()));
      log(outcome(() => refused.send("x")));
    };
    refused.onclose = () => log(outcome(() => refused.close(3000)));
    await fired(refused, "close");
  },
  "microtasks and tasks around open and close": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    queueMicrotask(() => log(show(["microtask of the constructor", socket.readyState])));
    socket.addEventListener("open", () => {
      log("open");
      queueMicrotask(() => log(show(["microtask of open", socket.readyState])));
      socket.close();
      queueMicrotask(() => log(show(["microtask of close()", socket.readyState])));
    });
    socket.addEventListener("close", () => {
      log("close");
      queueMicrotask(() => log(show(["microtask of close", socket.readyState])));
    });
    await fired(socket, "close");
    await later();
  },
  "a socket is chosen by a race, and losers are closed": async ({ WebSocket, url, log }) => {
    const sockets = ["/echo", "/late?milliseconds=2000", "/late?milliseconds=3000"].map((path) => new WebSocket(url(path)));
    const winner = await Promise.race(sockets.map(async (socket) => (await fired(socket, "open"), socket)));
    log(show(sockets.indexOf(winner)));
    const ends = sockets.slice(1).map((socket) => {
      const end = fired(socket, "close");
      socket.onopen = () => log("a loser has opened");
      socket.close(4000, "lost");
      return end;
    });
    log(show((await echoed(winner, "won")).data));
    for (const end of await Promise.all(ends)) log(event(end));
    winner.close();
  },
  "what is received goes into the realm's other interfaces": about("receiving", async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    const blob = (await echoed(socket, new TextEncoder().encode("grüße"))).data;
    log(show([await blob.text(), await blob.slice(0, 3).text(), await new Response(blob).text(), (await new Response(blob.stream()).arrayBuffer()).byteLength]));
    const address = URL.createObjectURL?.(blob);
    if (address) log(show(await (await fetch(address)).text()));
    if (address) URL.revokeObjectURL(address);
    log(show([structuredClone(blob).size, await new Blob([blob, blob]).text(), new File([blob], "name").size]));
    socket.send(blob);
    log(show(await (await fired(socket, "message")).data.text()));
    socket.binaryType = "arraybuffer";
    const buffer = (await echoed(socket, new Uint8Array(40).fill(65))).data;
    log(show([new DataView(buffer).getUint16(2), new Float64Array(buffer).length, new TextDecoder().decode(buffer).length, buffer instanceof ArrayBuffer]));
    const { port1, port2 } = new MessageChannel();
    port1.postMessage(buffer, [buffer]);
    const moved = await new Promise((resolve) => { port2.onmessage = (e) => resolve(e.data); });
    log(show([moved, buffer.byteLength]));
    socket.send(moved);
    log(show((await fired(socket, "message")).data));
    port1.close();
    socket.close();
  }),
  "what senders give": about("sending", async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    socket.binaryType = "arraybuffer";
    for (const [name, make] of Object.entries({
      parameters: () => new URLSearchParams("a=1&b=2"), url: () => new URL("http://x/y"), form: () => new FormData(), file: () => new File(["abc"], "name", { type: "text/plain" }),
      typed: () => new Float32Array([1, 2]), words: () => new BigUint64Array([1n]), clamped: () => new Uint8ClampedArray([300]), error: () => new Error("text"), map: () => new Map([[1, 2]]), nothing: () => undefined, regexp: () => /x/g, "boxed text": () => new String("boxed"), arguments: () => (function () { return arguments; })(1, 2),
    })) {
      socket.send(make());
      log(`${name} ${show((await fired(socket, "message")).data)}`);
    }
    socket.close();
  }),
};
