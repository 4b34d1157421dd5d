// The panel's style: a sheet made by script, which a strict Content Security Policy allows.
export const style = `
:host { display: block; color-scheme: light dark; font: 14px/1.45 system-ui, sans-serif; color: light-dark(#1d2127, #e8e6e1); }
section { border: 1px solid var(--line); border-radius: 10px; background: light-dark(#fff, #1b1e25); overflow: hidden;
  --line: light-dark(#ded9cf, #333843); --soft: light-dark(#59606b, #a4aab4); --out: light-dark(#b4531f, #f0965c); --in: light-dark(#0b6e69, #3fc7bd); }
header { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; align-items: center; padding: 0.5rem 0.75rem; border-bottom: 1px solid var(--line); }
h2 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; }
header p { margin: 0; flex: 1; color: var(--soft); }
button { font: inherit; color: inherit; min-height: 2.25rem; padding: 0 0.75rem; border: 1px solid light-dark(#8f8a80, #6b7280); border-radius: 8px; background: none; cursor: pointer; }
:focus-visible { outline: 3px solid var(--in); outline-offset: -3px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.5rem 1rem; margin: 0; padding: 0.75rem; }
dt { color: var(--soft); font-size: 0.8125rem; }
dd { margin: 0; font-size: 1.125rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.scroll { overflow: auto; max-height: 16rem; border-top: 1px solid var(--line); }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.75rem; text-align: right; white-space: nowrap; }
th { position: sticky; top: 0; background: light-dark(#f7f5f0, #13151a); color: var(--soft); font-weight: 500; }
:is(th, td):nth-child(2) { text-align: left; }
tr + tr { border-top: 1px solid var(--line); }
ol { list-style: none; margin: 0; padding: 0; font: 12px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
li { padding: 0.125rem 0.75rem; overflow-wrap: anywhere; }
li + li { border-top: 1px solid var(--line); }
li b { color: var(--in); }
li.sent b { color: var(--out); }
.refused { list-style: none; margin: 0; padding: 0; max-height: 8rem; overflow: auto; font-size: 13px; }
.refused:not(:empty) { border-top: 1px solid var(--line); }
.refused b { color: light-dark(#b3261e, #ff8a80); }
.none { margin: 0; padding: 0.75rem; color: var(--soft); }
`;
