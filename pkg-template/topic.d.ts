import type { MultiWebSocket, Topic, TopicOptions } from "./index.js";

export type { Topic, TopicCloseEvent, TopicEventMap, TopicMissedEvent, TopicOptions } from "./index.js";

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
