/**
 * Options of a {@link MultiWebSocket}.
 *
 * ```js
 * new MultiWebSocket("/multiplexer", { fallback: true, idleTimeout: 60_000 });
 * ```
 */
export interface MultiWebSocketOptions {
  /**
   * How long a link without sockets stays open, in milliseconds. Negative numbers and NaN count as 0, and values above
   * 2,147,483,647 (24.8 days) as for ever, `Infinity` included. Default: 10,000.
   */
  idleTimeout?: number;
  /**
   * The scope: the path at and below which the multiplexer reaches. Sockets of other URLs are native. Set it to the server's own
   * value (`--jail`, `Multiplexer::jail`). Default: the multiplexer's folder, `/a/b/` for one at `/a/b/multiplexer`.
   */
  jail?: string;
  /**
   * Whether sockets become native where the server has no multiplexer (its handshake fails, and then a native socket opens), and
   * where the page has no WebAssembly, as with a Content Security Policy without `'wasm-unsafe-eval'`. Default: false: sockets fail,
   * and `new MultiWebSocket` throws.
   */
  fallback?: boolean;
  /**
   * Whether all pages of the origin share one link, which a shared worker keeps and which outlives the page that began it. With a
   * string, pages with the same string share, for example the id of the user. Without shared workers, each page has its own link.
   * See docs/shared.md. Default: false.
   */
  shared?: boolean | string;
  /**
   * Whether a link outlives its connection: if that is lost, the client connects again, lost messages are sent again, and
   * sockets notice nothing. The server keeps the link for some time (`Multiplexer::resume_timeout`). Among pages that share a
   * link, the first decides. See docs/reconnect.md. Default: true.
   */
  resume?: boolean;
  /**
   * The kinds of connections that may carry the link. A WebSocket is tried first. If none opens within 2 s, or it fails, HTTP is tried: streamed answers, or short
   * ones where the network keeps them back. The link returns to a WebSocket once one opens. See docs/carriers.md. Default: both.
   */
  carriers?: ("websocket" | "http")[];
}

/** Events of a {@link MultiWebSocket}: those of its link. */
export interface MultiWebSocketEventMap {
  /** Fires when a link is up. */
  open: Event;
  /** Fires when a link has lost its connection and waits for another one (`resume`). */
  interrupted: Event;
  /** Fires when another connection carries the link. */
  resumed: Event;
  /** Fires when a link has ended, or could not be made (`code` 1006). A new socket dials another. */
  close: CloseEvent;
}

/** Options of a virtual socket, in place of its subprotocols. */
export interface WebSocketInit {
  /** The offered subprotocols. */
  protocols?: string | string[];
  /**
   * Headers of the request that opens the socket. Those that a browser, a connection or a proxy writes cannot be set: `Host`,
   * `Origin`, `Cookie`, `Sec-*`, `X-Forwarded-*` and others. A socket that is not on a link fails with headers.
   */
  headers?: HeadersInit;
}

/** See {@link MultiWebSocket.WebSocket}: the native constructor, and one with headers. */
export type VirtualWebSocketConstructor = typeof WebSocket & {
  /**
   * Opens a socket with headers.
   * @throws {TypeError} if a header's name or value is invalid
   * @throws {DOMException} `SyntaxError` for a header that cannot be set
   */
  new (url: string | URL, init: WebSocketInit): WebSocket;
  /** The same without `new`, and without headers. */
  (url: string | URL, protocols?: string | string[]): WebSocket;
  /** The same with headers. */
  (url: string | URL, init: WebSocketInit): WebSocket;
};

/**
 * Many WebSockets over one connection.
 *
 * ```js
 * const M = new MultiWebSocket("/multiplexer");
 * const w = new M.WebSocket("ws://example.com/ws1");
 * ```
 *
 * The first socket dials the link, which stays open while any socket is open; a later socket dials again.
 * If the link breaks, every socket over it gets `close` with code 1006, as if each had been native.
 *
 * Make one per page and share it, since each has its own link.
 */
