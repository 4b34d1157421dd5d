import type { Frame, MultiWebSocket } from "./index.js";

/**
 * Shows a panel with what a multiplexer's connection carries, live: sockets with their credit, and each message of the connection with
 * its frames. Call it before the first socket to see all.
 *
 * ```js
 * import { showPanel } from "manysocket/devtools";
 * await showPanel(M);
 * ```
 *
 * @param options `parent`: where to put it; default: at the end of the page
 * @returns the panel; remove it, and it watches no more
 */
export function showPanel(M: MultiWebSocket, options?: { parent?: Element }): Promise<HTMLElement>;

/** A frame as a line of text: `7 TEXT "hello"`. */
export function describe(frame: Frame): string;
