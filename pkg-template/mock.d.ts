import type { MultiWebSocket } from "./index.js";

/** An open of a page, as a handler of {@link MockMultiplexer} sees it. The handler accepts or refuses it, once. */
export interface MockRequest {
  /** The URL of the socket. */
  readonly url: URL;
  /** The parts of the path that the handler's pattern names: `{ room: "1" }` for `/chat/{room}`. As in the URL, percent-encoded. */
  readonly params: Readonly<Record<string, string>>;
  /** The subprotocols that the page offers. */
  readonly protocols: readonly string[];
  /** The headers of the open: those of the socket, and of `M.headers()`. */
  readonly headers: Headers;
  /**
   * Opens the socket. The page sees `open`, and then the handler's messages.
   *
   * @param options `protocol`: the chosen subprotocol, one of those offered (default: none)
   * @returns the handler's end: a `WebSocket` that is open. If the page has closed its end meanwhile, it gets `close` 1006
   * @throws {TypeError} for a subprotocol that was not offered, and for a request that is answered already
   */
  accept(options?: { protocol?: string }): WebSocket;
  /**
   * Refuses it, as a server does with a status such as 403: the page sees `error`, then `close` 1006.
   * @throws {TypeError} for a request that is answered already
   */
  refuse(): void;
}

/**
 * A multiplexer for unit tests: its server is the test's own code, in the same realm. There is no connection, and no WebAssembly.
 * It stands in place of a {@link MultiWebSocket}: sockets have the same class, states, errors and order of events.
 *
 * ```js
 * const M = new MockMultiplexer();
 * M.handle("/chat/{room}", (request) => {
 *   const socket = request.accept();
 *   socket.onmessage = ({ data }) => socket.send(`${request.params.room}: ${data}`);
 * });
 * startChat(M); // the code under test: new M.WebSocket("ws://example.com/chat/1")
 * M.close(); // as if the page lost its connection
 * ```
 *
 * A socket whose path nothing handles, or whose handler throws, fails, and the console has the reason. A socket of any host goes to
 * the handlers, and none has a native connection. `inspect()` shows no traffic, and `reconnect()` does nothing.
 */
export interface MockMultiplexer extends MultiWebSocket {
  /**
   * Sets the handler of a path. It replaces one for the same path; of several paths that match, the first one set counts.
   *
   * @param path `{name}` stands for one segment, `{*name}` for the rest, as on the server
   * @param handler called for each socket, in a later microtask. If it is asynchronous, the socket is CONNECTING until it answers
   * @throws {TypeError} for a path that does not begin with a slash
   */
  handle(path: string, handler: (request: MockRequest) => void | Promise<void>): void;
}

/** See {@link MockMultiplexer}. */
export interface MockMultiplexerConstructor {
  /** @param url of the multiplexer, for `M.url` only. Default: `ws://localhost/multiplexer` */
  new (url?: string | URL): MockMultiplexer;
  /** The prototype of all instances. */
  readonly prototype: MockMultiplexer;
}

/** The class of {@link MockMultiplexer}: a multiplexer without a server, for unit tests. */
export const MockMultiplexer: MockMultiplexerConstructor;