export interface MultiWebSocket extends EventTarget {
  /**
   * The class of virtual sockets, with the native `WebSocket`'s interface and behaviour. A socket that the multiplexer does not
   * carry, for example of another origin or outside its scope, has a native connection, and is also an instance of this class.
   */
  readonly WebSocket: VirtualWebSocketConstructor;
  /** The class of virtual sockets whose URLs may be relative to any base. */
  readonly RelativeWebSocket: RelativeWebSocketConstructor;
  /** The class of virtual sockets whose messages are values, as JSON. */
  readonly JsonWebSocket: JsonWebSocketConstructor;
  /** The URL of the multiplexer; `""` before a function has been asked for it. */
  readonly url: string;
  /** The state of the link, as in `WebSocket.readyState`; 3 (CLOSED) while there is none. */
  readonly readyState: number;
  /** The kind of connection under the link; null while it has none. */
  readonly carrier: "websocket" | "http-stream" | "http-poll" | null;
  /** The number of this page's virtual sockets on the link that have not ended. */
  readonly size: number;
  /**
   * Closes the link. Open sockets get `close` with code 1006; a new one dials again. With the option `shared`, only this page's
   * sockets end, and the link continues for other pages.
   */
  close(): void;
  /**
   * Sets a function that is asked for the headers of each socket when it opens, and that may be asynchronous; null: none. Headers
   * that a socket names itself replace those of the same name. If the function fails, the socket fails.
   *
   * ```js
   * M.headers(async () => ({ Authorization: `Bearer ${await freshToken()}` }));
   * ```
   */
  headers(provide: (() => HeadersInit | Promise<HeadersInit>) | null): void;
  /**
   * Makes later sockets use a new link, whose handshake has the browser's cookies at that time, such as after a logout. The present link ends
   * with its last socket. After a login this is not needed: a socket that is refused with 401 or 403 on an older link is tried once
   * on a new one.
   */
  reconnect(): void;
  /**
   * Watches the link: sockets, credit, bytes and batches. This call loads the code for it, and nothing is counted before.
   * Call it before the first socket opens to see all traffic.
   *
   * ```js
   * const inspector = await M.inspect();
   * console.table(inspector.channels);
   * inspector.addEventListener("physical", ({ detail }) => console.log(detail.direction, detail.form, detail.frames));
   * ```
   */
  inspect(): Promise<Inspector>;

  /**
   * Returns functions of the server, over this multiplexer: `rpc` of `manysocket/rpc`. The first call loads the code.
   * @param url relative to the page's base URL
   */
  rpc<T = any>(url: string | URL, options?: Omit<RpcOptions, "WebSocket">): Rpc<T>;
  /**
   * Connects to a document over this multiplexer: `state` of `manysocket/state`. This call loads the code.
   * @param url relative to the page's base URL
   */
  state<T = any>(url: string | URL): Promise<State<T>>;
  /**
   * Subscribes to a topic over this multiplexer: `topic` of `manysocket/topic`. This call loads the code.
   * @param url relative to the page's base URL
   */
  topic<T = string | ArrayBuffer>(url: string | URL, options?: Omit<TopicOptions, "WebSocket">): Promise<Topic<T>>;

