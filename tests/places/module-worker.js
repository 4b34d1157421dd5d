// A module that runs in any kind of worker: asked with `ws://HOST`, it answers by the port of the question, or by the worker's own.
import * as manysocket from "/pkg/index.js";
import { both } from "./exercise.js";

const answer = async ({ data, ports: [port] }) => (port ?? globalThis).postMessage(await both(manysocket, data));
globalThis.onmessage = answer;
globalThis.onconnect = ({ ports: [port] }) => {
  port.onmessage = async ({ data }) => port.postMessage(await both(manysocket, data));
};
