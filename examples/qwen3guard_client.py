"""Token-level verdicts from `qwen3guard serve`, in one file and with nothing but Python's own library.

It has the calls of Qwen3Guard-Stream's own code, over plain HTTP:

    guard = Qwen3Guard("http://127.0.0.1:8000")
    result, state = guard.stream_moderate_from_ids(prompt_ids, role="user", stream_state=None)
    for token_id in generated:
        result, state = guard.stream_moderate_from_ids(token_id, role="assistant", stream_state=state)
        print(result["risk_level"][-1], result["category"][-1])
    guard.close_stream(state)

`moderate_text` does the same with text of any model's tokenizer, in chunks of any size.
"""

import http.client
import json
from urllib.parse import urlsplit


class GuardError(Exception):
    """What the service refuses, or cannot do; `code` is stable."""

    def __init__(self, status, error):
        super().__init__(error.get("message", "The service failed."))
        self.status = status
        self.code = error.get("code")


class Qwen3Guard:
    def __init__(self, url="http://127.0.0.1:8000", api_key=None, timeout=600):
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    def classify(self, messages):
        """A finished conversation, judged at once: {"risk", "category", "text", "probabilities", ...}."""
        return self._ask("POST", "/v1/classify", {"messages": messages})

    def open(self, messages=None, ids=None):
        """Begins a stream with chat messages or templated ids. Returns its id and the prompt's verdict."""
        given = {"ids": list(ids)} if messages is None else {"messages": messages}
        opened = self._ask("POST", "/v1/streams", given)
        return opened["id"], opened["verdict"]

    def moderate_text(self, stream, text):
        """Judges the next text of a response; verdicts hold from `from` on and replace earlier ones there."""
        return self._ask("POST", f"/v1/streams/{stream}", {"text": text})

    def end(self, stream):
        """The last verdicts, and the decision on the response as a whole."""
        return self._ask("POST", f"/v1/streams/{stream}/end", {})

    def stream_moderate_from_ids(self, token_ids, role, stream_state=None):
        """As Qwen3Guard-Stream's own: the prompt in one call with role "user", then ids with role "assistant"."""
        ids = [token_ids] if isinstance(token_ids, int) else [int(i) for i in token_ids]
        if role == "user":
            stream, verdict = self.open(ids=ids)
            fields = ("risk_level", "risk_prob", "category", "category_prob")
            return {field: [verdict and verdict[field]] for field in fields}, stream
        return self._ask("POST", f"/v1/streams/{stream_state}", {"ids": ids}), stream_state

    def close_stream(self, stream_state):
        self._ask("DELETE", f"/v1/streams/{stream_state}")

    def close(self):
        self._connection.close()

    def _ask(self, method, path, body=None):
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status >= 400:
            try:
                error = json.loads(text)["error"]
            except (ValueError, KeyError, TypeError):
                error = {}
            raise GuardError(response.status, error)
        return json.loads(text) if text else None


if __name__ == "__main__":
    import sys

    guard = Qwen3Guard(*sys.argv[1:2])
    stream, verdict = guard.open(messages=[{"role": "user", "content": "Write a card for my neighbour."}])
    print("prompt:", verdict["risk_level"])
    for chunk in ["You are a ", "stupid, ugly loser, ", "and everybody hates you."]:
        told = guard.moderate_text(stream, chunk)
        for text, risk, category in zip(told["text"], told["risk_level"], told["category"]):
            print(repr(text), risk, category or "")
    print("decision:", guard.end(stream)["decision"]["risk"])
