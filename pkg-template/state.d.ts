/** What a JSON Patch (RFC 6902) consists of. Paths are JSON Pointers (RFC 6901): `/cells/A1`. */
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
 * Why a commit was refused: nothing of it was applied, and its edits are still in `data`. A second `commit()` sends them
 * again, then knowingly over what others did.
 */
export class StateError extends Error {
  /** As of any error: the name of its class. */
  readonly name: "StateError";
  /**
   * `conflict`, others have changed the same; `refused`, the server's own check, whose reason is the message; `invalid`, not a commit;
   * `too-large`, the commit or the document; `too-many`, the server has as many documents as it may; `read-only`; `storage`, the server's disk;
   * `expired`, too much has been committed since the version that it is based on; `closed`, by this page or the server, for good;
   * `unreachable`.
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
}

/** A {@link State} has lost its connection, and makes another. */
export interface StateCloseEvent extends Event {
  /** The close code (RFC 6455 §7.4); 1006 if the connection broke. */
  readonly code: number;
  /** What the server said of it. */
  readonly reason: string;
  /** Whether the server closed it. */
  readonly wasClean: boolean;
}

/** Events of a {@link State}: `open` each time that it is connected and up to date, `close` each time that it is not. */
export interface StateEventMap {
  /** It is connected and up to date. */
  open: Event;
  /** It has no connection any more; edits and commits wait for the next. */
  close: StateCloseEvent;
}

/** A JSON document that pages share. */
export interface State<T = any> extends EventTarget {
  /** The document: read it, edit it in place, or assign another; then `commit()`. Other people's changes come into it. */
  data: T;
  /** The version of the document that `data` is based on. */
  readonly version: number;
  /** The URL of the document. */
  readonly url: string;
  /** As in `WebSocket.readyState`: 0 while it is connecting, again too; 1 open; 3 closed for good. */
  readonly readyState: number;

  /**
   * Commits `data` as it is now, as a whole or not at all. Without a connection it waits for the next.
   * @returns the version that it made, once the server has it safe
   * @throws {StateError}
   */
  commit(): Promise<number>;

  /** Calls back with each change that others make, once it is in `data`. Returns a function that ends it. */
  watch(callback: (delta: Operation[]) => unknown): () => void;
  /** Calls back with the value at `path`, a JSON Pointer such as `/cells/A1`, when others change it, something in it or something around it. */
  watch(path: string, callback: (value: any, delta: Operation[]) => unknown): () => void;

  /** Closes it for good; commits that are not answered reject. */
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
  /** The class to connect with, such as that of a `MultiWebSocket`. Default: the native one. */
  WebSocket?: typeof WebSocket;
}

/**
 * Connects to a document, and again whenever the connection is lost.
 *
 * ```js
 * const sheet = await state("/sheets/budget", { WebSocket: M.WebSocket });
 * sheet.data.cells.A1 = 42;
 * await sheet.commit();
 * ```
 *
 * @param url of the document, relative to the page's base URL
 * @returns once the document is there
 * @throws {StateError} if the first connection fails
 */
export function state<T = any>(url: string | URL, options?: StateOptions): Promise<State<T>>;
