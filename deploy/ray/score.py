"""Judges a dataset of JSON lines with `qwen3guard score` on Ray Data, one process an actor.

    python score.py rows.jsonl judged.jsonl --command "qwen3guard score --threads 1 --allow-errors all" --actors 8

What is written is what one process writes: the same lines in the same order, each with its verdict. Blank lines are left out.
"""

import argparse
import shlex
import subprocess
from threading import Thread

import pyarrow as pa
import ray


class Score:
    """A process that its actor keeps: what it loads it loads once."""

    def __init__(self, command: str):
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, rows: pa.Table) -> pa.Table:
        lines = rows["text"].to_pylist()
        # It answers while it is asked: who wrote everything first would have both wait.
        asking = Thread(target=self.ask, args=(lines,))
        asking.start()
        judged = [self.process.stdout.readline() for _ in lines]
        asking.join()
        # Ray ends the job where this fails; what was lost would else be taken for the rows' end.
        if not all(line.endswith(b"\n") for line in judged):
            raise RuntimeError(f"The process ended with {self.process.wait()} before it had judged all rows.")
        return pa.table({"text": [line[:-1].decode() for line in judged]})

    def ask(self, lines: list[str]) -> None:
        try:
            self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # What it did not answer says so.


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge JSON lines on Ray.")
    parser.add_argument("rows", help="JSON lines: a file or a folder")
    parser.add_argument("judged", help="file for the same lines with verdicts")
    parser.add_argument(
        "--command",
        default="qwen3guard score --threads 1 --allow-errors all",
        help="what each actor pipes its rows through",
    )
    parser.add_argument("--actors", type=int, default=2, help="processes at once, at most; each takes a processor")
    parser.add_argument("--blocks", type=int, help="parts that the rows are dealt out in (default: four an actor)")
    options = parser.parse_args()

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    rows = ray.data.read_text(options.rows).repartition(options.blocks or 4 * options.actors)
    judged = rows.map_batches(
        Score,
        fn_constructor_args=(options.command,),
        batch_size=1024,
        batch_format="pyarrow",
        # Begins with what the cluster has processors for, and takes more as it gets them: a fixed number would be waited for.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=options.actors),
    )
    with open(options.judged, "x", encoding="utf-8") as file:
        for batch in judged.iter_batches(batch_format="pyarrow", batch_size=1024):
            file.writelines(f"{line}\n" for line in batch["text"].to_pylist())


if __name__ == "__main__":
    main()
