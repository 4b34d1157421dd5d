// A page with the manual entry, whose bundler gives the wasm a URL (Vite).
import * as manysocket from "manysocket/manual";
import wasm from "manysocket/manysocket_bg.wasm?url";
import { job } from "./job.js";

globalThis.result = WebAssembly.compileStreaming(fetch(wasm)).then((module) => {
  manysocket.initialise(module);
  return job(manysocket);
});
