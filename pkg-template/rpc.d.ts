/**
 * Why a call has no result.
 *
 * ```js
 * await turn(400).catch((error) => console.warn(error.code, error.message)); // "too-far", "a tank turns by at most 180 degrees"
 * ```
 */
export class RpcError extends Error {
  /** As of any error: the name of its class. */
  readonly name: "RpcError";
  /**
   * The function's own code, or one of these: `argument`, the arguments are not what the function takes; `call`, what was sent is no
   * call; `internal`, the function has failed, and the server's log says why; `lost`, the connection broke, and the call may have
   * been carried out; `unreachable`, it was not, since nothing could be connected to; `timeout`; `protocol`, the server answered with
   * something else.
   */
  readonly code: "argument" | "call" | "internal" | "lost" | "unreachable" | "timeout" | "protocol" | (string & {});
  /** What else there is to know. */
  readonly data: any;
}

/** `T` as it is called from afar: every function returns a promise. */
export type Rpc<T> = 0 extends 1 & T
  ? any
  : T extends (...args: infer Args) => infer Result
    ? (...args: Args) => Promise<Awaited<Result>>
    : { readonly [Name in keyof T]: Rpc<T[Name]> };

/** Options of the calls. */
export interface CallOptions {
  /** Milliseconds after which a call rejects with the code `timeout`. The server does not stop for it. Default: none. */
  timeout?: number;
  /** Rejects calls with its reason. The server does not stop for it. */
  signal?: AbortSignal;
}

/** Options of {@link rpc}. */
export interface RpcOptions extends CallOptions {
  /** The class to connect with, such as that of a `MultiWebSocket`. Default: the native one. */
  WebSocket?: typeof WebSocket;
  /** Milliseconds without a call after which a socket is closed; the next call opens another. Default: 10,000. */
  idleTimeout?: number;
}

/**
 * Makes a function of a URL, or an object of functions: the URL of a method is that of the object, a slash, and its name.
 *
 * ```js
 * const add = rpc("/rpc/add");
 * await add(1, 2);
 *
 * const tank = rpc<Tank>("/rpc/tank65/", { WebSocket: M.WebSocket });
 * await tank.turn(47.9);
 * ```
 *
 * Calls reject with an {@link RpcError}, or with the reason of the signal.
 *
 * @param url relative to the page's base URL
 */
export function rpc<T = any>(url: string | URL, options?: RpcOptions): Rpc<T>;
/** The same function or object, on the same sockets, with other options. */
export function rpc<T>(earlier: T, options: CallOptions): T;
