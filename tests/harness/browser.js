// Runs Chromium for a test, by remote control.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

/**
 * Starts Chromium: `program`, the variable CHROMIUM, or /usr/bin/chromium.
 * @param {string[]} [without] flags that Playwright sets by default
 */
export function startBrowser(program = process.env.CHROMIUM ?? "/usr/bin/chromium", without = []) {
  return chromium.launch({
    executablePath: program,
    ignoreDefaultArgs: without,
    // Root in a container has no sandbox; xtask names the other flags.
    args: (process.env.CHROMIUM_FLAGS ?? "--headless --no-sandbox").split(" "),
  });
}

// Without it, a promise that never settles would hang the whole run. The longest call runs the parity suite twice, 20 s on an
// idle machine.
const PATIENCE = 180_000;

/** Waits until a condition holds. The limit of a minute only turns a hang into a failure, also on a busy machine. */
export async function until(what, condition) {
  const end = performance.now() + 60_000;
  while (!(await condition())) {
    assert.ok(performance.now() < end, `${what} did not happen in a minute`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * Runs a function in the page and returns its result, both as plain data.
 * The function has no access to the test's scope, but may import: `await import("/pkg/index.js")`.
 */
export async function runInPage(page, code, argument) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the page did not answer in ${PATIENCE / 1000} s`)), PATIENCE);
  });
  try {
    return await Promise.race([page.evaluate(code, argument), late]);
  } finally {
    clearTimeout(timer);
  }
}
