// The socket of one function, there when it is needed. Answers come in the order of the calls: the order tells them apart.
import { after } from "../timers.js";
import { RpcError } from "./error.js";

export class Connection {
  #url;
  #socketClass;
  #idleTimeout;
  #idle;
  #socket = null;
  /** Calls without an answer, in order. Those that were given up have their place until the answer comes. */
  #calls = [];
  /** How many calls the socket has sent: their numbers count from 0. */
  #sent = 0;

  /** @param {() => typeof WebSocket} socketClass asked for each socket */
  constructor(url, socketClass, idleTimeout) {
    this.#url = url;
    this.#socketClass = socketClass;
    this.#idleTimeout = idleTimeout;
  }

  /** @param {string} text @returns {Promise<unknown>} */
  call(text, { timeout = Infinity, signal }) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const call = { text, number: -1, resolve, reject, settle };
      let timer;
      const abort = () => this.#giveUp(call, signal.reason);
      function settle(how, value) {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        how(value);
      }
      clearTimeout(this.#idle);
      const socket = this.#open();
      this.#calls.push(call);
      // Before the event, too: it may be open and not have said so yet.
      if (socket.readyState === 1) this.#send();
      signal?.addEventListener("abort", abort);
      const late = () => this.#giveUp(call, new RpcError("timeout", `${this.#url} did not answer within ${timeout} ms`));
      timer = after(timeout, late);
    });
  }

  #open() {
    // A socket that is closing takes no calls any more, and its end is its own.
    if (this.#socket !== null && this.#socket.readyState < 2) return this.#socket;
    this.#lose(this.#socket);
    const Socket = this.#socketClass();
    const socket = new Socket(this.#url.href);
    this.#socket = socket;
    this.#sent = 0;
    socket.onopen = () => this.#send();
    socket.onmessage = ({ data }) => this.#receive(socket, data);
    socket.onclose = (event) => this.#lose(socket, event);
    return socket;
  }

  /** Sends what waits, once each. */
  #send() {
    for (const call of this.#calls) {
      if (call.number >= 0) continue;
      call.number = this.#sent++;
      this.#socket.send(call.text);
    }
  }

  #receive(socket, data) {
    if (socket !== this.#socket) return;
    const call = this.#calls.shift();
    const { result, error } = read(data);
    const isRefusal = isError(error);
    if (call === undefined || (result === undefined && !isRefusal)) {
      // Which answer belongs to which call cannot be known any more.
      if (call !== undefined) this.#calls.unshift(call);
      socket.close();
      this.#fail(new RpcError("protocol", `${this.#url} does not answer as a function does: ${String(data).slice(0, 100)}`));
      return;
    }
    if (!isRefusal) call.settle(call.resolve, result);
    else call.settle(call.reject, new RpcError(error.code, error.message, error.data));
    this.#rest();
  }

  /** Rejects a call. One that was sent is still answered; that answer is for nobody, and the server need not work for it. */
  #giveUp(call, reason) {
    call.settle(call.reject, reason);
    if (call.number >= 0) {
      if (this.#socket?.readyState === 1) this.#socket.send(`{"cancel":${call.number}}`);
      return;
    }
    this.#calls.splice(this.#calls.indexOf(call), 1);
    this.#rest();
  }

  /** Closes the socket when it has not been needed for a while. */
  #rest() {
    if (this.#calls.length > 0) return;
    this.#idle = after(this.#idleTimeout, () => this.#socket?.close());
    // Node.js would wait for it.
    this.#idle.unref?.();
  }

  #lose(socket, event) {
    if (socket === null || socket !== this.#socket) return;
    const why = event?.reason ? `: ${event.reason}` : "";
    const data = { code: event?.code, reason: event?.reason };
    this.#fail((call) =>
      call.number >= 0
        ? new RpcError("lost", `the connection to ${this.#url} was lost before the answer came${why}. The call may have been done, or not`, data)
        : new RpcError("unreachable", `cannot connect to ${this.#url}${why}. The call was not sent`, data),
    );
  }

  #fail(reason) {
    const calls = this.#calls;
    this.#calls = [];
    this.#socket = null;
    clearTimeout(this.#idle);
    for (const call of calls) call.settle(call.reject, typeof reason === "function" ? reason(call) : reason);
  }
}

const isError = (error) => typeof error?.code === "string" && typeof error.message === "string";

function read(data) {
  try {
    const answer = JSON.parse(data);
    return typeof answer === "object" && answer !== null ? answer : {};
  } catch {
    return {};
  }
}
