// Reads Linux's figures of processes and of the machine.
import { readFileSync } from "node:fs";

// `getconf CLK_TCK`, which is 100 on every Linux that Chromium runs on.
const TICKS = 100;

/** Returns the seconds of processor time that the processes have used. @param {number[]} pids */
export function cpuSeconds(pids) {
  let ticks = 0;
  for (const pid of pids) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // The process has ended.
    }
  }
  return ticks / TICKS;
}

/** Returns the seconds of processor time that all processes on the machine have used. */
export function busySeconds() {
  const [user, nice, system, , , irq, softirq] = readFileSync("/proc/stat", "utf8").split("\n")[0].trim().split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) / TICKS;
}

/** Returns the bytes of memory that only this process uses. */
export function memory(pid) {
  const pss = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(pss[1]) * 1024;
}

/** Describes the machine in a line. */
export function machine() {
  const cpu = /^model name\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? process.arch;
  const cores = readFileSync("/proc/stat", "utf8").match(/^cpu\d+/gm).length;
  const kernel = readFileSync("/proc/version", "utf8").split(" ")[2];
  const memory = Math.round(Number(/^MemTotal:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))[1]) / 2 ** 20);
  return `${cores} cores of ${cpu}, ${memory} GiB, Linux ${kernel}`;
}
