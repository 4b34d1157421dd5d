// Numbers as the pages show them.

export const grouped = (value) => value.toLocaleString("en");
export const rounded = (value) => grouped(value < 10 ? Math.round(value * 10) / 10 : Math.round(value));
export const milliseconds = (value) => `${rounded(value)} ms`;
export const times = (factor) => (factor >= 10 ? grouped(Math.round(factor)) : factor.toFixed(1));

/** A value that may not be known yet. */
export const orDash = (value, text) => (value === null ? "–" : text(value));

/** How much faster something is: five in a hundred are noise. */
export function compared(factor) {
  if (factor > 1.05) return `${times(factor)} times faster`;
  return factor < 0.95 ? `${times(1 / factor)} times slower` : "as fast";
}
