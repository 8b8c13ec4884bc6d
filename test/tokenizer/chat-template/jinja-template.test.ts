import { readFile } from "node:fs/promises";
import { Template } from "@huggingface/jinja";
import { expect, test } from "vitest";
import { JinjaTemplate } from "../../../src/tokenizer/chat-template/jinja-template.js";
import { QWEN3 } from "../qwen3.js";

const render = (source: string, variables: Record<string, unknown> = {}) =>
  new JinjaTemplate(source).render({ messages: [{ role: "user", content: "Hi, you" }], ...variables });
const repeated = (times: number, piece: string) => piece.repeat(times);

test.each([
  [
    "loops inside loops",
    "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    /more work/,
  ],
  ["a loop over a billion numbers", "{% for a in range(1000000000) %}{% endfor %}", /range/],
  ["a range of endless steps", "{% for a in range(0, 5, 0) %}{% endfor %}", /range/],
  [
    "a text doubled in a loop",
    "{% set ns = namespace(x='aaaa') %}{% for a in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    /too large|more work/,
  ],
  [
    "a text doubled in a line",
    `{% set x = 'aaaaaaaaaaaaaaaa' %}${repeated(60, "{% set x = x ~ x %}")}`,
    /too large|more work/,
  ],
  [
    "a list of itself, twice each time",
    `{% set x = [1] %}${repeated(60, "{% set x = [x, x] %}")}{{ x | tojson }}`,
    /too large/,
  ],
  [
    "an object of itself, printed",
    `{% set x = [1] %}${repeated(60, "{% set x = {'a': x, 'b': x} %}")}{{ x }}`,
    /too large/,
  ],
  [
    "namespaces that hold each other",
    "{% set a = namespace() %}{% set b = namespace(x=a, y=a) %}{% set c = namespace(x=b, y=b) %}{{ c }}",
    /namespace into another/,
  ],
  [
    "a namespace in a list that is filled later",
    "{% set a = namespace() %}{% set x = [a, a] %}{{ x }}",
    /namespace into another/,
  ],
  [
    "arguments handed on, twice each time",
    "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1, a=kwargs, b=kwargs) }}{% else %}{{ kwargs }}{% endif %}{% endmacro %}{{ f(40) }}",
    /too large|more work/,
  ],
  ["a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", /./],
  [
    "a macro that calls itself twice",
    "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    /more work/,
  ],
  [
    "a long replacement",
    `{% set x = '${repeated(2000, "a")}' %}{{ x.replace('a', x) | length }}`,
    /too long/,
  ],
  [
    "a long replacement by filter",
    `{% set x = '${repeated(2000, "a")}' %}{{ x | replace('a', x) | length }}`,
    /too long/,
  ],
  [
    "a long replacement in a block's filter",
    `{% set x = '${repeated(2000, "a")}' %}{% filter replace('a', x) %}aaaa{% endfilter %}`,
    /too long/,
  ],
  [
    "a long replacement by a list of arguments",
    `{% set x = '${repeated(2000, "a")}' %}{{ x.replace(*['a', x]) | length }}`,
    /too long/,
  ],
  ["a method under another name", `{% set f = messages[0].content.replace %}{{ f('a', 'b') }}`, /roundabout/],
  ["a method by its name's text", "{{ messages[0].content['replace']('a', 'b') }}", /roundabout/],
  ["an indent of a billion", "{{ 'a\nb' | indent(1000000000) }}", /too long/],
  ["JSON indented by a billion", "{{ messages | tojson(indent=1000000000) }}", /too long/],
  ["a long separator", `{{ range(9000) | join('${repeated(2000, "a")}') }}`, /too long/],
  [
    "a search for a long text",
    `{% set x = '${repeated(2000, "a")}' %}{{ x in messages[0].content }}`,
    /too long/,
  ],
  [
    "printing all messages again and again",
    "{% for a in range(9999) %}{{ messages }}{% endfor %}",
    /more work/,
  ],
  [
    "comparing all messages again and again",
    "{% for a in range(9999) %}{% if messages == '' %}{% endif %}{% endfor %}",
    /more work/,
  ],
  [
    "a macro's definition come upon again and again",
    `{% for a in range(9999) %}{% macro f() %}${repeated(9999, "{{ 1 }}")}{% endmacro %}{% endfor %}`,
    /more work/,
  ],
  [
    "names that nobody declared",
    `{% for a in range(9999) %}${repeated(99, "{{ x }}")}{% endfor %}`,
    /more work/,
  ],
])("%s is refused", (_name, source, message) => {
  const content = "Some words. ".repeat(300);
  expect(() => render(source, { messages: [{ role: "user", content }] })).toThrow(message);
});

test.each([
  ["parentheses without end", `{{ ${"(".repeat(100_000)}1${")".repeat(100_000)} }}`],
  ["a source of megabytes", " ".repeat(1_000_000)],
])("%s are no template", (_name, source) => {
  expect(() => new JinjaTemplate(source)).toThrow();
});

test("bounds are a number of steps, which is the same however a rendering is done", () => {
  const turn =
    "{% set x = a.role ~ 'b' %}{% if x == 'ab' and (loop.first or not missing) %}{{ [x, 1] | length }}{{ x + 'c' }}{% endif %}" +
    "{% if a.gone is none %}1{% endif %}";
  const turns = (count: number) =>
    `{% set a = {'role': 'a'} %}{% for i in range(${count}) %}${turn.repeat(6)}{% endfor %}`;
  expect(render(turns(3347))).toBe("2abc".repeat(6 * 3347));
  expect(() => render(turns(3348))).toThrow(/more work/);
});

