/**
 * The page's script. It builds every element by `textContent`, never by markup: what datasets hold stays text.
 * Conversations are drawn a few at a time, so that thousands of rows open as quickly as ten.
 */
export const SCRIPT = String.raw`
"use strict";
const { type, labels, categories, texts, rows } = JSON.parse(document.getElementById("data").textContent);
const PAGE = 20;
const NAMES = { caught: "caught", missed: "missed", alarm: "false alarm", passed: "passed" };
const DELAYS = { hit: "hits", ahead: "ahead", missed: "missed" };
const only = document.getElementById("delay");
const list = document.getElementById("rows");
const more = document.getElementById("more");
const tip = document.getElementById("tip");
const state = { reading: "strict", outcome: "all", delay: null, shown: PAGE };

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null));
  return node;
}

function outcome(row) {
  const flagged = state.reading === "strict" ? row.found !== "safe" : row.found === "unsafe";
  if (row.unsafe[state.reading]) return flagged ? "caught" : "missed";
  return flagged ? "alarm" : "passed";
}

function percent(probability) {
  return (100 * probability).toFixed(1) + " %";
}

function risk(severity, name) {
  return element("span", "risk " + severity, name);
}

function title(severity) {
  return severity[0].toUpperCase() + severity.slice(1);
}

function card(row) {
  const kind = outcome(row);
  const tags = [row.source, row.category, row.lang].filter(Boolean).join(" · ");
  const where = row.flagged === null || type === "prompt" ? null
    : " from token " + (row.flagged - row.start) + " of the response";
  const header = element("header", "",
    element("span", "line", "#" + row.line),
    element("span", "badge " + kind, NAMES[kind]),
    element("span", "", "annotated ", risk(row.label, title(row.label))),
    element("span", "", "found ", risk(row.found, title(row.found)), where),
    row.delay === null ? null : element("span", "", delayText(row.delay)),
    tags ? element("span", "tags", tags) : null);
  const node = element("article", "row card", header);
  if (type === "response") node.append(strip(row));
  const judged = type === "prompt" ? lastUser(row.messages) : row.messages.length - 1;
  row.messages.forEach((message, index) => {
    if (type === "prompt" && index > judged) return;
    const content = element("div", "content");
    if (index !== judged) content.append(message.content);
    else if (type === "prompt") content.append(promptToken(row, message.content));
    else {
      content.classList.add("tokens");
      content.append(...tokens(row));
    }
    node.append(element("section", "turn", element("div", "role", message.role), content));
  });
  return node;
}

function lastUser(messages) {
  return messages.map((message) => message.role).lastIndexOf("user");
}

function delayText(delay) {
  if (delay === "hit") return "inside the annotated sentence";
  if (delay === "ahead") return "ahead of the annotated sentence";
  return delay === "missed" ? "never flagged" : delay + " tokens late";
}

function promptToken(row, content) {
  const token = element("span", "token " + labels[row.levels[0]].severity, content);
  token.style.setProperty("--p", row.probabilities[0]);
  token.dataset.tip = verdict(row, 0);
  return token;
}

function verdict(row, index) {
  const level = labels[row.levels[index]];
  const category = level.severity === "safe" ? "" : "\n" + categories[row.categories[index]];
  return level.name + " " + percent(row.probabilities[index]) + category;
}

function tokens(row) {
  return row.texts.map((text, index) => {
    const position = row.start + index;
    const content = texts[text];
    const token = element("span", "token " + labels[row.levels[index]].severity, ...visible(content));
    token.style.setProperty("--p", row.probabilities[index]);
    if (/^<\|.*\|>$/.test(content)) token.classList.add("control");
    let note = "token " + index + ", position " + position;
    if (row.span && position >= row.span[0] && position <= row.span[1]) {
      token.classList.add("span");
      note += "\nannotated as unsafe";
    }
    if (position === row.flagged) {
      token.classList.add("fired");
      note += "\nthe guard fired here";
    }
    token.dataset.tip = verdict(row, index) + "\n" + note;
    return token;
  });
}

/** The text with a sign where a line ends. */
function visible(text) {
  return text.split("\n").flatMap((part, i) => (i === 0 ? [part] : [element("i", "break", "↵"), "\n" + part]));
}

function strip(row) {
  const node = element("div", "strip");
  const count = row.levels.length;
  const canvas = element("canvas");
  canvas.width = count;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  const probe = element("i");
  document.body.append(probe);
  const colours = {};
  for (const severity of ["safe", "controversial", "unsafe"]) {
    probe.style.color = "var(--" + severity + ")";
    colours[severity] = getComputedStyle(probe).color;
  }
  probe.remove();
  row.levels.forEach((level, index) => {
    const { severity } = labels[level];
    context.globalAlpha = severity === "safe" ? 0.25 : 0.35 + 0.65 * row.probabilities[index];
    context.fillStyle = colours[severity];
    context.fillRect(index, 0, 1, 1);
  });
  node.append(canvas);
  const share = (position) => (100 * (position - row.start)) / count + "%";
  if (row.span && row.span[1] >= row.start) {
    const mark = element("div", "mark");
    mark.style.left = share(Math.max(row.start, row.span[0]));
    mark.style.width = "calc(" + share(row.span[1] + 1) + " - " + share(Math.max(row.start, row.span[0])) + ")";
    node.append(mark);
  }
  if (row.flagged !== null) {
    const flag = element("div", "flag");
    flag.style.left = share(row.flagged + 0.5);
    node.append(flag);
  }
  return node;
}

function draw() {
  const counts = { all: rows.length, caught: 0, missed: 0, alarm: 0, passed: 0 };
  for (const row of rows) counts[outcome(row)]++;
  for (const button of document.querySelectorAll("[data-outcome]")) {
    const { outcome: kind } = button.dataset;
    button.textContent = (NAMES[kind] || "all") + " " + counts[kind];
    button.setAttribute("aria-pressed", String(state.outcome === kind));
  }
  for (const button of document.querySelectorAll(".histogram button")) {
    button.setAttribute("aria-pressed", String(state.delay === button.dataset.delay));
  }
  only.hidden = state.delay === null;
  only.textContent = "only " + (state.delay === null ? "" : DELAYS[state.delay] || state.delay + " late") + " ✕";
  const matching = rows.filter((row) =>
    (state.outcome === "all" || outcome(row) === state.outcome) && (state.delay === null || row.delay === state.delay));
  list.replaceChildren(...matching.slice(0, state.shown).map(card));
  if (matching.length === 0) list.append(element("p", "empty", "No conversation has this outcome."));
  const left = matching.length - state.shown;
  more.hidden = left <= 0;
  more.textContent = "Show " + Math.min(PAGE, left) + " more of " + left;
}

function update(changes) {
  Object.assign(state, { shown: PAGE }, changes);
  draw();
}

for (const button of document.querySelectorAll("[data-outcome]")) {
  button.addEventListener("click", () => update({ outcome: button.dataset.outcome }));
}
for (const button of document.querySelectorAll(".histogram button")) {
  const { delay } = button.dataset;
  button.addEventListener("click", () => update({ delay: state.delay === delay ? null : delay }));
}
document.getElementById("reading").addEventListener("change", (event) => update({ reading: event.target.value }));
only.addEventListener("click", () => update({ delay: null }));
more.addEventListener("click", () => update({ shown: state.shown + PAGE }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

document.addEventListener("mouseover", (event) => {
  const token = event.target.closest?.("[data-tip]");
  tip.hidden = !token;
  if (!token) return;
  tip.textContent = token.dataset.tip;
  const box = token.getClientRects()[0];
  const below = box.top < tip.offsetHeight + 12;
  tip.style.left = Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (below ? box.bottom + 8 : box.top - tip.offsetHeight - 8) + "px";
});
draw();
`;
