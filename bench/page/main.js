// The page of the benchmark: runs the workloads for the driver.
import { contestant } from "./contestants.js";
import * as workloads from "./workloads.js";

/** @param {string} workload a function of workloads.js @param {string} name of the contestant */
globalThis.bench = async (workload, name, options) => workloads[workload](await contestant(name), options);
