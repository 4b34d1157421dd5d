// Runs WebKitGTK for a test by WebDriver, which its driver serves over HTTP. The browser has no headless mode: its windows are on a
// screen of Xvfb.
// https://w3c.github.io/webdriver/
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:net";

const [DRIVER, SCREEN] = ["/usr/bin/WebKitWebDriver", "/usr/bin/Xvfb"];

/** The driver's program; null where it, a screen or the browser is missing (`apt-get install webkit2gtk-driver xvfb`). */
export const webkit = [DRIVER, SCREEN].every((path) => existsSync(path)) && miniBrowser() !== null ? DRIVER : null;

/** The program that the driver package brings; its folder has the architecture and the version in its name. */
function miniBrowser() {
  for (const architecture of ["x86_64-linux-gnu", "aarch64-linux-gnu"].map((name) => `/usr/lib/${name}`).filter((path) => existsSync(path))) {
    for (const folder of readdirSync(architecture).filter((name) => name.startsWith("webkit2gtk-"))) {
      const path = `${architecture}/${folder}/MiniBrowser`;
      if (existsSync(path)) return path;
    }
  }
  return null;
}

// Far longer than a start takes, and longer than the suite; it ends a test whose browser hangs.
const PATIENCE = 120_000;

/** Starts the browser, with a profile that it forgets. */
export async function startWebKit() {
  const children = [];
  const start = (program, words, options) => {
    const child = spawn(program, words, options);
    children.push(child);
    return child;
  };
  const stop = async () => {
    for (const child of children.toReversed()) {
      const ended = child.exitCode === null ? once(child, "exit") : null;
      child.kill("SIGKILL");
      await ended;
    }
  };
  try {
    const screen = start(SCREEN, ["-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp"], { stdio: ["ignore", "ignore", "ignore", "pipe"] });
    const [number] = await once(screen.stdio[3], "data");
    const port = await freePort();
    const driver = start(DRIVER, [`--port=${port}`], {
      // Without a graphics card.
      env: { ...process.env, DISPLAY: `:${String(number).trim()}`, LIBGL_ALWAYS_SOFTWARE: "1", WEBKIT_DISABLE_COMPOSITING_MODE: "1" },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let output = "";
    driver.stderr.setEncoding("utf8").on("data", (text) => (output += text));
    const command = async (method, path, body) => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
      const { value } = await answer.json();
      if (!answer.ok) throw new Error(`${value.error}: ${value.message}\n${output}`);
      return value;
    };
    await listening(port, () => `${output} (exit code ${driver.exitCode})`);
    const options = { binary: miniBrowser(), args: ["--automation"] };
    const { sessionId } = await command("POST", "/session", {
      capabilities: { alwaysMatch: { "webkitgtk:browserOptions": options, timeouts: { script: PATIENCE } } },
    });
    const session = (method, path, body) => command(method, `/session/${sessionId}${path}`, body);
    // The first window stays: a closed one opens no other.
    const first = await session("GET", "/window");
    return {
      async openPage(url) {
        await session("POST", "/window", { handle: first });
        return openPage(session, url);
      },
      async close() {
        await command("DELETE", `/session/${sessionId}`);
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The driver cannot choose a port and say which. */
async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}

async function listening(port, output) {
  const end = performance.now() + PATIENCE;
  for (;;) {
    try {
      await fetch(`http://127.0.0.1:${port}/status`);
      return;
    } catch (error) {
      if (performance.now() > end) throw new Error(`the driver does not listen: ${output()}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

async function openPage(session, url) {
  const { handle } = await session("POST", "/window/new", { type: "tab" });
  const here = () => session("POST", "/window", { handle });
  await here();
  await session("POST", "/url", { url });
  return {
    /** Runs a function in the page and returns its result as plain data, as Playwright's `evaluate` does. One at a time. */
    async evaluate(code, argument) {
      await here();
      const script = `
        const [argument, done] = arguments;
        (async () => JSON.stringify(await (${code})(JSON.parse(argument))))()
          .then((value) => done({ value }), (error) => done({ error: String(error?.stack ?? error) }));`;
      const { value, error } = await session("POST", "/execute/async", { script, args: [JSON.stringify(argument ?? null)] });
      if (error !== undefined) throw new Error(error);
      return value === undefined || value === null ? undefined : JSON.parse(value);
    },
    async close() {
      await here();
      await session("DELETE", "/window");
    },
  };
}
