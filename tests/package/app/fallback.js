// A page that works without WebAssembly.
import * as manysocket from "manysocket";
import { job } from "./job.js";

globalThis.result = job(manysocket, { fallback: true });
