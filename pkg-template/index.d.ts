/** Options of a {@link MultiWebSocket}. */
export interface MultiWebSocketOptions {
  /** How long a connection without sockets is kept, in milliseconds. Default: 10,000. */
  idleTimeout?: number;
}

/** Events of a {@link MultiWebSocket}: those of its one connection. */
export interface MultiWebSocketEventMap {
  open: Event;
  close: CloseEvent;
}

/**
 * Many WebSockets over one connection.
 *
 * ```js
 * const M = new MultiWebSocket("/multiplexer");
 * const w = new M.WebSocket("ws://example.com/ws1");
 * ```
 *
 * The connection is made when the first socket is, kept while any is open, and made again when it is
 * next needed. If it breaks, every socket over it gets `close` with code 1006, as if each had been native.
 */
export interface MultiWebSocket extends EventTarget {
  /**
   * The class of virtual sockets: the native `WebSocket`'s interface and behaviour. URLs that the
   * multiplexer does not carry, those of another origin, give native sockets.
   */
  readonly WebSocket: typeof WebSocket;
  /** The URL of the multiplexer. */
  readonly url: string;
  /** The state of the connection, as in `WebSocket.readyState`; 3 (CLOSED) while there is none. */
  readonly readyState: number;
  /** How many virtual sockets the connection carries. */
  readonly size: number;
  /** Closes the connection. Sockets that are still open get `close` with code 1006; a new one connects again. */
  close(): void;

  addEventListener<K extends keyof MultiWebSocketEventMap>(
    type: K,
    listener: (this: MultiWebSocket, event: MultiWebSocketEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** See {@link MultiWebSocket}. `new` may be left out. */
export interface MultiWebSocketConstructor {
  /** @param url where the server's multiplexer is, relative to the document's base URL */
  new (url: string | URL, options?: MultiWebSocketOptions): MultiWebSocket;
  /** @param url where the server's multiplexer is, relative to the document's base URL */
  (url: string | URL, options?: MultiWebSocketOptions): MultiWebSocket;
  readonly prototype: MultiWebSocket;
}

export const MultiWebSocket: MultiWebSocketConstructor;
