import { html, raw } from "hono/html";
import { asset, contentSecurityPolicy } from "../ui/assets.js";
import { scriptJson } from "../ui/html.js";
import type { PageData } from "./protocol.js";

/** The page, whole: script, style and data are in it, so that it can be saved as it is. */
export function page(data: PageData): string {
  const script = asset("playground.js");
  return String(html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${contentSecurityPolicy(script, "'self'")}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>qwen3guard playground</title>
<style>${raw(asset("playground.css"))}</style>
<div id="app"></div>
<noscript>The playground is drawn by a script.</noscript>
<script type="application/json" id="data">${raw(scriptJson(data))}</script>
<script>${raw(script)}</script>
</html>
`);
}
