import type { MultiWebSocket, State } from "./index.js";

export type { Operation, State, StateChange, StateCloseEvent, StateEventMap } from "./index.js";

/**
 * Makes `rpc`, `state` and `topic` connect over this multiplexer, unless the option `WebSocket` says otherwise. It holds for all of
 * the page, whichever entry it is imported from.
 *
 * @param multiplexer `null`: over native sockets, as at first; the console then says so once
 */
export function setDefault(multiplexer: MultiWebSocket | null): void;

/** A place that this page and others have changed. */
export interface Conflict {
  /** A JSON Pointer: `/cells/A1`. */
  path: string;
  /** This page's value; `undefined` where it removed the member. */
  mine: unknown;
  /** The others' value; `undefined` where they removed it. */
  theirs: unknown;
}

/**
 * Why the server refused a commit: nothing of it was applied, and its edits are still in `data`. A second `commit()` sends them
 * again and overwrites the others' changes.
 */
export class StateError extends Error {
  /** The name of the class. */
  readonly name: "StateError";
  /**
   * The reason:
   * - `conflict`: others have changed the same place;
   * - `refused`: the server's validation refused it; the message has the reason;
   * - `invalid`: the commit is malformed;
   * - `too-large`: the commit or the document is too large;
   * - `too-many`: the server accepts no more documents;
   * - `limited`: this page commits too often; the edits stay, and a commit after `retryAfter` tries them again;
   * - `read-only`: this page may not commit;
   * - `storage`: the server's disk, memory or NATS fails;
   * - `expired`: the base version is too old;
   * - `closed`: this page or the server has closed the document for good;
   * - `unreachable`: no connection.
   */
  readonly code:
    | "conflict"
    | "refused"
    | "invalid"
    | "too-large"
    | "too-many"
    | "limited"
    | "read-only"
    | "storage"
    | "expired"
    | "closed"
    | "unreachable"
    | (string & {});
  /** Both sides, where the code is `conflict`. */
  readonly conflicts: Conflict[];
  /**
   * Where the edits are that the server does not accept, for `invalid` and `too-large`. Later commits leave them out until the page
   * changes them; a commit of nothing else tries them again.
   */
  readonly paths: string[];
  /** Milliseconds after which the server accepts the next commit, where the code is `limited`. */
  readonly retryAfter?: number;
}

/** Options of {@link state}. */
export interface StateOptions {
  /** The class to connect with, for example `M.WebSocket`. Default: that of {@link setDefault}. */
  WebSocket?: typeof WebSocket;
}

/**
 * Connects to a document, and reconnects whenever the connection is lost.
 *
 * ```js
 * const sheet = await state("/sheets/budget", { WebSocket: M.WebSocket });
 * sheet.data.cells.A1 = 42;
 * await sheet.commit();
 * ```
 *
 * @param url of the document, relative to the page's base URL
 * @returns the document, once it has arrived
 * @throws {StateError} if the first connection fails
 */
export function state<T = any>(url: string | URL, options?: StateOptions): Promise<State<T>>;
