// The shared spreadsheet: a grid of inputs over `sheet.data.cells`, which has the text of each cell that has any.
import { MultiWebSocket } from "./pkg/index.js";
import { state } from "./pkg/state.js";
import { evaluator } from "./formula.js";

const COLUMNS = [..."ABCDEF"];
const ROWS = 12;

/** The content of a new sheet. */
const EXAMPLE = {
  A1: "Item", B1: "Count", C1: "Price", D1: "Total",
  A2: "Apples", B2: "12", C2: "0.35", D2: "=B2*C2",
  A3: "Bread", B3: "2", C3: "3.20", D3: "=B3*C3",
  A4: "Coffee", B4: "1", C4: "7.90", D4: "=B4*C4",
  A6: "Sum", D6: "=SUM(D2:D4)",
};

const element = (id) => document.getElementById(id);
const choices = element("choices");
const make = (kind, ...content) => {
  const made = document.createElement(kind);
  made.append(...content);
  return made;
};
const name = new URLSearchParams(location.search).get("sheet") || "budget";
element("second").href = `?sheet=${encodeURIComponent(name)}`;

const inputs = new Map();
buildGrid();

const M = new MultiWebSocket("/multiplexer");
let sheet;
try {
  sheet = await state(`/demo/state/${encodeURIComponent(name)}`, { WebSocket: M.WebSocket });
} catch (error) {
  element("status").textContent = `That did not work: ${error.message}`;
  throw error;
}
// Tests reach the document as `sheet`.
globalThis.sheet = sheet;
sheet.data.cells ??= {};
if (sheet.version === 0) {
  Object.assign(sheet.data.cells, EXAMPLE);
  await commit();
}
sheet.watch((delta, { own }) => {
  if (own) return;
  draw();
  delta.forEach(tell);
  for (const { path } of delta) flash(referenceOf(path));
});
sheet.addEventListener("open", showStatus);
sheet.addEventListener("close", showStatus);
draw();
showStatus();

function buildGrid() {
  const table = document.querySelector("table");
  const head = table.createTHead().insertRow();
  for (const column of ["", ...COLUMNS]) {
    head.append(Object.assign(document.createElement("th"), { textContent: column, scope: "col" }));
  }
  const body = table.createTBody();
  for (let row = 1; row <= ROWS; row++) {
    const line = body.insertRow();
    line.append(Object.assign(document.createElement("th"), { textContent: row, scope: "row" }));
    for (const column of COLUMNS) {
      const reference = column + row;
      const input = Object.assign(document.createElement("input"), { id: reference, autocomplete: "off", disabled: true });
      input.setAttribute("aria-label", reference);
      input.addEventListener("focus", () => (input.value = textOf(reference)));
      input.addEventListener("input", () => edit(reference, input.value));
      input.addEventListener("blur", () => leave());
      input.addEventListener("keydown", (event) => move(event, COLUMNS.indexOf(column), row));
      line.insertCell().append(input);
      inputs.set(reference, input);
    }
  }
}

function textOf(reference) {
  const text = sheet.data.cells?.[reference];
  return typeof text === "string" || typeof text === "number" ? String(text) : "";
}

/** Shows all cells, but leaves alone the one that is being typed in. */
function draw() {
  const valueOf = evaluator(textOf);
  for (const [reference, input] of inputs) {
    input.disabled = false;
    const { text, kind } = valueOf(reference);
    input.classList.toggle("number", kind === "number");
    input.classList.toggle("wrong", kind === "wrong");
    if (input !== document.activeElement && input.value !== text) input.value = text;
  }
}

function edit(reference, text) {
  sheet.data.cells ??= {};
  if (text === "") delete sheet.data.cells[reference];
  else sheet.data.cells[reference] = text;
  inputs.get(reference).parentElement.classList.add("uncommitted");
}

async function leave() {
  draw();
  if (document.querySelector(".uncommitted") !== null) await commit();
}

