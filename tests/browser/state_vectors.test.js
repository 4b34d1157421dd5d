// The vectors of replicas, which the client for Rust programs replays, too.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { diff } from "../../js/state/diff.js";
import { merge, trees } from "../../js/state/merge.js";
import { Replica } from "../../js/state/replica.js";
import { toPlain, toTree } from "../../js/state/tree.js";

/** As it is in the file: `undefined` and prototypes are not. */
const asJson = (value) => JSON.parse(JSON.stringify(value));

const resultOf = ({ code, conflicts, paths, retryAfter }) => ({
  error: code,
  ...(conflicts.length > 0 && { conflicts }),
  ...(paths.length > 0 && { paths }),
  ...(retryAfter !== undefined && { retryAfter }),
});

/** Replays a session, and calls `check(step, key, value)` with each result of a step; `undefined`: there is none. */
async function replay({ start, steps }, check) {
  const replica = new Replica();
  replica.receive(start);
  let [last, data, settled] = ["", asJson(replica.data), {}];
  for (const step of steps) {
    if ("edit" in step) replica.data = structuredClone(step.edit);
    if ("commit" in step) {
      const fail = (error) => (settled[step.commit] = resultOf(error));
      try {
        replica.commit().then((version) => (settled[step.commit] = version), fail);
      } catch (error) {
        fail(error);
      }
    }
    if ("receive" in step) replica.receive(step.receive);
    if ("answer" in step) replica.answer({ id: last, ...step.answer });
    if ("withhold" in step) replica.withhold(step.withhold.code, step.withhold.message);
    for (const key of ["send", "resend"]) {
      if (!(key in step)) continue;
      const message = key === "send" ? replica.next() : replica.unanswered;
      last = message?.id ?? last;
      check(step, key, message && asJson({ base: message.base, delta: message.delta }));
    }
    // The promises of commits call back.
    await new Promise(setImmediate);
    check(step, "settled", Object.keys(settled).length > 0 ? asJson(settled) : undefined);
    settled = {};
    const before = JSON.stringify(data);
    data = asJson(replica.data);
    check(step, "data", JSON.stringify(data) === before ? undefined : data);
  }
}

const vectors = JSON.parse(readFileSync(new URL("../vectors/state.json", import.meta.url), "utf8"));

test("deltas are those of the vectors", () => {
  for (const { from, to, delta } of vectors.diffs) {
    assert.deepEqual(toPlain(diff(toTree(from), toTree(to))), delta, JSON.stringify({ from, to }));
  }
});

test("merges are those of the vectors", () => {
  for (const { ancestor, mine, theirs, merged, conflicts } of vectors.merges) {
    const found = [];
    const [before, own, others] = [ancestor, mine, theirs].map(toTree);
    const result = toPlain(merge(before, own, others, trees, found));
    assert.deepEqual([result, asJson(found)], [merged, conflicts], JSON.stringify({ ancestor, mine, theirs }));
  }
});

for (const session of vectors.sessions) {
  test(`session: ${session.name}`, async () => {
    const check = (step, key, value) => assert.deepEqual(value, step[key], `${key} of ${JSON.stringify(step)}`);
    await replay(session, check);
  });
}
