// The parity suite in WebKit, the engine of Safari: in WebKitGTK, which differs from it in the network code.
import { test } from "node:test";
import { checkEngine } from "../harness/engine.js";
import { startWebKit, webkit } from "../harness/webkit.js";

const BUFFERED = "WHATWG WebSockets: bufferedAmount does not include framing overhead";

/** Where WebKitGTK 2.50 departs from the standard. */
const departures = {
  "sending: bufferedAmount keeps growing after close": BUFFERED,
  "closing: the server answers a message with a close": BUFFERED,
  "construction: another host": BUFFERED,
  "construction: subprotocol: the server chooses": "WHATWG WebSockets: an answer without one of the offered subprotocols fails the connection",
  "construction: protocols from an iterator, step by step": "WebIDL: a sequence's @@iterator is read once",
};

/** Where it does so if the server's answer is slow. */
const varies = { "sending: close waits for Blobs": "WHATWG WebSockets: a close frame that was received and sent makes a close clean" };

// Fetch §2.11: a bad port is a network error, which fails the connection. WebKitGTK fires nothing then.
const except = "ports";

// A shared worker runs in the process of a tab, and ends with it.
const workerOutlivesTab = false;

test("in WebKitGTK", { skip: webkit === null && "`apt-get install webkit2gtk-driver xvfb`" }, (t) =>
  checkEngine(t, startWebKit, { departures, varies, except, workerOutlivesTab }));
