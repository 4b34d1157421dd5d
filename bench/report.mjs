// Writes the results into docs/benchmarks.md, between its two marks, and the charts beside it.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as echarts from "echarts";
import { growth, workloads } from "./workloads.mjs";

export const docs = new URL("../docs/", import.meta.url);
const BEGIN = "<!-- results: written by cargo xtask bench -->";
const END = "<!-- end of results -->";

const COLOURS = { native: "#8a8f98", manysocket: "#2f6fde", "over HTTP": "#7fa9ef", "websocket-multiplex": "#c98a1b", "socket.io": "#5b9a5b" };
const NAMES = Object.keys(COLOURS);

/** Rounds to three digits, since the spread is wider than the fourth. */
export function number(value) {
  if (value === undefined) return "";
  if (value >= 1000) return Math.round(Number(value.toPrecision(3))).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

const times = (ratio) => `${number(ratio)} ×`;

function figure(summary) {
  if (summary === undefined) return "–";
  const mark = summary.noisy > 0 ? " *" : "";
  return `${number(summary.median)} (${number(summary.min)}–${number(summary.max)})${mark}`;
}

/** Returns whether a row meets its target; targets of `lower is better` rows are ratios of speed too. */
function verdict(workload, result) {
  if (workload.absolute) {
    const { median } = result.manysocket;
    const { reach, aim } = workload.absolute;
    return [`${number(reach)} / ${number(aim)} ms`, median <= aim ? "aim" : median <= reach ? "reached" : "**missed**"];
  }
  if (workload.reach === undefined) return ["", ""];
  const met = result.ratio >= workload.aim ? "aim" : result.ratio >= workload.reach ? "reached" : "**missed**";
  return [`${times(workload.reach)} / ${times(workload.aim)}`, met];
}

function table(results) {
  const rows = Object.entries(results.workloads).map(([key, result]) => {
    const workload = workloads[key];
    const [target, met] = verdict(workload, result);
    const cells = [`${workload.title}, ${workload.unit}`, ...NAMES.map((name) => figure(result[name])), result.ratio ? times(result.ratio) : "", target, met];
    return `| ${cells.join(" | ")} |`;
  });
  return [
    `| workload | ${NAMES.join(" | ")} | against native | reach / aim | |`,
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

const LOG_TICKS = { type: "log", splitLine: { lineStyle: { color: "#e4e6ea" } } };

export async function chart(file, option) {
  const drawing = echarts.init(null, null, { renderer: "svg", ssr: true, width: 760, height: 380 });
  drawing.setOption({ animation: false, backgroundColor: "#fff", textStyle: { fontFamily: "sans-serif" }, grid: { left: 80, right: 24, top: 64, bottom: 56 }, ...option });
  await writeFile(new URL(`${file}.svg`, docs), drawing.renderToSVGString());
  drawing.dispose();
}

async function growthChart(key, series) {
  const { title, axis, unit } = growth[key];
  await chart(`benchmarks/growth-${key}`, {
    title: { text: title, left: "center", textStyle: { fontSize: 14 } },
    legend: { top: 28 },
    xAxis: { ...LOG_TICKS, name: axis, nameLocation: "middle", nameGap: 30 },
    yAxis: { ...LOG_TICKS, name: unit },
    series: Object.entries(series).map(([name, data]) => ({ name, type: "line", data, itemStyle: { color: COLOURS[name] }, lineStyle: { color: COLOURS[name], width: 2 } })),
  });
}

/** Draws the messages per second of every contestant, by workload. */
async function messagesChart(results) {
  const keys = ["echo-1", "echo-100", "turns", "push", "text-1k", "binary-1k"].filter((key) => results.workloads[key]);
  await chart("benchmarks/messages", {
    title: { text: "Messages per second", left: "center", textStyle: { fontSize: 14 } },
    legend: { top: 28 },
    xAxis: { type: "category", data: keys, axisLabel: { interval: 0 } },
    yAxis: { type: "value" },
    series: NAMES.map((name) => ({ name, type: "bar", itemStyle: { color: COLOURS[name] }, data: keys.map((key) => results.workloads[key][name]?.median ?? null) })),
  });
}

function memory({ idleBrowser, idleServer, dispatch }) {
  const kilobytes = (bytes) => `${number(bytes / 1024)} KiB`;
  return [
    "| idle sockets in the browser | JavaScript heap, each | all processes, each |",
    "| --- | --- | --- |",
    ...Object.entries(idleBrowser).map(([name, { sockets, heap, processes }]) => `| ${name}, ${number(sockets)} | ${kilobytes(heap)} | ${kilobytes(processes)} |`),
    "",
    "| idle sockets on the server | open after | memory each, the handler's task among it | one message to each and back |",
    "| --- | --- | --- | --- |",
    ...idleServer.map(({ kind, links, sockets, openedMs, bytesEach, answeredMs }) => `| ${number(sockets)} ${kind} over ${number(links)} connections | ${number(openedMs)} ms | ${kilobytes(bytesEach)} | ${number(answeredMs)} ms |`),
    "",
    "| virtual opens, each closed again | a second | a second of one core's time |",
    "| --- | --- | --- |",
    ...Object.entries(dispatch).map(([path, { opensPerSecond, opensPerCoreSecond }]) => `| ${path === "/test/echo" ? "our extractor" : "axum's own"} | ${number(opensPerSecond)} | ${number(opensPerCoreSecond)} |`),
  ].join("\n");
}

export async function report(results) {
  for (const [key, series] of Object.entries(results.growth)) await growthChart(key, series);
  await messagesChart(results);
  await writeBetween("benchmarks.md", BEGIN, END, `${results.machine}; ${results.browser}; ${results.date}; load average at the start ${results.load.map((load) => load.toFixed(1)).join(" ")}.

Medians, with the lowest and the highest in brackets. \\* marks figures where other programs on the machine disturbed some rounds.

${table(results)}

![messages per second](benchmarks/messages.svg)
![against the number of sockets](benchmarks/growth-sockets.svg)
![against the size of messages](benchmarks/growth-size.svg)
![opening](benchmarks/growth-opening.svg)

${memory(results)}`);
}

/** Replaces the text between two marks in a file of docs/. */
export async function writeBetween(name, begin, end, text) {
  const file = fileURLToPath(new URL(name, docs));
  const old = await readFile(file, "utf8");
  const [before, after] = [old.indexOf(begin), old.indexOf(end)];
  if (before < 0 || after < 0) throw new Error(`${file} lacks the marks ${begin} and ${end}`);
  await writeFile(file, `${old.slice(0, before)}${begin}\n\n${text}\n\n${old.slice(after)}`);
}

// `node bench/report.mjs` writes the file again from the figures of the last run.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await report(JSON.parse(await readFile(new URL("benchmarks/results.json", docs), "utf8")));
}
