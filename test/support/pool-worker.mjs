// A worker of a pool that is there, and hears nothing more.
process.on("message", () => {});
process.send({ kind: "ready" });