async function commit() {
  // A commit would send the page's own values before the reader has chosen.
  if (choices.childElementCount > 0) return;
  const marked = [...document.querySelectorAll(".uncommitted")];
  try {
    await sheet.commit();
    for (const cell of marked) cell.classList.remove("uncommitted");
    showStatus();
  } catch (error) {
    if (error.code === "conflict") showConflicts(error.conflicts);
    else element("status").textContent = `Not committed: ${error.message}`;
  }
}

const referenceOf = (path) => path.split("/")[2];

const shown = (value) => (typeof value === "object" ? "…" : String(value ?? "") || "(empty)");

/** Asks for each cell that others have changed, too. The next commit sends the page's own values over the others'. */
function showConflicts(conflicts) {
  const cells = conflicts.length === 1 ? "the same cell" : `${conflicts.length} of the same cells`;
  element("conflict-title").textContent = `Another window has changed ${cells}. Nothing of yours is committed yet.`;
  const outcomes = [];
  choices.replaceChildren(...conflicts.map(({ path, mine, theirs }) => {
    const reference = referenceOf(path) ?? "the sheet";
    const cell = inputs.get(reference)?.parentElement;
    cell?.classList.add("conflict");
    const row = make("li", make("code", reference), ` You: ${shown(mine)}. The other window: ${shown(theirs)}.`);
    const choose = (outcome) => {
      cell?.classList.remove("conflict");
      outcomes.push(outcome);
      row.remove();
      draw();
      (choices.querySelector("button") ?? inputs.get(reference))?.focus();
      if (choices.childElementCount > 0) return;
      element("conflict").hidden = true;
      element("news").textContent = outcomes.join(" ");
      commit();
    };
    const keep = make("button", `Keep ${shown(mine)}`);
    keep.dataset.side = "mine";
    keep.onclick = () => choose(`${reference} is ${shown(mine)}: yours replaced ${shown(theirs)}.`);
    const take = make("button", `Take ${shown(theirs)}`);
    take.dataset.side = "theirs";
    take.onclick = () => {
      if (inputs.has(reference)) edit(reference, theirs ?? "");
      choose(`${reference} is ${shown(theirs)}: you gave up ${shown(mine)}.`);
    };
    row.append(keep, take);
    return row;
  }));
  element("conflict").hidden = false;
  element("news").textContent = "";
  // A user who types goes on; Escape leads here.
  if (document.activeElement === document.body) choices.querySelector("button").focus();
}

/** Describes the change of another window, and its effect on the text that is being typed here. */
function tell({ op, path, value }) {
  const reference = referenceOf(path);
  const cell = inputs.get(reference)?.parentElement;
  if (!cell) return;
  const theirs = op === "remove" ? "" : value;
  const isTyped = cell.classList.contains("uncommitted");
  element("news").textContent = isTyped
    ? `Another window has set ${reference} to ${shown(theirs)}. You have typed ${shown(textOf(reference))}, which is not committed: leave the cell to choose.`
    : `Another window has set ${reference} to ${shown(theirs)}.`;
}

function showStatus() {
  const isOpen = sheet.readyState === 1;
  element("status").classList.toggle("open", isOpen);
  element("status").textContent = isOpen
    ? `Sheet “${name}”, version ${sheet.version}`
    : "Connection lost. Go on: your edits are committed when it is back.";
}

function flash(reference) {
  showStatus();
  const cell = inputs.get(reference)?.parentElement;
  if (!cell) return;
  cell.classList.remove("changed");
  // Reading the layout lets the browser see that the class is removed, so that the animation restarts.
  void cell.offsetWidth;
  cell.classList.add("changed");
}

/** Enter and the vertical arrows go up and down; Escape leaves, to the choices if there are any. */
function move(event, column, row) {
  const step = { Enter: event.shiftKey ? -1 : 1, ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") {
    event.target.blur();
    choices.querySelector("button")?.focus();
  }
  const target = step && inputs.get(COLUMNS[column] + (row + step));
  if (event.key === "Enter") event.target.blur();
  target?.focus();
}
