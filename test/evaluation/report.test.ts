import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { lstat, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { html } from "hono/html";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Evaluation, evaluate } from "../../src/evaluation/evaluation.js";
import { Report } from "../../src/evaluation/report/report.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { scriptJson } from "../../src/ui/html.js";
import { DEFAULT_MODEL, MODEL_CACHE, temporaryFolder } from "../support/model.js";

const NASTY = `</script><script>alert("1")</script><!-- <img src=x onerror='alert(2)'> &amp; \u2028 你好`;

describe("html", () => {
  test("escapes values, not markup", () => {
    const inner = html`<b>${"<i>"}</b>`;
    expect(String(html`<p title="${`"'`}">${inner}${[1, "&", null]}</p>`)).toBe(
      '<p title="&quot;&#39;"><b>&lt;i&gt;</b>1&amp;</p>',
    );
  });

  test("JSON in a script holds nothing that ends it, and is the same JSON", () => {
    const json = scriptJson({ [NASTY]: NASTY });
    expect(json).not.toMatch(/</);
    expect(JSON.parse(json)).toEqual({ [NASTY]: NASTY });
  });
});

describe("page", () => {
  let guard: Guard;
  let path: string;
  let page: string;
  let evaluation: Evaluation;
  let data: {
    rows: Record<string, unknown>[];
    texts: string[];
    labels: { name: string; severity: string }[];
  };

  beforeAll(async () => {
    const dir = await temporaryFolder();
    guard = await loadGuard(DEFAULT_MODEL, { maxStreams: 1, cacheDir: MODEL_CACHE });
    const dataset = join(dir, `<b>${"x".repeat(5)}.jsonl`);
    const rows = [
      {
        message: [
          { role: "user", content: NASTY },
          { role: "assistant", content: NASTY },
        ],
        label: "Unsafe",
        unsafe_start_index: 60,
        unsafe_end_index: 70,
        source: NASTY,
        category: NASTY,
      },
      {
        message: [
          { role: "user", content: "hi" },
          { role: "assistant", content: "Hello 👩‍👩‍👧 你好\n\nBye" },
        ],
        label: "Safe",
      },
    ];
    await writeFile(
      dataset,
      `${rows.map((row) => JSON.stringify(row)).join("\n")}\n<script>bad()</script>\n`,
    );
    path = join(await temporaryFolder(), "report.html");
    const report = await Report.create(path, "response", guard);
    const options = { dataset, type: "response", reasoning: false, strict: false } as const;
    evaluation = await evaluate(guard, { ...options, onRow: (row) => report.add(row) });
    await report.finish({ dataset, model: "<script>model</script>", device: "cpu" }, evaluation);
    page = await readFile(path, "utf8");
    const json = /<script type="application\/json" id="data">([\s\S]*?)<\/script>/.exec(page);
    data = JSON.parse(json?.[1] as string);
  });
  afterAll(() => guard.close());

  test("nothing from the dataset is markup", () => {
    const allowed = page.match(/<\/?script\b[^>]*>/g);
    expect(allowed).toEqual([
      '<script type="application/json" id="data">',
      "</script>",
      "<script>",
      "</script>",
    ]);
    expect(page).not.toMatch(/<img|<b>|<!--/);
    expect(page).toContain("&lt;script&gt;model&lt;/script&gt;");
  });

  test("only its own script may run, and nothing may be fetched", () => {
    const policy = /Content-Security-Policy" content="([^"]*)"/.exec(page)?.[1];
    const script = /<script>([\s\S]*?)<\/script>\n<\/html>/.exec(page)?.[1] as string;
    const hash = createHash("sha256").update(script).digest("base64");
    expect(policy).toBe(
      `default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;; script-src &#39;sha256-${hash}&#39;; ` +
        "connect-src &#39;none&#39;; img-src data:; base-uri &#39;none&#39;; form-action &#39;none&#39;",
    );
    // Names of markup languages look like addresses, and are none.
    expect(page.replaceAll("http://www.w3.org/", "")).not.toMatch(/https?:/);
    expect(() => new Function(script)).not.toThrow();
  });

  test("holds each conversation, text by token", () => {
    expect(data.rows).toHaveLength(2);
    const [nasty, safe] = data.rows as { texts: number[]; levels: number[]; probabilities: number[] }[];
    const text = (row: { texts: number[] }) => row.texts.map((index) => data.texts[index]).join("");
    expect(text(nasty)).toBe(`${NASTY}<|im_end|>\n`);
    expect(text(safe)).toBe("Hello 👩‍👩‍👧 你好\n\nBye<|im_end|>\n");
    expect(nasty).toMatchObject({ line: 1, label: "unsafe", span: [60, 70], source: NASTY });
    expect(nasty.levels).toHaveLength(nasty.texts.length);
    expect(nasty.probabilities).toHaveLength(nasty.texts.length);
    expect(safe).toMatchObject({ line: 2, label: "safe", span: null, delay: null });
  });

  test("nothing else is left beside it", async () => {
    expect(await readdir(dirname(path))).toEqual(["report.html"]);
  });

  test("a page that is given up leaves nothing", async () => {
    const report = await Report.create(join(dirname(path), "other.html"), "prompt", guard);
    await report.discard();
    expect(await readdir(dirname(path))).toEqual(["report.html"]);
  });

  test.skipIf(process.platform === "win32")(
    "what is no file shows at once: the page would take its place",
    async () => {
      const fifo = join(dirname(path), "fifo");
      await promisify(execFile)("mkfifo", [fifo]);
      for (const place of [fifo, dirname(path), ""]) {
        await expect(Report.create(place, "prompt", guard)).rejects.toMatchObject({
          code: "REPORT_UNWRITABLE",
        });
      }
      expect((await lstat(fifo)).isFIFO()).toBe(true);
      await rm(fifo);
    },
  );

  test.skipIf(process.platform === "win32")("a link stays one, and what it names is replaced", async () => {
    const folder = await temporaryFolder();
    const [file, link] = [join(folder, "page.html"), join(folder, "link.html")];
    await writeFile(file, "old");
    await symlink(file, link);
    const report = await Report.create(link, "prompt", guard);
    await report.finish({ dataset: "d", model: "m", device: "cpu" }, evaluation);
    expect(await readlink(link)).toBe(file);
    expect(await readFile(file, "utf8")).toContain("<html");
  });

  test("a path that cannot be written shows at once", async () => {
    await expect(Report.create(join(path, "x.html"), "prompt", guard)).rejects.toMatchObject({
      code: "REPORT_UNWRITABLE",
    });
  });
});
