// Runs Chromium for a test, by remote control.
import { chromium } from "playwright-core";

/** Starts the browser that `cargo xtask test` found, or another program that does. */
export function startBrowser(program = process.env.CHROMIUM ?? "/usr/bin/chromium") {
  return chromium.launch({
    executablePath: program,
    // A container's root has no sandbox to offer; xtask names the other flags.
    args: (process.env.CHROMIUM_FLAGS ?? "--headless --no-sandbox").split(" "),
  });
}

// Longer than any test of ours; without it a promise in the page that never settles would hang the whole run.
const PATIENCE = 60_000;

/**
 * Runs a function in the page and returns its result, both as plain data.
 * It sees nothing of the test's own scope, but may import: `await import("/pkg/index.js")`.
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
