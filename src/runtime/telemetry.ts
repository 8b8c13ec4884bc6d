import { setEnvironment } from "./environment.js";

/**
 * Turns ONNX Runtime's telemetry off for this process. Its library reads the switch when it is loaded and not again;
 * left on, it writes an identifier and a queue of events into the user's cache, a log into the temporary folder, and
 * sends both to Microsoft. There is no way to turn it on from here.
 */
export function disableTelemetry(): void {
  setEnvironment("ORT_DISABLE_TELEMETRY", "1");
}
