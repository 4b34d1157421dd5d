// Writes the results of the soak into docs/faults.md, between its two marks, and the chart beside it.
import { readFile, writeFile, mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { chart, docs, number, writeBetween } from "./report.mjs";

const BEGIN = "<!-- soak: written by cargo xtask bench soak -->";
const END = "<!-- end of the soak -->";

const COLOURS = { server: "#2f6fde", gateway: "#c98a1b" };

/** Draws memory above and channels below, over the minutes. */
async function drawing(samples) {
  const names = Object.keys(COLOURS);
  const line = (name, figure, panel, dashed) => ({
    name, type: "line", xAxisIndex: panel, yAxisIndex: panel, showSymbol: false, itemStyle: { color: COLOURS[name] },
    lineStyle: { color: COLOURS[name], width: 1.5, type: dashed ? "dashed" : "solid" }, data: samples.map((sample) => [sample.seconds / 60, figure(sample[name])]),
  });
  const last = Math.ceil(samples.at(-1).seconds / 60);
  await chart("faults/soak", {
    title: { text: "Resident memory and channels of the servers", left: "center", textStyle: { fontSize: 14 } },
    legend: { top: 30, data: names },
    grid: [{ left: 80, right: 24, top: 72, height: 110 }, { left: 80, right: 24, top: 236, height: 90 }],
    xAxis: [0, 1].map((gridIndex) => ({ gridIndex, type: "value", max: last, ...(gridIndex === 1 && { name: "minutes", nameLocation: "middle", nameGap: 28 }) })),
    yAxis: [{ gridIndex: 0, name: "MiB", min: 0 }, { gridIndex: 1, name: "channels", min: 0 }],
    series: [...names.map((name) => line(name, ({ rss }) => rss / 2 ** 20, 0)), ...names.map((name) => line(name, ({ channels }) => channels, 1))],
  });
}

const range = (values) => `${number(Math.min(...values))}–${number(Math.max(...values))}`;

function ofServer(name, { samples, before, after, growths }) {
  const values = (figure) => samples.slice(Math.floor(samples.length / 5)).map((sample) => sample[name][figure]);
  const row = (title, figure, scale = 1) =>
    `| ${title} | ${number(before[name][figure] / scale)} | ${range(values(figure).map((value) => value / scale))} | ${number(after[name][figure] / scale)} |`;
  return [
    `| ${name} | before | during (from the second fifth on) | after |`,
    "| --- | --- | --- | --- |",
    row("resident memory, MiB", "rss", 2 ** 20),
    row("open files", "files"),
    row("threads", "threads"),
    row("links", "links"),
    row("channels", "channels"),
    "",
    `Its memory in the last fifth of the time is ${growths[name].toFixed(3)} × that in the second (medians).`,
  ].join("\n");
}

export async function reportSoak(result) {
  const { client, page, broken, every } = result;
  await mkdir(new URL("faults/", docs), { recursive: true });
  await drawing(result.samples);
  await writeFile(new URL("faults/soak.json", docs), `${JSON.stringify(result)}\n`);
  const cuts = Object.entries(broken).map(([name, { reset, end, silence }]) => `| ${name} | ${every[name]} s | ${reset} | ${end} | ${silence} |`);
  await writeBetween("faults.md", BEGIN, END, `${result.machine}; ${result.date}; ${number(result.seconds / 60)} minutes, on a machine that other work shared. All processes together used
${result.cores.all.toFixed(2)} of a core, the two servers ${result.cores.servers.toFixed(2)}.

| connections broken, to | one every, on average | by a reset | by an end | by silence |
| --- | --- | --- | --- | --- |
${cuts.join("\n")}

| | client | page in Chromium |
| --- | --- | --- |
| messages received and compared | ${number(client.received)} (${number(client.received_bytes / 2 ** 20)} MiB) | ${number(page.received)} |
| channels opened | ${number(client.opened)} | ${number(page.opened)} |
| closed in good order, nothing lost | ${number(client.closed)} | ${number(page.closed)} |
| lost with their connection, 1006 | ${number(client.lost)} | ${number(page.lost)} |
| opens refused, taken back | ${number(client.refused)}, ${number(client.taken_back)} | |
| links dialled, left, lost | ${number(client.links)}, ${number(client.links_left)}, ${number(client.links_lost)} | |
| commits acknowledged, calls answered | ${number(client.commits)}, ${number(client.calls)} | |
| longest silence before a link was given up | ${number(client.longest_silence / 1000)} s | |
| **things that must hold and did not** | **${client.violations}** | **${page.violations.length}** |

${ofServer("server", result)}

${ofServer("gateway", result)}

![memory and channels over the time](faults/soak.svg)`);
}

// `node bench/soak-report.mjs` writes the page again from the figures of the last run.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await reportSoak(JSON.parse(await readFile(new URL("faults/soak.json", docs), "utf8")));
}
