// The recipe for Vue: docs/recipes.md.
import { createApp, h, nextTick, ref } from "vue";
import { expect, test, vi } from "vitest";
import { MockMultiplexer } from "manysocket/mock";
import { useSocket } from "../recipe/vue-socket.js";

test("a component has one socket, which follows its URL and goes with it", async () => {
  const M = new MockMultiplexer();
  const log = [];
  M.handle("/rooms/{room}", (request) => {
    const socket = request.accept();
    socket.onclose = ({ code }) => log.push(`${request.params.room} closed ${code}`);
    socket.onmessage = ({ data }) => socket.send(`heard ${data}`);
  });
  const url = ref("ws://example.com/rooms/a");
  let used;
  const app = createApp({
    setup() {
      used = useSocket(M, url, (data) => log.push(data));
      return () => h("p", used.readyState.value);
    },
  });
  const container = document.createElement("div");
  app.mount(container);
  await vi.waitFor(() => expect(container.textContent).toBe("1"));
  used.send("hello");
  await vi.waitFor(() => expect(log).toEqual(["heard hello"]));
  url.value = "ws://example.com/rooms/b";
  await nextTick();
  expect(container.textContent).toBe("0");
  await vi.waitFor(() => expect(container.textContent).toBe("1"));
  expect(log).toEqual(["heard hello", "a closed 1005"]);
  expect(M.size).toBe(1);
  app.unmount();
  await vi.waitFor(() => expect(log.at(-1)).toBe("b closed 1005"));
  expect(M.size).toBe(0);
});
