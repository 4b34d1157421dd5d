import type { CallOptions, MultiWebSocket, Rpc, RpcOptions } from "./index.js";

export type { CallOptions, Rpc, RpcOptions, RpcStream } from "./index.js";

/**
 * Makes `rpc`, `state` and `topic` connect over this multiplexer, unless the option `WebSocket` says otherwise. It holds for all of
 * the page, whichever entry it is imported from.
 *
 * @param multiplexer `null`: over native sockets, as at first; the console then says so once
 */
export function setDefault(multiplexer: MultiWebSocket | null): void;

/**
 * Why a call has no result.
 *
 * ```js
 * await turn(400).catch((error) => console.warn(error.code, error.message)); // "too-far", "a tank turns by at most 180 degrees"
 * ```
 */
export class RpcError extends Error {
  /** The name of the class. */
  readonly name: "RpcError";
  /**
   * The function's own code, or one of these:
   * - `argument`: the function does not accept the arguments;
   * - `call`: the message is no call;
   * - `busy`: the server has no memory for the arguments now, or 256 streams of the socket have not ended; the function has not run;
   * - `limited`: this page calls too often, and may call again after `data.retryAfter` milliseconds; the function has not run;
   * - `internal`: the function has failed, and the server's log says why;
   * - `lost`: the connection broke, and the function may have run;
   * - `unreachable`: no connection, and the function has not run;
   * - `timeout`: no answer in time;
   * - `protocol`: the server's message is no answer.
   */
  readonly code: "argument" | "call" | "busy" | "limited" | "internal" | "lost" | "unreachable" | "timeout" | "protocol" | (string & {});
  /** Further details from the server. */
  readonly data: any;
}

/**
 * Returns a function that calls a URL, and whose members call the URLs below it: the URL of a method is that of the object, a
 * slash, and its name.
 *
 * ```js
 * const add = rpc("/rpc/add");
 * await add(1, 2);
 *
 * const tank = rpc<Tank>("/rpc/tank65/", { WebSocket: M.WebSocket });
 * await tank.turn(47.9);
 *
 * for await (const reading of await tank.readings(10)) console.log(reading); // a function that returns a stream
 * ```
 *
 * Calls reject with an {@link RpcError}, or with the reason of the signal.
 *
 * @param url relative to the page's base URL
 */
export function rpc<T = any>(url: string | URL, options?: RpcOptions): Rpc<T>;
/** Returns the same function or object, on the same sockets, with other options. */
export function rpc<T>(earlier: T, options: CallOptions): T;
