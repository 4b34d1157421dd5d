// The recipes for React, in StrictMode: docs/recipes.md.
import { act, createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, expect, test, vi } from "vitest";
import { MockMultiplexer } from "manysocket/mock";
import { documentStore, useDocument } from "../recipe/use-document.js";
import { useSocket } from "../recipe/use-socket.js";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const roots = [];
afterEach(() => act(() => roots.splice(0).forEach((root) => root.unmount())));

/** Renders a component, and returns its element and a function that renders it anew. */
async function render(component, props) {
  const container = document.createElement("div");
  const root = createRoot(container);
  roots.push(root);
  const show = (props) => act(async () => root.render(createElement(StrictMode, null, createElement(component, props))));
  await show(props);
  return { container, show, unmount: () => act(() => root.unmount()) };
}

test("a component has one socket, which follows its URL and goes with it", async () => {
  const M = new MockMultiplexer();
  const log = [];
  M.handle("/rooms/{room}", (request) => {
    const { room } = request.params;
    const socket = request.accept();
    socket.onclose = ({ code }) => log.push(`${room} closed ${code}`);
    socket.onmessage = ({ data }) => socket.send(`${room} heard ${data}`);
    socket.send(`welcome to ${room}`);
  });
  let send;
  function Room({ room }) {
    const [readyState, sender] = useSocket(M, `ws://example.com/rooms/${room}`, (data) => log.push(data));
    send = sender;
    return `${readyState}`;
  }
  const { container, show, unmount } = await render(Room, { room: "a" });
  await act(() => vi.waitFor(() => expect(log).toContain("welcome to a")));
  expect(container.textContent).toBe("1");
  send("hello");
  await act(() => vi.waitFor(() => expect(log).toContain("a heard hello")));
  await show({ room: "b" });
  await act(() => vi.waitFor(() => expect(log).toContain("welcome to b")));
  // StrictMode has mounted twice: the socket that was closed before it opened has sent nothing.
  expect(log.filter((line) => line === "welcome to a").length).toBe(1);
  expect(log).toContain("a closed 1005");
  expect(M.size).toBe(1);
  unmount();
  await vi.waitFor(() => expect(log).toContain("b closed 1005"));
  expect(M.size).toBe(0);
});

/** Serves a document with one text: docs/state-wire.md. */
function serveDocument(M) {
  const pages = new Set();
  let version = 0;
  let text = "first";
  M.handle("/notes/1", (request) => {
    const page = request.accept();
    pages.add(page);
    page.send(JSON.stringify({ document: "d", version, data: { text } }));
    page.onmessage = ({ data }) => {
      const { id, delta } = JSON.parse(data);
      text = delta[0].value;
      page.send(JSON.stringify({ id, version: ++version }));
    };
  });
  return {
    commits: () => version,
    change(value) {
      text = value;
      const delta = [{ op: "replace", path: "/text", value }];
      for (const page of pages) page.send(JSON.stringify({ version: version + 1, delta }));
      version++;
    },
  };
}

test("a component shows a document, its edits at once, and those of others", async () => {
  const M = new MockMultiplexer();
  const server = serveDocument(M);
  const store = documentStore(M, "ws://example.com/notes/1");
  const Note = () => useDocument(store)?.text ?? "loading";
  const { container } = await render(Note);
  await act(() => vi.waitFor(() => expect(store.getSnapshot()).toBeDefined()));
  expect(container.textContent).toBe("first");
  let stored;
  await act(async () => {
    stored = store.edit((data) => (data.text = "second"));
  });
  expect(container.textContent).toBe("second");
  await act(() => stored);
  expect(server.commits()).toBe(1);
  server.change("third");
  await act(() => vi.waitFor(() => expect(store.getSnapshot().text).toBe("third")));
  expect(container.textContent).toBe("third");
});
