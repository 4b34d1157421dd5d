// A server that limits calls and commits: the page learns how long to wait, and loses no edit.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MockMultiplexer } from "../../pkg/mock.js";
import { rpc } from "../../pkg/rpc.js";
import { state } from "../../pkg/state.js";

const M = new MockMultiplexer("ws://localhost/multiplexer");

/** Handles a path: sends `greeting`, refuses the first message as `refusal` says, and answers the others as `accepted` says. */
function handle(path, { greeting, refusal, accepted }) {
  const received = [];
  M.handle(path, (request) => {
    const socket = request.accept();
    if (greeting) socket.send(JSON.stringify(greeting));
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      const answer = received.push(message) === 1 ? refusal : accepted;
      socket.send(JSON.stringify(answer(message)));
    };
  });
  return received;
}

test("a commit beyond the limit keeps its edits, which a later commit includes", async () => {
  const received = handle("/sheet", {
    greeting: { document: "d", version: 0, data: {} },
    refusal: ({ id }) => ({ id, error: "limited", message: "too many commits: commit again in 250 ms", retryAfter: 250 }),
    accepted: ({ id }) => ({ id, version: 1 }),
  });
  const sheet = await state("ws://localhost/sheet", { WebSocket: M.WebSocket });
  sheet.data.a = 1;
  await assert.rejects(sheet.commit(), { name: "StateError", code: "limited", retryAfter: 250 });
  assert.deepEqual(sheet.data, { a: 1 });
  sheet.data.b = 2;
  assert.equal(await sheet.commit(), 1);
  assert.deepEqual(received[1].delta.map(({ path, value }) => [path, value]), [["/a", 1], ["/b", 2]]);
  sheet.close();
});

test("a call beyond the limit rejects, and the next one on its socket has its result", async () => {
  const received = handle("/add", {
    refusal: () => ({ error: { code: "limited", message: "too many calls: call again in 250 ms", data: { retryAfter: 250 } } }),
    accepted: ([left, right]) => ({ result: left + right }),
  });
  const add = rpc("ws://localhost/add", { WebSocket: M.WebSocket });
  await assert.rejects(add(1, 2), { name: "RpcError", code: "limited", data: { retryAfter: 250 } });
  assert.equal(await add(1, 2), 3);
  assert.equal(received.length, 2);
});
