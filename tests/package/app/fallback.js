// A page that means to go on without WebAssembly.
import * as manysocket from "manysocket";
import { job } from "./job.js";

globalThis.result = job(manysocket, { fallback: true });
