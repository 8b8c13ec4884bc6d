"""Token-level verdicts from `qwen3guard serve`, in one file and with nothing but Python's own library.

It has the calls of Qwen3Guard-Stream's own code, over plain HTTP:

    guard = Qwen3Guard("http://127.0.0.1:8000")
    result, state = guard.stream_moderate_from_ids(prompt_ids, role="user", stream_state=None)
    for token_id in generated:
        result, state = guard.stream_moderate_from_ids(token_id, role="assistant", stream_state=state)
        print(result["risk_level"][-1], result["category"][-1])
    guard.close_stream(state)

`moderate_text` does the same with text of any model's tokenizer, in chunks of any size. On the command line:

    python3 qwen3guard_client.py classify --prompt "Hi" --response "You are a stupid, ugly loser."
    my-llm "Hi" | python3 qwen3guard_client.py stream --prompt "Hi"
"""

import argparse
import codecs
import http.client
import json
import os
import selectors
import sys
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
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a service, which is like http://HOST:PORT")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._path = parts.path.rstrip("/").removesuffix("/v1")
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
        connection = self._connection
        if connection.sock and _has_ended(connection.sock):
            connection.close()
        try:
            connection.request(method, self._path + path, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        if response.status >= 400:
            try:
                error = json.loads(text)["error"]
            except (ValueError, KeyError, TypeError):
                error = {}
            raise GuardError(response.status, error)
        return json.loads(text) if text else None


def _has_ended(sock):
    """Whether the service has closed a connection that was not used for some seconds: it has nothing else to say."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _show(told):
    fields = zip(told["text"], told["risk_level"], told["risk_prob"], told["category"])
    for index, (text, risk, probability, category) in enumerate(fields, told["from"]):
        print(f"{index:5d}  {risk:<13} {probability:6.1%}  {text!r}  {category or ''}".rstrip(), flush=True)


def _stream(guard, options):
    stream, verdict = guard.open(messages=[{"role": "user", "content": options.prompt}])
    print(f"prompt: {verdict['risk_level']} {verdict['category'] or ''}".rstrip(), flush=True)
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    while chunk := sys.stdin.buffer.read1(4096):
        if text := decode(chunk):
            _show(guard.moderate_text(stream, text))
    if text := decode(b"", True):
        _show(guard.moderate_text(stream, text))
    last = guard.end(stream)
    _show(last["verdicts"])
    decision = last["decision"]
    at = "" if decision["flaggedAt"] is None else f", from token {decision['flaggedAt']}"
    print(f"decision: {decision['risk']} {decision['category'] or ''}".rstrip() + at)


def _classify(guard, options):
    messages = [{"role": "user", "content": options.prompt}]
    if options.response is not None:
        messages.append({"role": "assistant", "content": options.response})
    found = guard.classify(messages)
    print(json.dumps(found, ensure_ascii=False) if options.json else found["text"])


def _main():
    parser = argparse.ArgumentParser(
        description="Asks a running `qwen3guard serve` for verdicts. To use it from Python, import Qwen3Guard instead.",
        epilog="Start the service first: qwen3guard serve --port 8000",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where it listens (default: %(default)s)")
    parser.add_argument("--api-key", help="what it was given as --api-key (default: QWEN3GUARD_API_KEY)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    classify = commands.add_parser(
        "classify",
        help="judge a finished prompt, or an answer to it",
        epilog='example: qwen3guard_client.py classify --prompt "Hi" --response "You are a stupid, ugly loser."',
    )
    classify.add_argument("--prompt", required=True, help="what the user asked")
    classify.add_argument("--response", help="the answer, if that is to be judged")
    classify.add_argument("--json", action="store_true", help="the whole classification, with all probabilities")
    classify.set_defaults(run=_classify)

    stream = commands.add_parser(
        "stream",
        help="judge an answer token by token, as it arrives on standard input (needs a Stream guard)",
        description="A token's line comes again, under the same number, where what follows made another token of it.",
        epilog='example: my-llm "Hi" | qwen3guard_client.py stream --prompt "Hi"',
    )
    stream.add_argument("--prompt", required=True, help="what the user asked")
    stream.set_defaults(run=_stream)

    options = parser.parse_args()
    key = options.api_key or os.environ.get("QWEN3GUARD_API_KEY")
    try:
        options.run(Qwen3Guard(options.url, key), options)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except GuardError as error:
        sys.exit(f"error: {error} ({error.code or error.status})")
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"error: no answer from {options.url}: {error}. Is `qwen3guard serve` running there?")


if __name__ == "__main__":
    _main()
