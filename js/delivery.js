// Delivers events one at a time, with a microtask checkpoint after each, as the event loop does for
// native sockets: code that awaits between two messages loses none.
//
// A task for each event would do, at 4.4 µs each. But the event loop also performs a checkpoint after
// each *listener* of an event that it dispatches itself (WebIDL, "invoke a callback": clean up after
// running script). So every message of a port, and of a physical socket, has many listeners, and each
// of them delivers one event at 0.57 µs.

import { outside } from "./timers.js";

// Not where EventTarget is itself written in JavaScript, as in Node.js and Deno: there, a task for each event.
const NATIVE = String(EventTarget).includes("[native code]");

// Listeners for one message. 32 was the fastest of 8 to 128; page code waits for at most as many events.
const LISTENERS = 32;

// Milliseconds after which a message's remaining listeners deliver nothing: with slow handlers, a click waits no longer than this.
const LONGEST_TASK = 8;

// While events are delivered, the messages of their handlers are held to go out together; no longer than this
// many milliseconds, so that slow handlers do not delay the messages of others.
const HOLD = 1;

// Events that wait: channel, kind and value, each in a separate place.
const queue = [];
let head = 0;

// Made when it is first needed: merely importing the package starts nothing.
let sender;
let posted = false;
let pumping = false;
let pumpingSince = 0;
let heldSince = 0;
let flushedAt = 0;
const held = new Set();
const waiting = new Set();

// A worker of this kind may block for ever (Atomics.wait): then all that it sends leaves at once, as natively.
const MAY_BLOCK = globalThis.crossOriginIsolated === true && globalThis.DedicatedWorkerGlobalScope !== undefined;

// Whether checkpoints happen between listeners: not where a library has put its own dispatch between.
let checkpoints;
let checkpointSeen = false;

/** Puts an event behind those that wait. */
export function enqueue(channel, kind, value) {
  queue.push(channel, kind, value);
}

/** Delivers the queue in a later task. */
export function deliverLater() {
  if (posted || head === queue.length) return;
  posted = true;
  if (NATIVE) {
    sender ??= outside(openPort);
    sender.postMessage(0);
  } else {
    // A port would keep the process alive, with nothing to wait for.
    (globalThis.setImmediate ?? setTimeout)(deliverOne);
  }
}

function openPort() {
  const { port1, port2 } = new MessageChannel();
  listen(port1, () => (posted = false));
  port1.start();
  return port2;
}

function deliverOne() {
  posted = false;
  deliverNext();
  deliverLater();
}

/**
 * Calls `link.flush()` once all messages of this task are queued. Returns whether the caller also flushes at once: the
 * page may go on for long, and natively its first message has left by then.
 */
export function flushLater(link) {
  const set = pumping ? held : waiting;
  if (set.has(link)) return MAY_BLOCK;
  set.add(link);
  if (!pumping) {
    queueMicrotask(() => {
      waiting.delete(link);
      link.flush();
    });
    return true;
  }
  const now = performance.now();
  if (held.size === 1) heldSince = now;
  // In a stream of events, not each task's first message: the answers to many travel together.
  const leads = now - flushedAt > HOLD;
  if (leads) flushedAt = now;
  return leads || MAY_BLOCK;
}

/** Runs a page's code while events are delivered: its messages are held until the end. */
export function whileHeld(act) {
  pumping = true;
  act();
  pumping = false;
  flushHeld();
}

function flushHeld() {
  if (held.size === 0) return;
  flushedAt = performance.now();
  for (const link of held) link.flush();
  held.clear();
}

function deliverNext() {
  const at = head;
  const [channel, kind, value] = [queue[at], queue[at + 1], queue[at + 2]];
  head = at + 3;
  if (head === queue.length) {
    queue.length = head = 0;
  } else if (head >= 3072 && 2 * head >= queue.length) {
    // Give the delivered part back from time to time: not at each event, and not while that would move more than it frees.
    queue.splice(0, head);
    head = 0;
  }
  channel.deliver(kind, value);
}

/** Delivers all that waits in this task: where no page's code runs between two events. */
export function deliverAll() {
  while (head < queue.length) deliverNext();
}

function endTask(event) {
  event.stopImmediatePropagation();
  pumping = false;
  flushHeld();
  deliverLater();
}

/** One of the listeners of one message. `first` is called before the first of them delivers. */
function listener(index, first) {
  return (event) => {
    if (index === 0) {
      if (!event.isTrusted) {
        // An event of another virtual socket, where a page has replaced the global: no checkpoints follow, and this may be inside a delivery.
        first(event);
        event.stopImmediatePropagation();
        return deliverLater();
      }
      pumping = true;
      pumpingSince = performance.now();
      first(event);
    } else if (index === 1 && checkpoints === undefined) {
      checkpoints = checkpointSeen;
    }
    const now = performance.now();
    if (head === queue.length || (index === 1 && !checkpoints) || now - pumpingSince > LONGEST_TASK) return endTask(event);
    if (held.size > 0 && now - heldSince > HOLD) flushHeld();
    if (index === LISTENERS - 1) {
      deliverNext();
      // With more to deliver, held answers go on waiting for the answers to that: an echo of 400,000 messages
      // took 14,000 physical ones before, 1,800 since, and two thirds of the time.
      if (head < queue.length) return deliverLater();
      // No listener comes after this one's checkpoint: its messages and those of its continuations go out
      // in a microtask behind them.
      pumping = false;
      return queueMicrotask(flushHeld);
    }
    if (index === 0 && checkpoints === undefined) queueMicrotask(() => (checkpointSeen = true));
    deliverNext();
  };
}

function listen(target, first) {
  for (let index = 0; index < LISTENERS; index++) target.addEventListener("message", listener(index, first));
}

/** Passes the messages of a physical socket to `receive`, and delivers from its own task. */
export function receiveFrom(physical, receive) {
  if (NATIVE) return listen(physical, (event) => receive(event.data));
  // Several messages may come in one task; and the package `ws` has another kind of listeners.
  physical.addEventListener("message", (event) => {
    receive(event.data);
    deliverLater();
  });
}
