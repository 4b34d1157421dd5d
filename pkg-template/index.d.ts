/**
 * Options of a {@link MultiWebSocket}.
 *
 * ```js
 * new MultiWebSocket("/multiplexer", { fallback: true, idleTimeout: 60_000 });
 * ```
 */
export interface MultiWebSocketOptions {
  /** How long a connection without sockets is kept, in milliseconds. Default: 10,000. */
  idleTimeout?: number;
  /**
   * The path at and below which the server lets virtual sockets reach; sockets of other URLs are native. To be given where the
   * server has been told (`--jail`, `Multiplexer::jail`). Default: the multiplexer's folder, `/a/b/` for one at `/a/b/multiplexer`.
   */
  jail?: string;
  /**
   * Whether sockets become native where the server has no multiplexer: its handshake fails, and then a native socket opens; and
   * where the page has no WebAssembly, as with a Content Security Policy without `'wasm-unsafe-eval'`. Default: false; sockets fail,
   * and `new MultiWebSocket` throws.
   */
  fallback?: boolean;
  /**
   * Whether all pages of the origin use one connection, which a shared worker has and which outlives the page that began it; with a
   * string, those pages that give the same one, such as the name of who is logged in. Where there can be no shared worker, each page
   * has a connection of its own. See docs/shared.md. Default: false.
   */
  shared?: boolean | string;
}

/** Events of a {@link MultiWebSocket}: those of its one connection. */
export interface MultiWebSocketEventMap {
  /** The connection is there, and carries sockets. */
  open: Event;
  /** The connection has ended, or could not be made: `code` 1006. A new socket makes another. */
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
 *
 * Make one for a page, and share it: each has a connection of its own.
 */
export interface MultiWebSocket extends EventTarget {
  /**
   * The class of virtual sockets: the native `WebSocket`'s interface and behaviour. What the multiplexer does not carry, such as
   * a URL of another origin or outside its jail, has a connection of its own, and is an instance of this class all the same.
   */
  readonly WebSocket: typeof WebSocket;
  /** The class of virtual sockets whose URLs may be relative to any base. */
  readonly RelativeWebSocket: RelativeWebSocketConstructor;
  /** The class of virtual sockets whose messages are values, as JSON. */
  readonly JsonWebSocket: JsonWebSocketConstructor;
  /** The URL of the multiplexer. */
  readonly url: string;
  /** The state of the connection, as in `WebSocket.readyState`; 3 (CLOSED) while there is none. */
  readonly readyState: number;
  /** How many virtual sockets of this page the connection carries. */
  readonly size: number;
  /**
   * Closes the connection. Sockets that are still open get `close` with code 1006; a new one connects again. With the option
   * `shared`, this page's sockets end, and the connection goes on for others.
   */
  close(): void;
  /**
   * Watches the connection: sockets, credit, bytes and batches. The code for it is loaded by this call, and nothing is counted before.
   * Ask before the first socket to see all.
   *
   * ```js
   * const inspector = await M.inspect();
   * console.table(inspector.channels);
   * inspector.addEventListener("physical", ({ detail }) => console.log(detail.direction, detail.form, detail.frames));
   * ```
   */
  inspect(): Promise<Inspector>;

