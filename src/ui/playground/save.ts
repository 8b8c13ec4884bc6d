import type { PolicyData } from "../../moderation/policy.js";
import type { PageData, Turn } from "../../playground/protocol.js";

/** A row as `qwen3guard eval` reads it. */
export function evalRow(messages: readonly Turn[], answer: string, label: string): string {
  const message = answer === "" ? messages : [...messages, { role: "assistant", content: answer }];
  return `${JSON.stringify({ message, label })}\n`;
}

/** This page with other data: script and style are in it already. */
export function savedPage(data: PageData): string {
  const script = document.querySelector("script:not([type])")?.textContent ?? "";
  const style = document.querySelector("style")?.textContent ?? "";
  const policy = document.querySelector("meta[http-equiv]")?.getAttribute("content") ?? "";
  const attribute = policy.replace("connect-src 'self'", "connect-src 'none'").replaceAll('"', "&quot;");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${attribute}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>qwen3guard playground</title>
<style>${style}</style>
<div id="app"></div>
<script type="application/json" id="data">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>
<script>${script}</script>
</html>
`;
}

export function download(name: string, type: string, content: string): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export function asJson(policy: PolicyData): string {
  return JSON.stringify(policy, null, 2);
}

export function asCode(policy: PolicyData): string {
  return `const stream = guard.moderate(source, {\n  messages,\n  policy: ${asJson(policy).replaceAll("\n", "\n  ")},\n});\n`;
}

export function asCommand(policy: PolicyData): string {
  const quoted = `'${JSON.stringify(policy).replaceAll("'", "'\\''")}'`;
  return `printf '%s' ${quoted} > policy.json && qwen3guard proxy --upstream http://127.0.0.1:11434 --policy policy.json\n`;
}
