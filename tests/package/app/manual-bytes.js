// A page with the manual entry, whose bundler puts the bytes of the wasm into the program (esbuild's loader "binary").
import * as manysocket from "manysocket/manual";
import wasm from "manysocket/manysocket_bg.wasm";
import { job } from "./job.js";

manysocket.initialise(wasm);
globalThis.result = job(manysocket);
