// Calls that must compile against the types that examples/typed-calls has written, and calls that must not.
import { MultiWebSocket, type Rpc } from "manysocket";
import { rpc } from "manysocket/rpc";
import type { Functions, Priority, Task } from "./functions.js";

const M = new MultiWebSocket("/multiplexer");
const functions = M.rpc<Functions>("/rpc/");
const declared: Rpc<Functions> = M.rpc("/rpc/");

const task: Task = await functions.tasks.add("sleep", "high");
const titles: string[] = (await functions.tasks.all()).map(({ title }) => title);
const priority: Priority = task.priority;
for await (const second of await functions.countdown(10)) second.toFixed();
const { add } = rpc<Functions["tasks"]>("/rpc/tasks/", { timeout: 100 });
add(titles[0], priority).then(({ number }) => number.toFixed());

// @ts-expect-error: an argument of the wrong type
functions.countdown("10");
// @ts-expect-error: a word that is no priority
functions.tasks.add("sleep", "middle");
// @ts-expect-error: an argument is missing
functions.tasks.add("sleep");
// @ts-expect-error: one argument too many
functions.tasks.all(true);
// @ts-expect-error: no such function
functions.tasks.remove(1);
// @ts-expect-error: no such folder
functions.notes.all();
// @ts-expect-error: a folder is no function
functions.tasks();
// @ts-expect-error: a promise is no task
functions.tasks.add("sleep", "low").title;
// @ts-expect-error: the result has no such member
task.done;
// @ts-expect-error: the result has another type
const wrong: number = await functions.tasks.all();
// @ts-expect-error: a result that is no stream
for await (const one of await functions.tasks.add("sleep", "low")) void one;
// @ts-expect-error: the items have another type
for await (const second of await functions.countdown(10)) second.trim();

// A function may have functions below its path, and a parameter's values share a member.
interface More {
  find: { (text: string): number; again(): AsyncIterable<string> };
  tanks: { "{tank}": { turn(degrees: number): null } };
}
const more = rpc<More>("/more/");
const found: number = await more.find("x");
for await (const text of await more.find.again()) text.trim();
const tank = rpc<More["tanks"]["{tank}"]>("/more/tanks/7/");
const nothing: null = await tank.turn(5);
// @ts-expect-error: an argument of the wrong type
more.find(5);
// @ts-expect-error: no such function
more.find.once();

export { declared, found, nothing, wrong };
