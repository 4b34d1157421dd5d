// A page with the manual entry and no bundler.
import * as manysocket from "manysocket/manual";
import { job } from "./job.js";

globalThis.result = fetch("/node_modules/manysocket/manysocket_bg.wasm")
  .then((answer) => answer.arrayBuffer())
  .then((bytes) => {
    manysocket.initialise(bytes);
    return job(manysocket);
  });
