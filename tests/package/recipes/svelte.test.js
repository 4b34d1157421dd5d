// The recipe for Svelte: docs/recipes.md.
import { get } from "svelte/store";
import { expect, test, vi } from "vitest";
import { MockMultiplexer } from "manysocket/mock";
import { messages } from "../recipe/svelte-messages.js";

test("a store has a socket while it has subscribers, and keeps the latest messages", async () => {
  const M = new MockMultiplexer();
  M.handle("/ticks", (request) => {
    const socket = request.accept();
    for (let number = 1; number <= 5; number++) socket.send(`${number}`);
  });
  const ticks = messages(M, "ws://example.com/ticks", 3);
  expect(M.size).toBe(0);
  const stops = [ticks.subscribe(() => {}), ticks.subscribe(() => {})];
  await vi.waitFor(() => expect(get(ticks)).toEqual(["3", "4", "5"]));
  expect(M.size).toBe(1);
  stops[0]();
  expect(M.size).toBe(1);
  stops[1]();
  await vi.waitFor(() => expect(M.size).toBe(0));
});
