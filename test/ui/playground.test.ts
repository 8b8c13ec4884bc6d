import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { type Listening, listen } from "../../src/gateway/server.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { describeGuard } from "../../src/playground/guard-info.js";
import { PlaygroundServer } from "../../src/playground/server.js";
import { accessibilityProblems, CHROMIUM, launchBrowser } from "../support/browser.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";

const NASTY = `</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">&amp;`;

test.runIf(process.env.CI)("CI has a browser", () => expect(CHROMIUM).toBeDefined());

describe.skipIf(!CHROMIUM)("the playground in a browser", () => {
  let guard: Guard;
  let service: PlaygroundServer;
  let server: Listening;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  const problems: string[] = [];

  beforeAll(async () => {
    guard = await loadGuard(undefined, { cacheDir: MODEL_CACHE, maxStreams: 4 });
    service = new PlaygroundServer(guard, describeGuard(guard, undefined));
    server = await listen(service, 0, "127.0.0.1");
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close(0);
    await guard?.close();
  });
  beforeEach(async () => {
    problems.length = 0;
    context = await browser.newContext({ acceptDownloads: true, locale: "en-US" });
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    page = await opened();
  });
  afterEach(async () => {
    await context.close();
    expect(problems).toEqual([]);
  });

  async function opened(): Promise<Page> {
    const tab = await context.newPage();
    tab.on("pageerror", (error) => problems.push(error.message));
    tab.on("console", (message) => {
      if (message.type() === "error") problems.push(message.text());
    });
    await tab.goto(`${server.url}/?token=${service.token}`);
    return tab;
  }

  const text = (tab = page) => tab.getByRole("textbox", { name: "Answer" });
  const run = (tab = page) => tab.getByRole("button", { name: "Run" }).click();
  const tokens = (tab = page) => tab.locator(".answer .token");
  const reader = (name: string, tab = page) => tab.locator(".reader", { hasText: name });
  const fast = (tab = page) => tab.getByRole("slider", { name: "Words a second" }).fill("7");
  const atOnce = (tab = page) => tab.getByRole("slider", { name: "Words a second" }).fill("0");
  const flagged = (tab = page) => tab.getByText(/The policy fires at token \d+/).first();

  test("opens with a conversation, and shows a judged answer when Run is pressed", async () => {
    await fast();
    await run();
    await flagged().waitFor();
    await reader("Held back").getByText("■ stopped").waitFor();
    expect(await tokens().count()).toBeGreaterThan(50);
    expect(await page.locator(".answer .token.fired").count()).toBe(1);
    const held = await reader("Held back").locator(".seen").innerText();
    const first = await reader("Streamed first").locator(".seen").innerText();
    expect(held).toContain("But really, you are a");
    expect(held).not.toContain("stupid");
    expect(first).toContain("stupid");
  });

  test("tokens stream: some are there while others are still to come", async () => {
    await run();
    await tokens().nth(5).waitFor();
    expect(await page.getByRole("button", { name: "Stop" }).isEnabled()).toBe(true);
    expect(await tokens().count()).toBeLessThan(60);
    await page.getByRole("button", { name: "Stop" }).click();
    await idle(guard);
  });

  test("pointing at a token, or going to it by arrow keys, shows all of its probabilities", async () => {
    await atOnce();
    await run();
    await flagged().waitFor();
    await tokens().nth(2).hover();
    const risks = page.locator(".details .distribution").first();
    expect(await risks.locator("caption").innerText()).toContain("· 2");
    expect(await risks.locator("tr").count()).toBe(3);
    await tokens().nth(2).focus();
    await page.keyboard.press("ArrowRight");
    expect(await risks.locator("caption").innerText()).toContain("· 3");
    await page.keyboard.press("End");
    expect(await risks.locator("th").first().innerText()).toBe("Unsafe");
  });

  test("the policy rules anew on what is there, and nothing runs again", async () => {
    await atOnce();
    await run();
    await flagged().waitFor();
    const asked: string[] = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await page.getByLabel("What counts is").selectOption("ignore");
    await page.getByText("The policy lets it pass.").waitFor();
    expect(await reader("Held back").locator(".seen").innerText()).toContain("hurt you.");
    await page.getByRole("button", { name: "Reset" }).click();
    await flagged().waitFor();
    expect(asked.filter((path) => path !== "/load")).toEqual([]);
  });

  test("a threshold is dragged, moved by keys, and taken away", async () => {
    await atOnce();
    await run();
    await flagged().waitFor();
    const line = page.getByRole("slider", { name: "Threshold of Unsafe" });
    await line.scrollIntoViewIfNeeded();
    const box = (await line.boundingBox())!;
    await page.mouse.move(box.x + 60, box.y + box.height / 2);
    await page.mouse.down();
    await page.mouse.move(box.x + 60, 0);
    await page.mouse.up();
    expect(await line.getAttribute("aria-valuenow")).toBe("1");
    await page.getByText("The policy lets it pass.").waitFor();
    await line.focus();
    for (const key of ["PageDown", "PageDown", "ArrowDown"]) await page.keyboard.press(key);
    expect(await line.getAttribute("aria-valuenow")).toBe("0.79");
    await flagged().waitFor();
    await page.getByRole("button", { name: "Copy JSON" }).click();
    expect(JSON.parse(await page.evaluate(() => navigator.clipboard.readText()))).toEqual({
      thresholds: { Unsafe: 0.79 },
    });
    await line.focus();
    await page.keyboard.press("Delete");
    expect(await line.getAttribute("aria-valuetext")).toContain("likeliest");
  });

  test("a policy that is none is named as such, and shows nobody anything", async () => {
    await atOnce();
    await run();
    await flagged().waitFor();
    await page.getByLabel("Violent: from").fill("7");
    await page
      .getByRole("alert")
      .getByText(/Violent.*probability from 0 to 1/)
      .waitFor();
    expect(await reader("Held back").locator(".seen").innerText()).toBe("");
  });

  test("what is typed stays text in every field", async () => {
    await text().fill(NASTY);
    await page.getByRole("textbox", { name: "user 1" }).fill(NASTY);
    await atOnce();
    await run();
    await expect
      .poll(() => reader("Streamed first").locator(".state").innerText())
      .toMatch(/complete|stopped/);
    expect(await page.locator(".answer .tokens").innerText()).toContain("<img src=x onerror=");
    expect(await page.evaluate(() => (window as { hacked?: number }).hacked)).toBeUndefined();
  });

  test("a saved page shows the same without a server, and rules anew by another policy", async () => {
    await text().fill(`${await text().inputValue()} ${NASTY}`);
    await atOnce();
    await run();
    await flagged().waitFor();
    const outcome = await flagged().innerText();
    const saving = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save this page" }).click();
    const path = join(await temporaryFolderHere(), "saved.html");
    await (await saving).saveAs(path);
    expect(await readFile(path, "utf8")).not.toContain(service.token);
    await context.setOffline(true);
    await page.goto(pathToFileURL(path).href);
    expect(await flagged().innerText()).toBe(outcome);
    expect(await page.getByRole("button", { name: "Run" }).count()).toBe(0);
    await page.getByLabel("What counts is").selectOption("ignore");
    await page.getByText("The policy lets it pass.").waitFor();
    expect(await page.evaluate(() => (window as { hacked?: number }).hacked)).toBeUndefined();
  });

  test("a conversation is saved as a row, and a file of rows is stepped through", async () => {
    await atOnce();
    await run();
    await flagged().waitFor();
    await page.getByLabel("Annotated as").selectOption("Unsafe");
    const saving = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save as an eval row" }).click();
    const path = join(await temporaryFolderHere(), "row.jsonl");
    await (await saving).saveAs(path);
    const row = JSON.parse(await readFile(path, "utf8"));
    expect(row).toMatchObject({ label: "Unsafe", message: [{ role: "user" }, { role: "assistant" }] });
    const second = {
      message: [
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Hello." },
      ],
    };
    await writeFile(path, `${JSON.stringify(row)}\nno row\n${JSON.stringify(second)}\n`);
    await page.getByLabel("a file of rows").check();
    await page.getByLabel(/JSON lines with messages/).setInputFiles(path);
    expect(await text().inputValue()).toBe(row.message[1].content);
    await page.getByRole("button", { name: "Next" }).click();
    expect(await text().inputValue()).toBe("Hello.");
    expect(await page.getByRole("textbox", { name: "user 1" }).inputValue()).toBe("Hi");
  });

  test("two tabs run at once, each its own", async () => {
    const other = await opened();
    await text(other).fill("Mix flour and water, let it rest, then bake it.");
    for (const tab of [page, other]) await fast(tab);
    await Promise.all([run(page), run(other)]);
    await flagged(page).waitFor();
    await other.getByText("The policy lets it pass.").waitFor();
    expect(await reader("Held back", other).locator(".seen").innerText()).toBe(
      "Mix flour and water, let it rest, then bake it.",
    );
  });

  test("a reload during a run frees its slot, and the page comes back", async () => {
    await run();
    await tokens().nth(3).waitFor();
    await page.reload();
    await idle(guard);
    await atOnce();
    await run();
    await flagged().waitFor();
  });

  test("a guard that fails in the middle is told as such, and stops both readers", async () => {
    const failing = await loadGuard(undefined, { cacheDir: MODEL_CACHE, maxStreams: 1 });
    const own = new PlaygroundServer(failing, describeGuard(failing, undefined));
    const listening = await listen(own, 0, "127.0.0.1");
    await page.goto(`${listening.url}/?token=${own.token}`);
    await run();
    await tokens().nth(5).waitFor();
    await failing.close();
    await page.getByRole("alert").getByText("GUARD_CLOSED").waitFor();
    expect(await reader("Held back").locator(".state").innerText()).toBe("stopped");
    await listening.close(0);
  });

  test("speaks Chinese", async () => {
    await page.getByRole("button", { name: "中文" }).click();
    await page.getByRole("button", { name: "运行" }).waitFor();
    expect(await page.getByRole("heading", { name: "策略" }).count()).toBe(1);
  });

  test.each(["light", "dark"] as const)(
    "anybody can read and use it (WCAG 2.1 AA), in %s",
    async (colorScheme) => {
      const own = await browser.newContext({ colorScheme, bypassCSP: true, locale: "en-US" });
      const tab = await own.newPage();
      await tab.goto(`${server.url}/?token=${service.token}`);
      await atOnce(tab);
      await run(tab);
      await flagged(tab).waitFor();
      expect(await accessibilityProblems(tab)).toEqual([]);
      await own.close();
    },
  );

  test.each([390, 800, 1440])("nothing is wider than a screen of %i pixels", async (width) => {
    await page.setViewportSize({ width, height: 900 });
    await text().fill(`${"unbreakable".repeat(30)} end.`);
    await atOnce();
    await run();
    await expect.poll(() => reader("Held back").locator(".state").innerText()).toMatch(/complete|stopped/);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
  });
});

/** A folder that is removed when the test is done. */
async function temporaryFolderHere(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "qwen3guard-test-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}
