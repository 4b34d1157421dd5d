import type { MultiWebSocket } from "./index.js";

/**
 * Makes `rpc`, `state` and `topic` connect over this multiplexer, unless the option `WebSocket` says otherwise. It holds for all of
 * the page, whichever entry it is imported from.
 *
 * @param multiplexer `null`: over native sockets, as at first; the console then says so once
 */
export function setDefault(multiplexer: MultiWebSocket | null): void;

/** Why a message was not published, or may not have been. */
export class TopicError extends Error {
  /** The name of the class. */
  readonly name: "TopicError";
  /**
   * The reason:
   * - `lost`: the connection broke before the server answered; the message may have been published, or not;
   * - `refused`: the server does not let this page publish it; the message has the reason;
   * - `too-large`: the message is too large;
   * - `unreachable`: no connection;
   * - `closed`: this page has closed the topic.
   */
  readonly code: "lost" | "refused" | "too-large" | "unreachable" | "closed";
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
  /** How far this page has read; give it to {@link topic} as `since` to go on from there. Empty at first. */
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

/** Options of {@link topic}. */
export interface TopicOptions {
  /** The class to connect with, for example `M.WebSocket`. Default: that of {@link setDefault}. */
  WebSocket?: typeof WebSocket;
  /** The `position` of before, to get what was published since. Default: none, from now on and with the topic's history. */
  since?: string;
}

/**
 * Subscribes to a topic with positions, and again whenever the connection is lost: no message is lost or repeated while the server
 * still has it.
 *
 * ```js
 * const chat = topic("/chatrooms/rust");
 * chat.addEventListener("message", ({ data }) => show(data));
 * const number = await chat.publish("hello");
 * ```
 *
 * @param url relative to the page's base URL
 */
export function topic<T = string | ArrayBuffer>(url: string | URL, options?: TopicOptions): Topic<T>;
