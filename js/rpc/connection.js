// The socket of one function, there when it is needed. Answers come in the order of the calls, so they need no id.
// Items of streams come between them, with the number of their call.
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
  /** The streams that have not ended, by the numbers of their calls. */
  #streams = new Map();
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
      const call = { text, signal, number: -1, resolve, reject, settle };
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

  /** Sends waiting calls, once each. */
  #send() {
    for (const call of this.#calls) {
      if (call.number >= 0) continue;
      call.number = this.#sent++;
      this.#socket.send(call.text);
    }
  }

  #receive(socket, data) {
    if (socket !== this.#socket) return;
    const { result, error, stream, ...rest } = read(data);
    const isRefusal = isError(error);
    if (stream < this.#sent && ("item" in rest || rest.end === true || isRefusal)) {
      const open = this.#streams.get(stream);
      // One that the page has left may send until the server knows.
      if ("item" in rest) open?.("receive", rest.item, data.length);
      else this.#end(stream, isRefusal ? new RpcError(error.code, error.message, error.data) : undefined);
      return;
    }
    const [call] = this.#calls;
    const isStream = stream === call?.number;
    if (call === undefined || (result === undefined && !isRefusal && !isStream)) {
      // Which answer belongs to which call cannot be known any more.
      socket.close();
      this.#fail(() => new RpcError("protocol", `${this.#url} does not answer as a function does: ${String(data).slice(0, 100)}`));
      return;
    }
    this.#calls.shift();
    if (isRefusal) call.settle(call.reject, new RpcError(error.code, error.message, error.data));
    else if (!isStream) call.settle(call.resolve, result);
    // One that was given up has been cancelled, and ends soon.
    else call.settle(call.resolve, this.#stream(call));
    this.#rest();
  }

  /** Resolves with the page's object for a stream. Its code is loaded on first use. */
  async #stream({ number, signal }) {
    /** Messages that arrive before the code: few, since the server sends only as many as its window allows. */
    const early = [];
    let act = (...event) => early.push(event);
    this.#streams.set(number, (...event) => act(...event));
    const leave = () => {
      this.#say({ cancel: number });
      this.#end(number);
    };
    const { Stream } = await import("./stream.js").catch((error) => {
      leave();
      throw error;
    });
    const stream = new Stream(signal, (taken) => this.#say({ stream: number, taken }), leave);
    act = (name, ...args) => stream[name](...args);
    for (const event of early) act(...event);
    return stream.face;
  }

  /** Ends a stream behind the items that have come. */
  #end(number, error) {
    const open = this.#streams.get(number);
    this.#streams.delete(number);
    open?.("finish", error);
    this.#rest();
  }

  /** Sends the server a message about an earlier call. */
  #say(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  /** Rejects a call. One that was sent is still answered; that answer is for nobody, and the server need not work for it. */
  #giveUp(call, reason) {
    call.settle(call.reject, reason);
    if (call.number >= 0) return this.#say({ cancel: call.number });
    this.#calls.splice(this.#calls.indexOf(call), 1);
    this.#rest();
  }

  /** Closes the socket when it has not been needed for a while. */
  #rest() {
    if (this.#calls.length > 0 || this.#streams.size > 0) return;
    clearTimeout(this.#idle);
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
    const [calls, streams] = [this.#calls, this.#streams];
    this.#calls = [];
    this.#streams = new Map();
    this.#socket = null;
    clearTimeout(this.#idle);
    for (const call of calls) call.settle(call.reject, reason(call));
    for (const act of streams.values()) act("finish", reason({ number: 0 }));
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
