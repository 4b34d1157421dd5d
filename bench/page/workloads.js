// The workloads in the page. Each function accepts a contestant and returns figures; times are in milliseconds.
const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

/** Opens `count` sockets in one task. */
async function openAll(who, count, path = "/echo") {
  return Promise.all(Array.from({ length: count }, () => who.open(path)));
}

async function closeAll(who, sockets) {
  await Promise.all(sockets.map((socket) => who.close(socket)));
}

/** Measures the time until `count` sockets are open, including the dial of the link, or over an open link (`warm`). */
export async function opening(who, { count, warm = false }) {
  await who.end();
  const first = warm ? await who.open("/echo") : null;
  const start = performance.now();
  const sockets = await openAll(who, count);
  const elapsed = performance.now() - start;
  await closeAll(who, first === null ? sockets : [...sockets, first]);
  return { ms: elapsed };
}

/** Sends one message at a time; with `pause`, each so many milliseconds after the echo of the one before, when everybody sleeps. */
export async function pingPong(who, { rounds, pause = 0 }) {
  const socket = await who.open("/echo");
  const times = [];
  for (let round = 0; round < rounds; round++) {
    if (pause > 0) await new Promise((next) => setTimeout(next, pause));
    const start = performance.now();
    await new Promise((resolve) => {
      socket.onmessage = resolve;
      socket.send("ping");
    });
    times.push(performance.now() - start);
  }
  await who.close(socket);
  times.sort((a, b) => a - b);
  return { p50: percentile(times, 0.5), p99: percentile(times, 0.99), messages: rounds };
}

/** Makes a message of the given number of bytes: ASCII text, or binary. */
const message = (size, binary) => (binary ? new Uint8Array(size).fill(7) : "x".repeat(size));

/** Reads a message's content, as real handlers do: the client cuts binary data out of its batch on the first access. */
function check(data, size) {
  if ((data.length ?? data.byteLength) !== size) throw new Error(`expected ${size} bytes, got ${data}`);
  return true;
}

/** Measures the first `messages` of a page that has just loaded, one at a time: code that no compiler has looked at yet. */
export async function cold(who, { messages }) {
  const socket = await who.open("/echo");
  const start = performance.now();
  for (let left = messages; left > 0; left--) {
    await new Promise((resolve) => {
      socket.onmessage = resolve;
      socket.send("ping");
    });
  }
  const elapsed = performance.now() - start;
  await who.close(socket);
  return { ms: elapsed };
}

/** Echoes `messages` over `sockets`, each of which keeps `depth` in flight, beside `idle` ones that are only open. */
export async function echo(who, { sockets, messages, size, depth, binary = false, idle = 0 }) {
  const others = await openAll(who, idle);
  const open = await openAll(who, sockets);
  const data = message(size, binary);
  let sent = 0;
  let received = 0;
  const start = performance.now();
  await new Promise((resolve) => {
    for (const socket of open) {
      socket.onmessage = ({ data: answer }) => {
        check(answer, size);
        if (++received === messages) resolve();
        else if (sent < messages) {
          sent++;
          socket.send(data);
        }
      };
    }
    for (let i = 0; i < depth; i++) {
      for (const socket of open) {
        if (sent === messages) return;
        sent++;
        socket.send(data);
      }
    }
  });
  const elapsed = performance.now() - start;
  await closeAll(who, [...others, ...open]);
  return { rate: (messages / elapsed) * 1000, bytes: ((messages * size) / elapsed) * 1000, messages };
}

/** Lets each of `sockets` send `burst` messages, and repeats when all echoes have arrived. */
export async function turns(who, { sockets, turns, size, burst = 1 }) {
  const open = await openAll(who, sockets);
  const data = message(size, false);
  const start = performance.now();
  for (let turn = 0; turn < turns; turn++) {
    let left = sockets * burst;
    await new Promise((resolve) => {
      for (const socket of open) {
        socket.onmessage = ({ data: answer }) => check(answer, size) && --left === 0 && resolve();
        for (let number = 0; number < burst; number++) socket.send(data);
      }
    });
  }
  const elapsed = performance.now() - start;
  await closeAll(who, open);
  return { rate: ((sockets * turns * burst) / elapsed) * 1000 };
}

/** Lets the server send `messages` over `sockets` as fast as it can. */
export async function push(who, { sockets, messages, size }) {
  const open = await openAll(who, sockets, "/push");
  const each = messages / sockets;
  let left = messages;
  const start = performance.now();
  await new Promise((resolve) => {
    for (const socket of open) {
      socket.onmessage = ({ data }) => check(data, size) && --left === 0 && resolve();
      socket.send(`${each} ${size}`);
    }
  });
  const elapsed = performance.now() - start;
  await closeAll(who, open);
  return { rate: (messages / elapsed) * 1000 };
}

/** Sends pings on one socket while another moves `total` bytes in messages of `size`, from or to the server. */
export async function pingBeside(who, { total, size, up }) {
  const bulk = await who.open(up ? "/sink" : "/push");
  const pinger = await who.open("/echo");
  const count = total / size;
  const data = message(size, true);
  let finished = false;
  const start = performance.now();
  const moved = new Promise((resolve) => {
    let left = up ? 1 : count;
    bulk.onmessage = ({ data }) => check(data, up ? `${total}`.length : size) && --left === 0 && resolve(performance.now() - start);
    if (up) {
      for (let i = 0; i < count; i++) bulk.send(data);
      bulk.send("?");
    } else {
      bulk.send(`${count} ${size} binary`);
    }
  }).finally(() => (finished = true));
  const times = [];
  while (!finished) {
    const sent = performance.now();
    await new Promise((resolve) => {
      pinger.onmessage = resolve;
      pinger.send("ping");
    });
    times.push(performance.now() - sent);
    await new Promise((next) => setTimeout(next, 1));
  }
  const elapsed = await moved;
  await closeAll(who, [bulk, pinger]);
  times.sort((a, b) => a - b);
  return { p50: percentile(times, 0.5), p99: percentile(times, 0.99), bytes: (total / elapsed) * 1000, pings: times.length };
}

let idle = [];

/** Opens sockets that stay idle until `release`. */
export async function hold(who, { count }) {
  idle = await openAll(who, count);
  return { count };
}

export async function release(who) {
  await closeAll(who, idle);
  idle = [];
  await who.end();
  return {};
}
