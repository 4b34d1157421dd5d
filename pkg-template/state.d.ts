/** What a JSON Patch (RFC 6902) consists of. Paths are JSON Pointers (RFC 6901): `/cells/A1`. */
export type Operation =
  | { op: "add" | "replace" | "test"; path: string; value: unknown }
  | { op: "remove"; path: string }
  | { op: "move" | "copy"; path: string; from: string };

/** A place that this page and others have changed. */
export interface Conflict {
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
  readonly name: "StateError";
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
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

/** Events of a {@link State}: `open` each time that it is connected and up to date, `close` each time that it is not. */
export interface StateEventMap {
  open: Event;
  close: StateCloseEvent;
}

/** A JSON document that pages share. */
export interface State<T = any> extends EventTarget {
  /** The document: read it, edit it in place, or assign another; then `commit()`. Other people's changes come into it. */
  data: T;
  /** The version of the document that `data` is based on. */
  readonly version: number;
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
  /** Calls back with the value at `path` when others change it, something in it or something around it. */
  watch(path: string, callback: (value: any, delta: Operation[]) => unknown): () => void;

  /** Closes it for good; commits that are not answered reject. */
  close(): void;

  addEventListener<K extends keyof StateEventMap>(
    type: K,
    listener: (this: State<T>, event: StateEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
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
