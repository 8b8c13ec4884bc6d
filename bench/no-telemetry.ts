/** To be imported before anything that loads ONNX Runtime by itself. */
import { disableTelemetry } from "../src/runtime/telemetry.js";

disableTelemetry();
