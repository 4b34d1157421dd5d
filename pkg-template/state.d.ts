import type { MultiWebSocket } from "./index.js";

/**
 * Makes `rpc`, `state` and `topic` connect over this multiplexer, unless the option `WebSocket` says otherwise. It holds for all of
 * the page, whichever entry it is imported from.
 *
 * @param multiplexer `null`: over native sockets, as at first; the console then says so once
 */
export function setDefault(multiplexer: MultiWebSocket | null): void;

/** An operation of a JSON Patch (RFC 6902). Paths are JSON Pointers (RFC 6901): `/cells/A1`. */
export type Operation =
  | { op: "add" | "replace" | "test"; path: string; value: unknown }
  | { op: "remove"; path: string }
  | { op: "move" | "copy"; path: string; from: string };

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
}

/** Fires when a {@link State} has lost its connection. */
export interface StateCloseEvent extends Event {
  /** The close code (RFC 6455 §7.4); 1006 if the connection broke. */
  readonly code: number;
  /** The server's reason. */
  readonly reason: string;
  /** Whether the server closed it. */
  readonly wasClean: boolean;
}

/** What else is known of a change. */
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
