import { Option } from "commander";
import { DeviceError, InputError } from "../errors.js";
import type { AuditLog } from "../gateway/audit/log.js";
import { createTerminal } from "./terminal.js";

/** What a server's command line says of its audit. */
export interface AuditOptions {
  audit?: string;
  auditKeyFile?: string;
  auditText?: boolean;
}

const KEY_VARIABLE = "QWEN3GUARD_AUDIT_KEY";
/** Bytes. */
const LARGEST_KEY = 4096;

export function auditOptions(): Option[] {
  return [
    new Option(
      "--audit <file>",
      "append each decision to this file, a line of JSON each; -: standard output. Opened anew at SIGHUP",
    ),
    new Option(
      "--audit-key-file <file>",
      `what the audit hashes texts with (default: ${KEY_VARIABLE}, else a key of this process alone)`,
    ),
    new Option("--audit-text", "let the audit hold the texts themselves"),
  ];
}

/** Opens the audit, where there is to be one. @throws {InputError} AUDIT_INVALID, AUDIT_KEY_INVALID; {StorageError} AUDIT_UNWRITABLE */
export async function openAudit(options: AuditOptions): Promise<AuditLog | undefined> {
  if (options.audit === undefined) return undefined;
  const { AuditLog } = await import("../gateway/audit/log.js");
  const key = await keyOf(options);
  const audit = await AuditLog.open(options.audit, {
    key,
    text: options.auditText,
    onChange: (error) =>
      error
        ? tell("audit_unwritable", `${error.message} Until then requests are refused.`)
        : tell("audit_written", "The audit can be written again."),
  });
  if (key === undefined) {
    const message = `The audit's hashes are of a key that ends with this process. Give one with --audit-key-file or ${KEY_VARIABLE}.`;
    tell("audit_key_random", message);
  }
  process.on("SIGHUP", () => audit.reopen());
  return audit;
}

/** Tells where a server listens: on standard output, unless that is the audit's. */
export function announce(
  url: string,
  what: string,
  warnings: readonly string[],
  { audit }: AuditOptions,
): void {
  const { bold } = createTerminal(process.stderr).colors;
  const output = audit === "-" ? process.stderr : process.stdout;
  output.write(`${[`${bold(url)} ${what}`, ...warnings].join("\n")}\n`);
}

/** Writes what waits. @throws {DeviceError} AUDIT_LOST */
export async function closeAudit(audit: AuditLog | undefined): Promise<void> {
  const lost = (await audit?.close()) ?? 0;
  if (lost > 0)
    throw new DeviceError("AUDIT_LOST", `${lost} lines of the audit could not be written, and are lost.`);
}

async function keyOf({ auditKeyFile }: AuditOptions): Promise<string | undefined> {
  if (auditKeyFile === undefined) return process.env[KEY_VARIABLE] || undefined;
  const { readText } = await import("../files/regular-file.js");
  const text = await readText(auditKeyFile, LARGEST_KEY).catch((cause) => {
    const message = `The audit's key, ${auditKeyFile}, cannot be read (${cause.code ?? cause.message}).`;
    throw new InputError("AUDIT_KEY_INVALID", message, { cause });
  });
  return text.trim();
}

/** Beside the log's entries, in their form. */
function tell(code: string, message: string): void {
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), code, message })}\n`);
}
