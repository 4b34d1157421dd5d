// A page with the default entry.
import * as manysocket from "manysocket";
import { job } from "./job.js";

globalThis.result = job(manysocket);
