/** The page's style sheet. Colours are chosen to be told apart in light and dark, and by the colour-blind. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: light-dark(#f6f7f9, #14161a);
  --card: light-dark(#ffffff, #1c1f25);
  --line: light-dark(#dfe3e8, #313640);
  --text: light-dark(#1b1f24, #e4e7ec);
  --faint: light-dark(#5d6673, #98a1b0);
  --safe: light-dark(#2f9e68, #3fb97c);
  --controversial: light-dark(#d9870a, #eda528);
  --unsafe: light-dark(#d4352c, #f2564c);
  --span: light-dark(#5b3fd1, #a793ff);
  --accent: light-dark(#2563c9, #7fb0ff);
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
.about { color: var(--faint); margin: .25rem 0 1.25rem; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.1rem; }
.warning { border-left: .3rem solid var(--controversial); margin-bottom: 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr)); gap: .8rem; margin-bottom: .8rem; }
.tile .name { color: var(--faint); font-size: .85rem; }
.tile .value { font-size: 1.8rem; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile .detail { color: var(--faint); font-size: .85rem; font-variant-numeric: tabular-nums; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(21rem, 1fr)); gap: .8rem; margin-bottom: .8rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--faint); font-size: .85rem; }
tbody th { color: var(--text); font-size: 1em; }
td.right { background: color-mix(in srgb, var(--safe) 16%, transparent); }
td.wrong { background: color-mix(in srgb, var(--unsafe) 13%, transparent); }
td.none { background: none; color: var(--faint); }
.scroll { overflow: auto; max-height: 22rem; }
details.more { margin-bottom: .8rem; }
details.more > summary { cursor: pointer; font-weight: 600; }
details.more table { margin-top: .6rem; }

.histogram { display: flex; align-items: stretch; gap: .4rem; height: 11.5rem; }
.histogram button { flex: 1; min-width: 0; display: flex; flex-direction: column; justify-content: flex-end; align-items: center; gap: .15rem; padding: .2rem .1rem; border: 0; border-radius: .35rem; background: none; color: inherit; font: inherit; cursor: pointer; }
.histogram button:hover { background: color-mix(in srgb, var(--text) 6%, transparent); }
.histogram button[aria-pressed="true"] { background: color-mix(in srgb, var(--accent) 18%, transparent); }
.histogram .count { font-size: .85rem; font-variant-numeric: tabular-nums; }
.histogram .bar { width: 78%; min-height: 2px; border-radius: .2rem .2rem 0 0; }
.histogram .bin { font-size: .78rem; color: var(--faint); white-space: nowrap; }
.bar.ahead { background: var(--accent); } .bar.hit { background: var(--safe); }
.bar.late { background: var(--controversial); } .bar.missed { background: var(--unsafe); }

.filters { display: flex; flex-wrap: wrap; gap: .45rem; align-items: center; position: sticky; top: 0; z-index: 2; background: var(--page); padding: .7rem 0; margin-top: 1rem; }
.filters h2 { margin: 0 .4rem 0 0; }
.filters button, .show-more { border: 1px solid var(--line); background: var(--card); color: inherit; border-radius: 2rem; padding: .25rem .8rem; font: inherit; font-size: .9rem; cursor: pointer; }
.filters button[aria-pressed="true"] { background: var(--accent); border-color: var(--accent); color: light-dark(#fff, #10141c); }
.filters label { margin-left: auto; color: var(--faint); font-size: .9rem; }
.filters select { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .2rem .4rem; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; color: var(--faint); font-size: .85rem; margin: 0 0 .8rem; }
.legend .token { padding: 0 .3em; color: var(--text); }

.row { margin-bottom: .8rem; }
.row header { display: flex; flex-wrap: wrap; gap: .35rem .6rem; align-items: center; font-size: .9rem; }
.row .line { font-weight: 650; font-variant-numeric: tabular-nums; }
.badge { border-radius: .3rem; padding: .02rem .45rem; font-weight: 600; font-size: .85rem; color: var(--tint); background: color-mix(in srgb, var(--tint) 14%, transparent); }
.badge.caught, .badge.passed { --tint: var(--safe); }
.badge.missed, .badge.alarm { --tint: var(--unsafe); }
.risk { color: var(--tint); font-weight: 600; }
.safe { --tint: var(--safe); } .controversial { --tint: var(--controversial); } .unsafe { --tint: var(--unsafe); }
.row .tags { color: var(--faint); margin-left: auto; overflow-wrap: anywhere; }
.strip { position: relative; height: 1.25rem; margin: .55rem 0 .2rem; }
.strip canvas { position: absolute; top: .45rem; width: 100%; height: .5rem; border-radius: .15rem; image-rendering: pixelated; }
.strip .mark { position: absolute; bottom: 0; height: 3px; min-width: 3px; background: var(--span); border-radius: 2px; }
.strip .flag { position: absolute; top: 0; width: 0; margin-left: -5px; border: 5px solid transparent; border-bottom: 0; border-top: 7px solid var(--text); }
.turn { margin: .5rem 0 0; }
.turn .role { color: var(--faint); font-size: .78rem; text-transform: uppercase; letter-spacing: .05em; }
.turn .content { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; max-height: 14rem; overflow: auto; }
.turn .tokens { line-height: 1.75; max-height: 27rem; }
.token { --strength: calc(12% + var(--p, 1) * 42%); background: color-mix(in srgb, var(--tint) var(--strength), transparent); border-radius: .15rem; }
.token.safe { --strength: calc(4% + var(--p, 1) * 12%); }
.token.span { border-bottom: 3px solid var(--span); border-radius: .15rem .15rem 0 0; }
.token.fired { outline: 2px solid var(--text); outline-offset: 1px; border-radius: .1rem; }
.token.fired::before { content: "▼ "; font-size: .75em; color: var(--text); }
.token.control { font-family: ui-monospace, monospace; font-size: .8em; color: var(--faint); }
.token .break { color: var(--faint); font-size: .8em; font-style: normal; }
[data-tip]:hover:not(.fired) { outline: 1px solid var(--accent); }
#tip { position: fixed; z-index: 3; pointer-events: none; background: light-dark(#1b1f24, #eef1f5); color: light-dark(#fff, #14161a); border-radius: .35rem; padding: .3rem .6rem; font-size: .85rem; line-height: 1.4; max-width: 22rem; white-space: pre-line; box-shadow: 0 2px 10px #0005; }
.show-more { display: block; margin: 1rem auto; padding: .45rem 1.4rem; }
.empty { color: var(--faint); text-align: center; padding: 2rem; }
[hidden] { display: none !important; }
@media (max-width: 34rem) { .filters label { margin-left: 0; } .row .tags { margin-left: 0; width: 100%; } }
`;