  /** Listens for `open` and `close` of the link. */
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

/** A frame or a message of the link (`docs/protocol.md` §5). */
export interface Frame {
  /** The channel's number; 0 for frames that concern the link. */
  readonly channel: number;
  /** The kind: `TEXT`, `OPEN`, `GRANT` and so on; `HELLO`, `PING`, `PONG`, `PATH`; `PAYLOAD` for a large binary message. */
  readonly kind: string;
  /** The length of a message, or a piece of one: UTF-16 code units or bytes. */
  readonly units?: number;
  /** A text, or the string of an OPEN, ACCEPT, REFUSE or CLOSE. */
  readonly text?: string;
  /** The subprotocols that an OPEN offers. */
  readonly protocols?: string;
  /** The headers of an OPEN_WITH, a line each. */
  readonly headers?: string;
  /** The code of a CLOSE, the status of a REFUSE. */
  readonly code?: number;
  /** The units that a GRANT gives. */
  readonly credit?: number;
  /** The initial credit of each channel, from a HELLO. */
  readonly window?: number;
}

/** A physical message of the link. */
export interface PhysicalMessage {
  /** The direction. */
  readonly direction: "sent" | "received";
  /** A lone text, a batch of frames, or a large binary message. */
  readonly form: "text" | "batch" | "payload";
  /** Its length in bytes. */
  readonly bytes: number;
  /** Its frames. */
  readonly frames: readonly Frame[];
}

/** The traffic of one direction of a channel. */
export interface ChannelTraffic {
  /** The number of whole messages. */
  readonly messages: number;
  /** UTF-16 code units of texts, bytes of binary messages. */
  readonly units: number;
  /** The units that may be sent before the next grant. */
  readonly credit: number;
}

/** A socket that has not ended. */
export interface InspectedChannel {
  /** Its number on the link. */
  readonly number: number;
  /** The socket's own. */
  readonly url: string;
  /** The socket's own. */
  readonly protocol: string;
  /** The socket's own. */
  readonly readyState: number;
  /** The socket's own. */
  readonly bufferedAmount: number;
  /** Null for a socket that was open before the inspector, or that is on a shared link. */
  readonly sent: ChannelTraffic | null;
  /** The same, the other way. */
  readonly received: ChannelTraffic | null;
}

/** The traffic of the link in one direction. */
export interface LinkTraffic {
  /** Physical messages. */
  readonly messages: number;
  /** Frames in them. */
  readonly frames: number;
  /** Bytes of them. */
  readonly bytes: number;
}

/** Watches the link of a {@link MultiWebSocket}, and its later links: see {@link MultiWebSocket.inspect}. */
export interface Inspector extends EventTarget {
  /** The traffic of this link since it began, or since the inspector watches it. */
  readonly sent: LinkTraffic;
  /** The same, the other way. */
  readonly received: LinkTraffic;
  /** The sockets that have not ended. */
  readonly channels: InspectedChannel[];
  /** Limitations and their reasons: a link that is not shared, sockets that are native. The console says the same, once. */
  readonly notes: string[];
  /** Whether the link is a shared worker's. Then its messages are not visible. */
  readonly isShared: boolean;
  /** How often links have lost their connection since `inspect()` was called. */
  readonly interruptions: number;
  /** Whether the link has lost its connection, and waits for another one. */
  readonly isInterrupted: boolean;
  /** Listens for each physical message. */
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

/** Where a multiplexer is: a URL, or a function that is asked for it before each link is dialled. */
export type MultiplexerUrl = string | URL | (() => string | URL | Promise<string | URL>);

/** See {@link MultiWebSocket}. `new` may be left out. */
export interface MultiWebSocketConstructor {
  /**
   * Connects nothing yet.
   * @param url the multiplexer's URL, relative to the document's base URL; or a function that returns it or a promise of it, and is
   *   called before each link is dialled
   * @throws {TypeError} without a URL, for a value that is neither a URL nor a function, without `WebSocket`, or without WebAssembly and `fallback`; the message says what to do
   * @throws {DOMException} `SyntaxError` if the URL is invalid
   */
  new (url: MultiplexerUrl, options?: MultiWebSocketOptions): MultiWebSocket;
  /** The same without `new`. */
  (url: MultiplexerUrl, options?: MultiWebSocketOptions): MultiWebSocket;
  /** The prototype of all instances. */
  readonly prototype: MultiWebSocket;
}

/** The class of {@link MultiWebSocket}: many WebSockets over one connection. */
export const MultiWebSocket: MultiWebSocketConstructor;

/** The states of a socket, as on the native class. */
interface ReadyStates {
  /** The connection is not established yet. */
  readonly CONNECTING: 0;
  /** Messages can be sent. */
  readonly OPEN: 1;
  /** `close()` was called, and the other side has not answered. */
  readonly CLOSING: 2;
  /** The connection has ended, or could not be made. */
  readonly CLOSED: 3;
}

/** Options of a {@link RelativeWebSocket}. */
export interface RelativeWebSocketOptions {
  /**
   * The base of the URL: a URL, which may itself be relative to the default, or an object with one, such as another socket.
   * Its fragment does not count. Default: the document's base URL, with `<base href>`, or a worker's own URL. For a document
   * or worker made of a Blob, whose URL is no base, it is the root of its origin.
   */
  base?: string | URL | {
    /** An absolute URL, or one that is relative to the default. */
    readonly url: string;
  };
}

/**
 * A socket whose URL may be relative. It is an instance of the class below it: a native `WebSocket`, or `M.WebSocket` for
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
  /** @throws {DOMException} `SyntaxError` for URLs that native sockets refuse, and for an unusable base */
  new (url: string | URL, protocols?: string | string[], options?: RelativeWebSocketOptions): RelativeWebSocket;
  /** The same without subprotocols. */
  new (url: string | URL, options: RelativeWebSocketOptions): RelativeWebSocket;
  /** Over a multiplexer, the same with headers. */
  new (url: string | URL, init: WebSocketInit & RelativeWebSocketOptions): RelativeWebSocket;
  /** The same without `new`. */
  (url: string | URL, protocols?: string | string[], options?: RelativeWebSocketOptions): RelativeWebSocket;
  /** The same without `new` and subprotocols. */
  (url: string | URL, options: RelativeWebSocketOptions): RelativeWebSocket;
  /** The prototype of all instances: that of the class below it. */
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

/** Values with a JSON form, as far as a type can express. `Date`s and classes have one by their `toJSON`. */
export type JsonSendable = string | number | boolean | null | object;

/** Reports a message that is not JSON. The socket stays open. */
export interface JsonErrorEvent extends ErrorEvent {
  /** The message: its text, or for a binary one a `Blob` or an `ArrayBuffer`, as `binaryType` says. */
  readonly data: string | Blob | ArrayBuffer;
}

/** Events of a {@link JsonWebSocket}. */
export interface JsonWebSocketEventMap<Receive = any> {
  /** Fires when the connection is open. */
  open: Event;
  /** Fires for a message: `data` is the value. */
  message: MessageEvent<Receive>;
  /** Fires if the connection fails, or, as a {@link JsonErrorEvent}, for a message that is not JSON. */
  error: Event | JsonErrorEvent;
  /** Fires when the connection has ended. */
  close: CloseEvent;
}

/** A socket that a {@link JsonWebSocket} can wrap: of any class with the interface of `WebSocket`. */
export interface WebSocketLike {
  /** Its URL. */
  readonly url: string;
  /** Its state, as in `WebSocket.readyState`. */
  readonly readyState: number;
  /** The number of bytes that wait to be sent. */
  readonly bufferedAmount: number;
  /** The extensions that the connection uses. */
  readonly extensions: string;
  /** The subprotocol that the server chose. */
  readonly protocol: string;
  /** The type of binary messages: `"blob"` or `"arraybuffer"`. */
  binaryType: string;
  /** Sends a text message. */
  send(text: string): void;
  /** Closes the connection. */
  close(code?: number, reason?: string): void;
  /** Adds a listener for `open`, `message`, `error` or `close`. */
  addEventListener(type: any, listener: (event: any) => void): void;
}

/**
 * A socket whose messages are values, as JSON: `send` accepts a value, and `event.data` is one. The rest is as with a native
 * socket.
 *
 * ```js
 * const chat = new JsonWebSocket("chat"); // native; a JsonWebSocket also accepts relative URLs, and `base`
 * const pieces = new M.JsonWebSocket("pieces/"); // over the multiplexer
 * const moves = new JsonWebSocket(socket); // around a socket that exists
 *
 * chat.send({ text: "hello" });
 * chat.onmessage = ({ data }) => console.log(data.text);
 * chat.onerror = ({ message, data }) => console.warn(message, data); // the message is not JSON
 * ```
 *
 * @template Send the type of values that the page sends
 * @template Receive the type of values that the server sends; not checked at run time
 */
export interface JsonWebSocket<Send = JsonSendable, Receive = any>
  extends Omit<WebSocket, "send" | "onopen" | "onmessage" | "onerror" | "onclose" | "addEventListener" | "removeEventListener"> {
  /**
   * Sends a value as JSON.
   * @throws {TypeError} for a value without a JSON form (`undefined`, functions, symbols, cycles, BigInts); it sends nothing then
   * @throws {DOMException} `InvalidStateError` while it is CONNECTING
   */
  send(value: Send): void;

  /** Called for `open`. */
  onopen: ((this: JsonWebSocket<Send, Receive>, event: Event) => any) | null;
  /** Called for `message`, with the value as `event.data`. */
  onmessage: ((this: JsonWebSocket<Send, Receive>, event: MessageEvent<Receive>) => any) | null;
  /** Called for `error`: the connection has failed, or a message is not JSON. */
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
  /** Removes a listener. */
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
  /** Opens a socket, or wraps an existing one. */
  new <Send = JsonSendable, Receive = any>(
    urlOrSocket: string | URL | WebSocketLike,
    options: JsonWebSocketOptions,
  ): JsonWebSocket<Send, Receive>;
  /** Wraps an existing socket. */
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
  /** The prototype of all instances. */
  readonly prototype: JsonWebSocket;
}

/** The class of {@link JsonWebSocket} over native sockets; `M.JsonWebSocket` is the one over a multiplexer. */
export const JsonWebSocket: JsonWebSocketConstructor;

// The module that wasm-pack builds has this file alone, so what `M.rpc`, `M.state` and `M.topic` return is here.

/**
 * The items of a streamed result, for `for await`. An error of the stream rejects `next()` behind the items before it; leaving
 * the loop, `return()` and the signal drop the stream at the server.
 */
export interface RpcStream<T> extends AsyncIterableIterator<T> {
  /** Ends the stream, and drops it at the server. A loop that is left calls this. */
  return<R = undefined>(value?: R): Promise<IteratorReturnResult<R>>;
  /** Returns the stream itself: there is one reader. */
  [Symbol.asyncIterator](): RpcStream<T>;
}

/** `T` as callers see it: every function returns a promise, of an {@link RpcStream} if it returns an `AsyncIterable`. */
export type Rpc<T> = 0 extends 1 & T
  ? any
  : T extends (...args: infer Args) => infer Result
    ? ((...args: Args) => Promise<0 extends 1 & Result ? any : Awaited<Result> extends AsyncIterable<infer Item> ? RpcStream<Item> : Awaited<Result>>) & {
        readonly [Name in keyof NoInfer<T>]: Rpc<T[Name]>;
      }
    : { readonly [Name in keyof NoInfer<T>]: Rpc<T[Name]> };

/** Options of the calls. */
export interface CallOptions {
  /** Milliseconds after which a call without an answer rejects with the code `timeout`, and the server drops it. Default: none. */
  timeout?: number;
  /** Rejects calls with its reason when it aborts, and the server drops them; streams, too. */
  signal?: AbortSignal;
}

/** Options of `rpc`. */
export interface RpcOptions extends CallOptions {
  /** The class to connect with, for example `M.WebSocket`. Default: that of `setDefault`. */
  WebSocket?: typeof WebSocket;
  /** Milliseconds without a call after which a socket closes; the next call opens another. Default: 10,000. */
  idleTimeout?: number;
  /** Whether it has separate sockets. Default: false: all functions of a URL share a socket. */
  separate?: boolean;
}

/** An operation of a JSON Patch (RFC 6902). Paths are JSON Pointers (RFC 6901): `/cells/A1`. */
export type Operation =
  | { op: "add" | "replace" | "test"; path: string; value: unknown }
  | { op: "remove"; path: string }
  | { op: "move" | "copy"; path: string; from: string };

/** Fires when a {@link State} has lost its connection. */
export interface StateCloseEvent extends Event {
  /** The close code (RFC 6455 §7.4); 1006 if the connection broke. */
  readonly code: number;
  /** The server's reason. */
  readonly reason: string;
  /** Whether the server closed it. */
  readonly wasClean: boolean;
}

/** Describes the origin of a change. */
export interface StateChange {
  /** Whether this page's `commit()` made it. */
  readonly own: boolean;
}

/** Events of a {@link State}. */
export interface StateEventMap {
  /** Fires each time that it is connected and up to date. */
  open: Event;
  /** Fires each time that it has lost its connection; edits and commits wait for the next. */
  close: StateCloseEvent;
}

/** A JSON document that pages share. */
export interface State<T = any> extends EventTarget {
  /**
   * The document: read it, edit it in place, or assign another; then `commit()`. Changes by others appear in it, in place where the
   * page has not frozen it.
   */
  data: T;
  /** The version of the document that `data` is based on. */
  readonly version: number;
  /** The URL of the document. */
  readonly url: string;
  /** As in `WebSocket.readyState`: 0 connecting or reconnecting, 1 open, 3 closed for good. */
  readonly readyState: number;

