// @ts-check
// TypeScript checks these calls against the server's functions, here and in files of TypeScript alike.
import { MultiWebSocket } from "manysocket";

const M = new MultiWebSocket("/multiplexer");
/** @type {import("manysocket").Rpc<import("./functions.js").Functions>} */
const functions = M.rpc("/rpc/");

/** @param {string} id */
const element = (id) => /** @type {HTMLInputElement} */ (document.getElementById(id));
const log = element("log");

async function show() {
  const tasks = await functions.tasks.all();
  element("tasks").replaceChildren(...tasks.map(({ title, priority }) => {
    const item = document.createElement("li");
    item.textContent = priority === "high" ? `${title}!` : title;
    return item;
  }));
}

document.forms[0].addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const task = await functions.tasks.add(element("title").value, element("high").checked ? "high" : "low");
    log.textContent = `task ${task.number} is there`;
    await show();
  } catch (error) {
    log.textContent = String(error);
  }
});

element("countdown").addEventListener("click", async () => {
  for await (const second of await functions.countdown(10)) log.textContent = second.toFixed();
});

await show();
