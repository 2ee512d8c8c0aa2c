"""How the report looks, in light and dark."""

STYLE = """
:root { --ink: #1d2530; --soft: #5d6875; --line: #dfe4ea; --page: #f6f7f9; --sheet: #ffffff; --kept: #3f6ea8; --lost: #c9ced6;
  --chosen: #0e8577; --rejected: #c4622d; --own: #3f6ea8; --chip: #eef1f5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e9ef; --soft: #9aa6b4; --line: #2f3742; --page: #14181e; --sheet: #1c2129;
  --kept: #6f9fdc; --lost: #47505d; --chosen: #3fc2b0; --rejected: #ee9460; --own: #6f9fdc; --chip: #29303a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 2.1rem; line-height: 1.15; margin: 0 0 20px; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 16px; letter-spacing: -0.01em; }
h3 { font-size: 0.95rem; margin: 0 0 8px; }
small { color: var(--soft); font-weight: 400; font-size: 0.85em; }
.kind { margin: 0 0 4px; color: var(--soft); text-transform: uppercase; letter-spacing: 0.08em; font-size: 0.78rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 28px; }
.tile { background: var(--sheet); border: 1px solid var(--line); border-radius: 10px; padding: 12px 18px; min-width: 120px; }
.tile b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; line-height: 1.2; }
.tile span { color: var(--soft); font-size: 0.85rem; }
section { background: var(--sheet); border: 1px solid var(--line); border-radius: 12px; padding: 24px 26px; margin-bottom: 22px; }
.funnel { display: grid; grid-template-columns: minmax(130px, 230px) minmax(120px, 1fr) minmax(150px, auto); gap: 9px 16px;
  align-items: center; }
.grain { grid-column: 1 / -1; color: var(--soft); font-size: 0.78rem; text-transform: uppercase; letter-spacing: 0.08em;
  border-bottom: 1px solid var(--line); margin-top: 8px; padding-bottom: 3px; }
.grain:first-child { margin-top: 0; }
.name { overflow-wrap: anywhere; line-height: 1.3; font-size: 0.95rem; }
.count { font-variant-numeric: tabular-nums; font-size: 0.92rem; }
.loss { color: var(--rejected); }
.bar { display: flex; height: 20px; }
.bar i { display: block; height: 100%; min-width: 0; }
.bar i:first-child { border-radius: 4px 0 0 4px; }
.bar i:last-child { border-radius: 0 4px 4px 0; }
.bar.two { flex-direction: column; gap: 2px; height: 22px; }
.bar.two i { flex: 1; border-radius: 3px; }
i.kept { background: var(--kept); } i.chosen { background: var(--chosen); } i.rejected { background: var(--rejected); }
i.own { background: var(--own); }
i.lost { background: repeating-linear-gradient(135deg, var(--lost) 0 4px, transparent 4px 7px); outline: 1px solid var(--lost);
  outline-offset: -1px; }
.key { color: var(--soft); font-size: 0.85rem; margin: 14px 0 0; }
.key i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin: 0 4px 0 10px; vertical-align: -1px; }
.key i:first-child { margin-left: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 20px 28px; }
.plots.wide { grid-template-columns: minmax(300px, 620px); }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; font-size: 0.95rem; margin-bottom: 4px; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg path { stroke-width: 1.5; fill-opacity: 0.28; stroke-linejoin: round; }
svg .chosen { fill: var(--chosen); stroke: var(--chosen); } svg .rejected { fill: var(--rejected); stroke: var(--rejected); }
svg .own { fill: var(--own); stroke: var(--own); }
svg .kept { fill: var(--kept); stroke: var(--kept); } svg line.kept, svg line.rejected { stroke-width: 2; }
svg .axis { stroke: var(--line); } svg .median { stroke-width: 1.5; stroke-dasharray: 4 3; }
.plots.wide svg text { font-size: 8px; }
.told { color: var(--soft); font-size: 0.82rem; margin: 4px 0 0; }
.tables { display: flex; flex-wrap: wrap; gap: 20px 40px; align-items: flex-start; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
table.full { width: 100%; margin-bottom: 14px; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: 0.82rem; }
th.n { text-align: right; }
th { white-space: nowrap; }
th, td { padding: 5px 16px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.short { white-space: nowrap; }
article { border-top: 1px solid var(--line); padding: 18px 0 20px; }
article:first-of-type { border-top: 0; padding-top: 0; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin-bottom: 10px; }
.chips span { background: var(--chip); border-radius: 6px; padding: 1px 8px; font-size: 0.82rem; color: var(--soft);
  overflow-wrap: anywhere; }
.chips b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 26rem; overflow-y: auto; unicode-bidi: plaintext;
  font-size: 0.95rem; }
.prompt { border-left: 3px solid var(--line); padding: 2px 0 2px 14px; margin-bottom: 12px; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 16px; }
.side { border: 1px solid var(--line); border-top: 3px solid var(--own); border-radius: 8px; padding: 12px 14px; min-width: 0; }
.side.chosen { border-top-color: var(--chosen); } .side.rejected { border-top-color: var(--rejected); }
.side.chosen h3 { color: var(--chosen); } .side.rejected h3 { color: var(--rejected); }
pre { margin: 0; overflow-x: auto; font: 0.86rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; tab-size: 2; }
footer { color: var(--soft); font-size: 0.85rem; padding: 4px 2px; }
@media (max-width: 640px) { .funnel { grid-template-columns: 1fr; gap: 4px; } .name { margin-top: 8px; }
  main { padding: 24px 12px; }
  section { padding: 18px 16px; } .sides { grid-template-columns: 1fr; } }
@media print { body { background: none; } section { border: 0; padding: 0; } article { break-inside: avoid; }
  .text { max-height: none; } }
"""
