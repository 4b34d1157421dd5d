// A page whose connection is in a shared worker: it makes none itself.
import * as manysocket from "manysocket";
import { job } from "./job.js";

globalThis.result = job(manysocket, { shared: true });