  /**
   * Commits `data` as it is now, as a whole or not at all. Without a connection it waits for the next.
   * @returns the new version, once the server has stored it
   * @throws {StateError}
   * @throws {TypeError} if the data is no JSON
   */
  commit(): Promise<number>;

  /**
   * Calls back for each change of the document, once it is in `data`: by others, and by a commit of this page once the server has
   * stored it. Returns a function that stops it.
   */
  watch(callback: (delta: Operation[], change: StateChange) => unknown): () => void;
  /**
   * Calls back with the value at `path`, a JSON Pointer such as `/cells/A1`, when it changes, or anything inside or around it.
   * @throws {TypeError} if `path` is no JSON Pointer
   */
  watch(path: string, callback: (value: any, delta: Operation[], change: StateChange) => unknown): () => void;

  /** Closes it for good; unanswered commits reject. */
  close(): void;

  /** Listens for `open` and `close` of the connection. */
  addEventListener<K extends keyof StateEventMap>(
    type: K,
    listener: (this: State<T>, event: StateEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** The same for any other name. */
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Fires when a {@link Topic} has lost its connection, or has ended. */
export interface TopicCloseEvent extends Event {
  /** The close code (RFC 6455 §7.4); 1006 if the connection broke. */
  readonly code: number;
  /** The server's reason. */
  readonly reason: string;
  /** Whether the server closed it. */
  readonly wasClean: boolean;
}

/** Fires where messages are missing that the server no longer has. */
export interface TopicMissedEvent extends Event {
  /** Their number; null if the server does not know it. */
  readonly count: number | null;
}

/** Events of a {@link Topic}. */
export interface TopicEventMap<T = string | ArrayBuffer> {
  /** Fires each time that it is subscribed. */
  open: Event;
  /** Fires for each message: `data` is a text or an `ArrayBuffer`, `lastEventId` the position. */
  message: MessageEvent<T>;
  /** Fires where messages are missing that the server no longer has. */
  missed: TopicMissedEvent;
  /** Fires when the connection is lost; it connects again while `readyState` is not 3. */
  close: TopicCloseEvent;
}

/** A topic whose messages have positions. Iterating over it gives the messages from then on, and ends when it is closed. */
export interface Topic<T = string | ArrayBuffer> extends EventTarget, AsyncIterable<T> {
  /** The URL of the topic. */
  readonly url: string;
  /** As in `WebSocket.readyState`: 0 connecting or reconnecting, 1 open, 3 closed for good. */
  readonly readyState: number;
  /** How far this page has read; give it to `topic` as `since` to go on from there. Empty at first. */
  readonly position: string;

  /**
   * Publishes a message. Without a connection it waits for the next.
   * @returns its number, once all messages up to it have arrived here; null if the server's policy has dropped it
   * @throws {TopicError}
   */
  publish(data: string | ArrayBufferLike | ArrayBufferView | Blob): Promise<number | null>;

  /** Closes it for good; unanswered publications reject. */
  close(): void;

  /** Listens for one of the events. */
  addEventListener<K extends keyof TopicEventMap<T>>(
    type: K,
    listener: (this: Topic<T>, event: TopicEventMap<T>[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** The same for any other name. */
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Options of `topic`. */
export interface TopicOptions {
  /** The class to connect with, for example `M.WebSocket`. Default: that of `setDefault`. */
  WebSocket?: typeof WebSocket;
  /** An earlier `position`, to get the messages published since. Default: none, from now on and with the topic's history. */
  since?: string;
}
