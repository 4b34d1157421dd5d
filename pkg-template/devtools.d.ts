import type { Frame, MultiWebSocket } from "./index.js";

/**
 * Shows a live panel of a link: its sockets with their credit, and each physical message with its frames. Call it before the
 * first socket opens to see all traffic.
 *
 * ```js
 * import { showPanel } from "manysocket/devtools";
 * await showPanel(M);
 * ```
 *
 * @param options `parent`: the element for the panel; default: the end of the page
 * @returns the panel; removing it stops the watching
 */
export function showPanel(M: MultiWebSocket, options?: { parent?: Element }): Promise<HTMLElement>;

/** Describes a frame in a line of text: `7 TEXT "hello"`. */
export function describe(frame: Frame): string;