  /** Listens for `open` and `close` of the connection. */
  addEventListener<K extends keyof MultiWebSocketEventMap>(
    type: K,
    listener: (this: MultiWebSocket, event: MultiWebSocketEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** The same for any other name. */
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** A header or a message in what the connection carries, as `docs/protocol.md` §5 has it. */
export interface Frame {
  /** The channel's number; 0 for what concerns the connection. */
  readonly channel: number;
  /** Such as `TEXT`, `OPEN`, `GRANT`; `HELLO`, `PING`, `PONG`; `PAYLOAD` for a large binary message. */
  readonly kind: string;
  /** The length of a message, or a piece of one: UTF-16 code units or bytes. */
  readonly units?: number;
  /** A text, or what an OPEN, ACCEPT, REFUSE or CLOSE says. */
  readonly text?: string;
  /** The subprotocols that an OPEN offers. */
  readonly protocols?: string;
  /** The code of a CLOSE, the status of a REFUSE. */
  readonly code?: number;
  /** The units that a GRANT gives. */
  readonly credit?: number;
  /** The units that each channel may begin with, as a HELLO tells. */
  readonly window?: number;
}

/** A message of the connection. */
export interface PhysicalMessage {
  /** Which way it went. */
  readonly direction: "sent" | "received";
  /** A lone text, a batch of frames, or a large binary message by itself. */
  readonly form: "text" | "batch" | "payload";
  /** Its length. */
  readonly bytes: number;
  /** What is in it. */
  readonly frames: readonly Frame[];
}

/** What one side of a channel has sent. */
export interface ChannelTraffic {
  /** Messages, whole ones. */
  readonly messages: number;
  /** UTF-16 code units of texts, bytes of binary messages. */
  readonly units: number;
  /** The units that may be sent before the next grant. */
  readonly credit: number;
}

/** A socket that has not ended. */
export interface InspectedChannel {
  /** Its number on the connection. */
  readonly number: number;
  /** The socket's own. */
  readonly url: string;
  /** The socket's own. */
  readonly protocol: string;
  /** The socket's own. */
  readonly readyState: number;
  /** The socket's own. */
  readonly bufferedAmount: number;
  /** Null for a socket that was opened before the connection was watched, or in a shared worker. */
  readonly sent: ChannelTraffic | null;
  /** The same, the other way. */
  readonly received: ChannelTraffic | null;
}

/** What the connection has carried one way. */
export interface LinkTraffic {
  /** Messages of the connection. */
  readonly messages: number;
  /** Frames in them. */
  readonly frames: number;
  /** Bytes of them. */
  readonly bytes: number;
}

/** Watches the connection of a {@link MultiWebSocket}, and those that follow it: see {@link MultiWebSocket.inspect}. */
export interface Inspector extends EventTarget {
  /** What this connection has carried since it began, or was first watched. */
  readonly sent: LinkTraffic;
  /** The same, the other way. */
  readonly received: LinkTraffic;
  /** The sockets that have not ended. */
  readonly channels: InspectedChannel[];
  /** Whether the connection is a shared worker's. Then its messages are not seen. */
  readonly isShared: boolean;
  /** For each message of the connection. */
  addEventListener(
    type: "physical",
    listener: (this: Inspector, event: CustomEvent<PhysicalMessage>) => unknown,
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
  /**
   * Connects nothing yet.
   * @param url where the server's multiplexer is, relative to the document's base URL
   * @throws {TypeError} where there is no `WebSocket`, or no WebAssembly and no `fallback`; the message says what to do
   * @throws {DOMException} `SyntaxError` for a URL that cannot be one
   */
  new (url: string | URL, options?: MultiWebSocketOptions): MultiWebSocket;
  /** The same without `new`. */
  (url: string | URL, options?: MultiWebSocketOptions): MultiWebSocket;
  /** What `instanceof` looks for. */
  readonly prototype: MultiWebSocket;
}

/** The class of {@link MultiWebSocket}: many WebSockets over one connection. */
export const MultiWebSocket: MultiWebSocketConstructor;

/** The states of a socket, as on the native class. */
interface ReadyStates {
  /** The connection is being made. */
  readonly CONNECTING: 0;
  /** Messages can be sent. */
  readonly OPEN: 1;
  /** `close()` has been called, and the other side has not answered. */
  readonly CLOSING: 2;
  /** The connection has ended, or could not be made. */
  readonly CLOSED: 3;
}

/** Options of a {@link RelativeWebSocket}. */
export interface RelativeWebSocketOptions {
  /**
   * What the URL is relative to: a URL, which may itself be relative to the default, or something that has one, such as another
   * socket. Its fragment does not count. Default: the document's base URL, with `<base href>`, or a worker's own URL; for
   * those made of a Blob, whose URL is no base, the root of their origin.
   */
  base?: string | URL | {
    /** An absolute URL, or one that is relative to the default. */
    readonly url: string;
  };
}

/**
 * A socket whose URL may be relative. It is a socket of the class below: a native `WebSocket`, or of `M.WebSocket` for
 * `M.RelativeWebSocket`.
 *
 * ```js
 * // on http://example.com/games/Af354BGq/
 * const pieces = new RelativeWebSocket("pieces/"); // ws://example.com/games/Af354BGq/pieces/
 * const chat = new M.RelativeWebSocket("../chat", { base: pieces });
 * ```
 */
export interface RelativeWebSocket extends WebSocket {}

/** See {@link RelativeWebSocket}. `new` may be left out. */
export interface RelativeWebSocketConstructor extends ReadyStates {
  /** @throws {DOMException} `SyntaxError` for what native sockets refuse, and for a base that cannot be one */
  new (url: string | URL, protocols?: string | string[], options?: RelativeWebSocketOptions): RelativeWebSocket;
  /** The same without subprotocols. */
  new (url: string | URL, options: RelativeWebSocketOptions): RelativeWebSocket;
  /** The same without `new`. */
  (url: string | URL, protocols?: string | string[], options?: RelativeWebSocketOptions): RelativeWebSocket;
  /** The same without `new` and subprotocols. */
  (url: string | URL, options: RelativeWebSocketOptions): RelativeWebSocket;
  /** What `instanceof` looks for: that of the class below. */
  readonly prototype: WebSocket;
}

/** The class of {@link RelativeWebSocket} over native sockets; `M.RelativeWebSocket` is the one over a multiplexer. */
export const RelativeWebSocket: RelativeWebSocketConstructor;

/** Options of a {@link JsonWebSocket}. */
export interface JsonWebSocketOptions extends RelativeWebSocketOptions {
  /** As the second argument of `JSON.stringify`. */
  replacer?: ((this: any, key: string, value: any) => any) | (string | number)[];
  /** As the second argument of `JSON.parse`. */
  reviver?: (this: any, key: string, value: any) => any;
}

/** What has a form in JSON, as far as a type can tell. `Date`s and classes have one by their `toJSON`. */
export type JsonSendable = string | number | boolean | null | object;

/** Tells of a message that could not be read as JSON. The socket goes on. */
export interface JsonErrorEvent extends ErrorEvent {
  /** The message: its text, or for a binary one a `Blob` or an `ArrayBuffer`, as `binaryType` says. */
  readonly data: string | Blob | ArrayBuffer;
}

/** Events of a {@link JsonWebSocket}. */
export interface JsonWebSocketEventMap<Receive = any> {
  /** The connection is there. */
  open: Event;
  /** A message: `data` is the value. */
  message: MessageEvent<Receive>;
  /** The connection has failed, or, as a {@link JsonErrorEvent}, a message was not JSON. */
  error: Event | JsonErrorEvent;
  /** The connection has ended. */
  close: CloseEvent;
}

/** What a {@link JsonWebSocket} can be around: a socket of any class with the interface of `WebSocket`. */
export interface WebSocketLike {
  /** Its URL. */
  readonly url: string;
  /** Its state, as in `WebSocket.readyState`. */
  readonly readyState: number;
  /** How many bytes wait to be sent. */
  readonly bufferedAmount: number;
  /** The extensions that the connection uses. */
  readonly extensions: string;
  /** The subprotocol that the server chose. */
  readonly protocol: string;
  /** What binary messages are given as: `"blob"` or `"arraybuffer"`. */
  binaryType: string;
  /** Sends a text message. */
  send(text: string): void;
  /** Closes the connection. */
  close(code?: number, reason?: string): void;
  /** Has a listener called for `open`, `message`, `error` or `close`. */
  addEventListener(type: any, listener: (event: any) => void): void;
}

/**
 * A socket whose messages are values, as JSON: `send` takes one, `event.data` is one. All else is as with a native socket.
 *
 * ```js
 * const chat = new JsonWebSocket("chat"); // native; a JsonWebSocket takes relative URLs, and `base`, too
 * const pieces = new M.JsonWebSocket("pieces/"); // over the multiplexer
 * const moves = new JsonWebSocket(socket); // around a socket that exists
 *
 * chat.send({ text: "hello" });
 * chat.onmessage = ({ data }) => console.log(data.text);
 * chat.onerror = ({ message, data }) => console.warn(message, data); // what came is not JSON
 * ```
 *
 * @template Send what the page sends
 * @template Receive what the server sends; believed, not checked
 */
export interface JsonWebSocket<Send = JsonSendable, Receive = any>
  extends Omit<WebSocket, "send" | "onopen" | "onmessage" | "onerror" | "onclose" | "addEventListener" | "removeEventListener"> {
  /**
   * Sends a value as JSON.
   * @throws {TypeError} for what has no form in JSON, and then nothing is sent: `undefined`, functions and symbols, cycles, BigInts
   * @throws {DOMException} `InvalidStateError` while it is CONNECTING
   */
  send(value: Send): void;

  /** Called for `open`. */
  onopen: ((this: JsonWebSocket<Send, Receive>, event: Event) => any) | null;
  /** Called for `message`, with the value as `event.data`. */
  onmessage: ((this: JsonWebSocket<Send, Receive>, event: MessageEvent<Receive>) => any) | null;
  /** Called for `error`: the connection has failed, or a message was not JSON. */
  onerror: ((this: JsonWebSocket<Send, Receive>, event: Event | JsonErrorEvent) => any) | null;
  /** Called for `close`. */
  onclose: ((this: JsonWebSocket<Send, Receive>, event: CloseEvent) => any) | null;

  /** Listens for `open`, `message`, `error` or `close`. */
  addEventListener<K extends keyof JsonWebSocketEventMap>(
    type: K,
    listener: (this: JsonWebSocket<Send, Receive>, event: JsonWebSocketEventMap<Receive>[K]) => any,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** The same for any other name. */
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** Ends what `addEventListener` began. */
  removeEventListener<K extends keyof JsonWebSocketEventMap>(
    type: K,
    listener: (this: JsonWebSocket<Send, Receive>, event: JsonWebSocketEventMap<Receive>[K]) => any,
    options?: boolean | EventListenerOptions,
  ): void;
  /** The same for any other name. */
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** See {@link JsonWebSocket}. `new` may be left out. */
export interface JsonWebSocketConstructor extends ReadyStates {
  /** Opens a socket. */
  new <Send = JsonSendable, Receive = any>(
    url: string | URL,
    protocols?: string | string[],
    options?: JsonWebSocketOptions,
  ): JsonWebSocket<Send, Receive>;
  /** Opens a socket, or takes one that exists. */
  new <Send = JsonSendable, Receive = any>(
    urlOrSocket: string | URL | WebSocketLike,
    options: JsonWebSocketOptions,
  ): JsonWebSocket<Send, Receive>;
  /** Takes a socket that exists. */
  new <Send = JsonSendable, Receive = any>(socket: WebSocketLike): JsonWebSocket<Send, Receive>;
  /** The same without `new`. */
  <Send = JsonSendable, Receive = any>(
    url: string | URL,
    protocols?: string | string[],
    options?: JsonWebSocketOptions,
  ): JsonWebSocket<Send, Receive>;
  /** The same without `new`. */
  <Send = JsonSendable, Receive = any>(
    urlOrSocket: string | URL | WebSocketLike,
    options: JsonWebSocketOptions,
  ): JsonWebSocket<Send, Receive>;
  /** The same without `new`. */
  <Send = JsonSendable, Receive = any>(socket: WebSocketLike): JsonWebSocket<Send, Receive>;
  /** What `instanceof` looks for. */
  readonly prototype: JsonWebSocket;
}

/** The class of {@link JsonWebSocket} over native sockets; `M.JsonWebSocket` is the one over a multiplexer. */
export const JsonWebSocket: JsonWebSocketConstructor;
