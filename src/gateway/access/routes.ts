import { InputError } from "../../errors.js";
import type { Endpoint, ResponseCodec } from "../answer/codec.js";
import { ENDPOINTS } from "../endpoints.js";

/** Where a request goes. `endpoint` is a name for logs and metrics: the client's path stands in neither. */
export type Route =
  | { kind: "judged"; endpoint: string; judged: Endpoint }
  | { kind: "moderations"; endpoint: string }
  | { kind: "unjudged"; endpoint: string }
  | { kind: "refused"; endpoint: string; status: 404 | 405 };

/** How a route's errors are written: as its endpoint's protocol has them, else as OpenAI's. */
export function codecOf({ endpoint }: Route): ResponseCodec {
  return Object.hasOwn(ENDPOINTS, endpoint) ? ENDPOINTS[endpoint] : ENDPOINTS["/chat/completions"];
}

export interface RouteOptions {
  /** What happens to paths that are neither judged nor opened. Default "refuse". */
  otherPaths?: "pass" | "refuse";
  /** Paths that pass unjudged: "/v1/files/*", "GET /v1/responses/**"; `*` stays within a segment. */
  allowPaths?: readonly string[];
}

/** Stands for every path that nobody named. */
const OTHER = "other";
const MODERATIONS = "/moderations";
const READING = ["GET", "HEAD"];

interface Opened {
  name: string;
  /** null: all. */
  methods: readonly string[] | null;
  path: RegExp;
}

/** What carries no text of a model's: lists and descriptions of models, and vectors. */
const OPEN: Opened[] = [
  {
    name: "/models",
    methods: READING,
    path: /^(\/[\w.:@-]+)*\/models(\/[\w.:@-]+(%(2f|3a|40)[\w.:@-]+)*){0,3}$/i,
  },
  { name: "/embeddings", methods: ["POST"], path: /^(\/[\w.:@-]+)*\/embeddings$/ },
  { name: "/count_tokens", methods: ["POST"], path: /^(\/[\w.:@-]+)*\/v1\/messages\/count_tokens$/ },
  { name: "/api/embed", methods: ["POST"], path: /^(\/[\w.:@-]+)*\/api\/embed$/ },
  { name: "/api/show", methods: ["POST"], path: /^(\/[\w.:@-]+)*\/api\/show$/ },
  { name: "/api/tags", methods: READING, path: /^(\/[\w.:@-]+)*\/api\/(tags|ps|version)$/ },
];

export class Routes {
  readonly #options: RouteOptions;
  readonly #opened: Opened[];

  /** @throws {InputError} OPTION_INVALID */
  constructor(options: RouteOptions) {
    this.#options = options;
    this.#opened = (options.allowPaths ?? []).map(opened);
  }

  of(method: string, pathname: string): Route {
    const endpoint = endpointOf(pathname);
    if (method === "POST") {
      if (endpoint === MODERATIONS) return { kind: "moderations", endpoint };
      if (endpoint !== OTHER) return { kind: "judged", endpoint, judged: ENDPOINTS[endpoint] };
    } else if (endpoint !== OTHER && !["GET", "HEAD", "DELETE"].includes(method)) {
      // A server may take for a POST what brings a body.
      return { kind: "refused", endpoint, status: 405 };
    }
    const open = endpoint === OTHER ? [...OPEN, ...this.#opened] : this.#opened;
    const found = open.find(
      ({ methods, path }) => (methods === null || methods.includes(method)) && path.test(pathname),
    );
    if (found) return { kind: "unjudged", endpoint: found.name };
    if (this.#options.otherPaths === "pass") return { kind: "unjudged", endpoint: OTHER };
    return { kind: "refused", endpoint, status: endpoint === OTHER ? 404 : 405 };
  }
}

/**
 * The judged endpoint that a path stands for, whatever comes before it: spelled as a lenient server would still take it,
 * so that no spelling gets past the guard.
 */
function endpointOf(pathname: string): string {
  const path = spelledOut(pathname);
  const found = [...Object.keys(ENDPOINTS), MODERATIONS].find((endpoint) => path.endsWith(endpoint));
  return found ?? OTHER;
}

/** A path as a lenient server would read it: decoded, in small letters, without parameters. */
export function spelledOut(pathname: string): string {
  let path = pathname;
  for (let i = 0; i < 3; i++) {
    path = path.replace(/%([0-7][0-9a-f])/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
  }
  path = path
    .toLowerCase()
    .replace(/[?#].*$/, "")
    .replace(/[/\\]+/g, "/")
    .replace(/;[^/]*/g, "")
    .replace(/\s+$/, "");
  // Once more as an address: what was encoded may have held "..".
  return new URL(path, "http://localhost").pathname.replace(/\/+$/, "");
}

/** A path that is opened on purpose. Spelled as it is: what others would decode to another path does not match. */
function opened(pattern: string): Opened {
  const [, method = null, glob] = /^(?:([A-Za-z]+) +)?(\/[^\s?#]*)$/.exec(pattern) ?? [];
  if (glob === undefined) {
    throw new InputError(
      "OPTION_INVALID",
      `${JSON.stringify(pattern)} is no path to allow. Give one such as "/v1/files/*" or "GET /v1/responses/**".`,
    );
  }
  const source = glob
    .split(/(\*+)/)
    .map((part, i) => {
      if (i % 2 === 0) return part.replace(/[.+^$()|[\]{}\\?]/g, "\\$&");
      return part === "*" ? "[^/]*" : ".*";
    })
    .join("");
  const ambiguous = "(?!.*(%2f|%5c|%2e|%25|%3b|%00|;|//|\\\\))";
  return {
    name: pattern,
    methods: method === null ? null : [method.toUpperCase()],
    path: new RegExp(`^${ambiguous}${source}$`, "i"),
  };
}
