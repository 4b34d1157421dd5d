// The parity suite in Firefox.
import { test } from "node:test";
import { checkEngine } from "../harness/engine.js";
import { firefox, startFirefox } from "../harness/firefox.js";

/** Where Firefox 153 departs from the standard. */
const DEPARTURES = {
  "construction: protocols of every type": "WebIDL GetMethod: an @@iterator that is null is as good as none",
  "construction: relative URLs": "URL: the empty string is a relative URL, of the base itself",
  "construction: subprotocol: the server chooses": "WHATWG WebSockets: an answer without one of the offered subprotocols fails the connection",
};

test("in Firefox", { skip: firefox === null && "Firefox is not installed" }, (t) => checkEngine(t, startFirefox, { departures: DEPARTURES }));
