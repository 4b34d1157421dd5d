// A socket whose server speaks first, in JSON, and which is opened again when it is lost.
import { after } from "./timers.js";

// Milliseconds before the first new attempt, and the most that it doubles to: soon enough not to be noticed, and rare enough
// that a thousand pages do not keep a server down. The actual time is random, so that they do not come all at once.
const FIRST_DELAY = 100;
const LAST_DELAY = 10_000;

/** A page may not send 1002, "protocol error", itself; a link is given up with the same. */
const GIVEN_UP = 4002;

export class Reconnecting {
  #socket = null;
  #timer;
  #delay = FIRST_DELAY;

  /**
   * @param {typeof WebSocket} WebSocket
   * @param {() => string} url of the next attempt
   * @param {{ onmessage(message: object): void, onclose(event: CloseEvent): boolean }} handlers `onclose` says whether to
   *   try again
   */
  constructor(WebSocket, url, handlers) {
    Object.assign(this, { WebSocket, url, handlers });
    this.#open();
  }

  #open() {
    const socket = new this.WebSocket(this.url());
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      if (this.#socket !== socket) return;
      try {
        this.handlers.onmessage(JSON.parse(data));
      } catch (error) {
        // It would say the same again soon.
        this.#delay = LAST_DELAY;
        const reason = "the server's message is not valid here";
        console.error(`manysocket: the connection to ${socket.url} was given up: ${reason}: ${error}`);
        socket.close(GIVEN_UP, reason);
        this.#lose(socket, { code: GIVEN_UP, reason, wasClean: false });
      }
    };
    socket.onclose = (event) => this.#lose(socket, event);
  }

  #lose(socket, event) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    if (!this.handlers.onclose(event)) return;
    this.#timer = after(Math.random() * this.#delay, () => this.#open());
    this.#delay = Math.min(this.#delay * 2, LAST_DELAY);
  }

  /** The server answers: the next loss is a new one. */
  settle() {
    this.#delay = FIRST_DELAY;
  }

  send(message) {
    this.#socket?.send(message);
  }

  /** Ends it; nothing is heard of it any more. */
  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