test.each(["[1, 'a'].lstrip('a')", "messages.strip('a')", "'a'.rstrip(none)", "'a'.strip(1)"])(
  "%s, of no text or without one, is refused",
  (source) => {
    expect(() => render(`{{ ${source} }}`)).toThrow(/not of a text/);
  },
);

test("nothing of JavaScript's own can be reached", () => {
  expect(() => render("{{ ''.constructor.constructor('return process')() }}")).toThrow();
  expect(render("{{ messages.__proto__ }}{{ messages.constructor }}")).toBe("");
});

test.each([
  ["{{ 'a-b'.replace('-', '+') }}{{ 'a' | replace('a', 'b') }}", "a+bb"],
  ["{{ [1, 2] | join(', ') }}{{ ['b', 'a'] | sort | join }}", "1, 2ab"],
  ["{{ {'a': [1]} | tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'],
  ["{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"],
  ["{% macro f(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}{{ f(*[3, 4]) }}", "1234"],
  ["{% set m = messages | selectattr('role', 'equalto', 'user') | list %}{{ m | length }}", "1"],
  ["{{ messages[-1].content.split(',')[1].strip() | upper }}", "YOU"],
  ["{{ 'Hi' in messages[0].content }}{{ 'user' in messages | map(attribute='role') }}", "truetrue"],
  ["{{ range(3) | join }}{{ range(1, 6, 2) | join }}{{ range(3, 0, -1) | join }}", "012135321"],
  ["{{ {'a': ' \n x '.lstrip('\n ')}.a }}|", "x |"],
  ["{{ missing | default('none') }}{% if not tools %}!{% endif %}", "none!"],
  ["{% call f() %}x{% endcall %}", ""],
])("%s is rendered", (source, text) => {
  const macro = source.includes("call f") ? "{% macro f() %}{% endmacro %}" : "";
  expect(render(macro + source)).toBe(text);
});

test.each([
  ["of 20,000 short messages", 20_000, 2],
  ["of one with a million characters", 1, 1_000_000],
  ["of 500 with 1,000 characters", 500, 1000],
])("Qwen3's template takes a conversation %s", async (_name, count, length) => {
  const { chat_template } = JSON.parse(await readFile(`${QWEN3}/tokenizer_config.json`, "utf8"));
  const roles = ["user", "assistant", "tool"];
  const messages = Array.from({ length: count }, (_, i) => ({
    role: roles[i % 3],
    content: "x".repeat(length),
    tool_calls: i % 3 === 1 ? [{ name: "f", arguments: { a: "b" } }] : undefined,
  }));
  const tools = Array.from({ length: 50 }, (_, i) => ({
    name: `f${i}`,
    description: "What it does. ".repeat(20),
  }));
  const text = new JinjaTemplate(chat_template).render({ messages, tools });
  expect(text.split("<|im_start|>").length).toBeGreaterThan((count * 2) / 3);
});

const members = ["index", "index0", "revindex", "revindex0", "first", "last", "length"];
const others = "{{ loop.previtem.content }}{{ loop.nextitem.content }}{{ loop.previtem is defined }}";

test.each([
  [
    "all that a loop knows",
    `{% for m in messages %}{{ [loop.${members.join(", loop.")}] }}${others}{% endfor %}`,
  ],
  [
    "what a loop sets",
    "{% set x = 1 %}{% for m in messages %}{% set x = m.content %}{{ x }}{% endfor %}{{ x }}",
  ],
  [
    "what it sets in a namespace",
    "{% set ns = namespace(x=0) %}{% for m in messages[::-1] %}{% set ns.x = ns.x + loop.index %}{% endfor %}{{ ns.x }}",
  ],
  [
    "loops in a loop",
    "{% for m in messages %}{% for n in [1, 2] %}{{ loop.index }}{{ m.role }}{% endfor %}{% endfor %}",
  ],
  ["a loop's name after it", "{% for m in messages %}{% endfor %}{{ m is defined }}{{ loop is defined }}"],
  [
    "loops that are left",
    "{% for m in messages %}{% if loop.index == 40 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
  ],
  [
    "turns that are left",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
  ],
  [
    "a choice of messages",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% endfor %}",
  ],
  ["an object's keys", "{% for key in messages[0] %}{{ loop.index }}{{ key }}{% else %}none{% endfor %}"],
  [
    "nothing to go through",
    "{% for m in [] %}{{ m }}{% else %}none{% endfor %}{% for m in [] %}{{ m }}{% endfor %}",
  ],
])("in steps or at once, %s are as the library has them", (_name, source) => {
  const messages = Array.from({ length: 100 }, (_, i) => ({
    role: i % 2 ? "assistant" : "user",
    content: `<${i}>`,
  }));
  const expected = new Template(source).render({ messages });
  const steps = new JinjaTemplate(source).steps({ messages });
  let count = 0;
  let step = steps.next();
  for (; !step.done; step = steps.next()) count++;
  expect(step.value).toBe(expected);
  expect(render(source, { messages })).toBe(expected);
  if (_name === "all that a loop knows") expect(count).toBe(3);
});
