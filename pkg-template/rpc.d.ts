import type { MultiWebSocket } from "./index.js";

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
   * - `internal`: the function has failed, and the server's log says why;
   * - `lost`: the connection broke, and the function may have run;
   * - `unreachable`: no connection, and the function has not run;
   * - `timeout`: no answer in time;
   * - `protocol`: the server's message is no answer.
   */
  readonly code: "argument" | "call" | "busy" | "internal" | "lost" | "unreachable" | "timeout" | "protocol" | (string & {});
  /** Further details from the server. */
  readonly data: any;
}

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
    ? (...args: Args) => Promise<0 extends 1 & Result ? any : Awaited<Result> extends AsyncIterable<infer Item> ? RpcStream<Item> : Awaited<Result>>
    : { readonly [Name in keyof T]: Rpc<T[Name]> };

/** Options of the calls. */
export interface CallOptions {
  /** Milliseconds after which a call without an answer rejects with the code `timeout`, and the server drops it. Default: none. */
  timeout?: number;
  /** Rejects calls with its reason when it aborts, and the server drops them; streams, too. */
  signal?: AbortSignal;
}

/** Options of {@link rpc}. */
export interface RpcOptions extends CallOptions {
  /** The class to connect with, for example `M.WebSocket`. Default: that of {@link setDefault}. */
  WebSocket?: typeof WebSocket;
  /** Milliseconds without a call after which a socket closes; the next call opens another. Default: 10,000. */
  idleTimeout?: number;
  /** Whether it has separate sockets. Default: false: all functions of a URL share a socket. */
  separate?: boolean;
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
