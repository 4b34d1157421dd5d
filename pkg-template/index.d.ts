/** Options of a {@link MultiWebSocket}. */
export interface MultiWebSocketOptions {
  /** How long a connection without sockets is kept, in milliseconds. Default: 10,000. */
  idleTimeout?: number;
  /**
   * The path at and below which the server lets virtual sockets reach; sockets of other URLs are native. To be given where the
   * server has been told (`--jail`, `Multiplexer::jail`). Default: the multiplexer's folder, `/a/b/` for one at `/a/b/multiplexer`.
   */
  jail?: string;
  /**
   * Whether sockets become native where the server has no multiplexer: its handshake fails, and then a native socket opens.
   * Default: false; they fail.
   */
  fallback?: boolean;
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
   * The class of virtual sockets: the native `WebSocket`'s interface and behaviour. What the multiplexer does not carry, such as
   * a URL of another origin or outside its jail, has a connection of its own, and is an instance of this class all the same.
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
