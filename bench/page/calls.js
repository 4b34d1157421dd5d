// Measures calls in the page: the same function over a link, over a native WebSocket, and by `fetch`.
import { MultiWebSocket } from "/pkg/index.js";
import { rpc } from "/pkg/rpc.js";

const M = new MultiWebSocket("/multiplexer");

const callers = {
  link: rpc("/test/rpc/add", { WebSocket: M.WebSocket }),
  native: rpc("/test/rpc/add", { WebSocket }),
  fetch: async (left, right) => {
    const headers = { "content-type": "application/json" };
    const response = await fetch("/test/add", { method: "POST", headers, body: JSON.stringify([left, right]) });
    return (await response.json()).result;
  },
};

async function call(add, left, right) {
  if ((await add(left, right)) !== left + right) throw new Error("a wrong sum");
}

const workloads = {
  /** Makes one call after the other; returns times in milliseconds. */
  async latency(add, { calls }) {
    const times = [];
    for (let number = 0; number < calls; number++) {
      const start = performance.now();
      await call(add, number, 1);
      times.push(performance.now() - start);
    }
    times.sort((a, b) => a - b);
    return { p50: times[Math.floor(calls * 0.5)], p99: times[Math.floor(calls * 0.99)] };
  },

  /** Runs the given number of callers, each of which calls again when it has its answer. */
  async rate(add, { calls, callers: count }) {
    let begun = 0;
    const start = performance.now();
    const one = async () => {
      while (begun < calls) await call(add, begun++, 1);
    };
    await Promise.all(Array.from({ length: count }, one));
    return { rate: calls / ((performance.now() - start) / 1000) };
  },
};

globalThis.bench = (workload, name, options) => workloads[workload](callers[name], options);
