// A page with the manual entry, whose bundler finds the wasm by `new URL` (webpack).
import * as manysocket from "manysocket/manual";
import { job } from "./job.js";

globalThis.result = fetch(new URL("manysocket/manysocket_bg.wasm", import.meta.url))
  .then((answer) => answer.arrayBuffer())
  .then((bytes) => {
    manysocket.initialise(bytes);
    return job(manysocket);
  });
