// A worker of any kind: asked for it, it does the job and answers by the port of the question, or by its own.
import * as manysocket from "manysocket";
import { job } from "./job.js";

const answer = async (port) => port.postMessage(await job(manysocket).catch(String));
globalThis.onmessage = ({ ports: [port] }) => answer(port ?? globalThis);
globalThis.onconnect = ({ ports: [port] }) => (port.onmessage = () => answer(port));
