import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SRC = join(ROOT, "src");

/** From the ground up: each imports from those before it alone. */
const ROOMS = [
  "errors.ts package files validation onnx download runtime tokenizer model checkpoint export engine moderation gate",
  "resolve-model.ts guard index.ts calibration scoring ui evaluation gateway adapters serve playground cli pages",
].flatMap((names) => names.split(" "));

/** What `loadGuard` gives, with its parts; and the pages, which run in a browser, above the servers that `ui/` is for. */
const ONE_ROOM: [path: RegExp, room: string][] = [
  [/^(guard|gen-guard)\.ts$/, "guard"],
  [/^ui\/(components|playground|report)\//, "pages"],
];

const IMPORT =
  /^(?:import|export)(?<typed> type)? (?<names>[\w\s{},*$]*)from "(?<from>\.[^"]+)"|^import "(?<alone>\.[^"]+)"|import\("(?<later>\.[^"]+)"\)/gm;

interface Import {
  from: string;
  to: string;
  /** Whether something of it is there when the program runs, and at once. */
  runs: boolean;
}

const imports: Import[] = (readdirSync(SRC, { recursive: true }) as string[])
  .filter((name) => /\.tsx?$/.test(name))
  .flatMap((name) => {
    const from = name.replaceAll(sep, "/");
    return [...readFileSync(join(SRC, name), "utf8").matchAll(IMPORT)].map(({ groups = {} }) => {
      const path = relative(SRC, resolve(SRC, dirname(name), groups.from ?? groups.alone ?? groups.later));
      const names = /^\{([^}]*)\} $/.exec(groups.names ?? "")?.[1].split(",") ?? [];
      const typed = names.length > 0 && names.every((one) => /^\s*(type |$)/.test(one));
      const runs = !groups.typed && !typed && !groups.later;
      return { from, to: path.replaceAll(sep, "/").replace(/\.js$/, ".ts"), runs };
    });
  });

function roomOf(path: string): string {
  return ONE_ROOM.find(([pattern]) => pattern.test(path))?.[1] ?? path.split("/")[0];
}

test("each file and folder at the top of src has a place among the rooms", () => {
  const top = readdirSync(SRC, { withFileTypes: true }).map(({ name }) => name);
  expect(new Set(top.map(roomOf))).toEqual(new Set(ROOMS.filter((room) => room !== "pages")));
});

test("imports, those of types too, go down from room to room", () => {
  const up = imports.filter(({ from, to }) => ROOMS.indexOf(roomOf(to)) > ROOMS.indexOf(roomOf(from)));
  expect(imports.length).toBeGreaterThan(1000);
  expect(up.map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
});

test("no file waits for itself to be loaded", () => {
  const needed = imports.filter(({ runs }) => runs);
  const done = new Set<string>();
  const circles: string[] = [];
  function follow(file: string, way: string[]): void {
    if (way.includes(file)) circles.push([...way.slice(way.indexOf(file)), file].join(" → "));
    if (done.has(file)) return;
    done.add(file);
    for (const { to } of needed.filter(({ from }) => from === file)) follow(to, [...way, file]);
  }
  for (const { from } of needed) follow(from, []);
  expect(circles).toEqual([]);
});

test("a command line is read, and help given, without what judges: that is loaded once a command runs", () => {
  const read = new Set(["cli/main.ts", "cli/program.ts"]);
  for (const file of read) {
    for (const { to } of imports.filter(({ from, runs }) => runs && from === file)) read.add(to);
  }
  const others = [...read].filter((file) => !file.startsWith("cli/"));
  const LIGHT = [
    "errors.ts",
    "gate/attempt.ts",
    "gateway/access/loopback.ts",
    "model/dtypes.ts",
    "moderation/labels.ts",
    "package/package.ts",
    "runtime/devices/device-id.ts",
    "runtime/devices/kind-names.ts",
    "validation/json.ts",
    "validation/options.ts",
    "validation/quoted.ts",
  ];
  expect(others.sort()).toEqual(LIGHT);
});

test("no protocol of the proxy imports from another", () => {
  const protocol = (path: string) => /^gateway\/(openai|anthropic|ollama)\//.exec(path)?.[1];
  const others = imports.filter(
    ({ from, to }) => protocol(from) && protocol(to) && protocol(from) !== protocol(to),
  );
  expect(others).toEqual([]);
});

test("the table of folders in docs/architecture.md names every room", () => {
  const page = readFileSync(join(ROOT, "docs/architecture.md"), "utf8");
  const folders = ROOMS.filter((room) => !room.includes(".") && room !== "pages");
  expect(folders.filter((room) => !new RegExp(`^\\| .*\`${room}/\``, "m").test(page))).toEqual([]);
});
