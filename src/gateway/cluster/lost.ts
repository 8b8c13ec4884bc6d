/** What a client is told whose worker died. */
export const LOST = {
  message: "The process that judged this stopped. Ask again.",
  type: "server_error",
  param: null,
  code: "worker_lost",
};
