"""Judges a dataset of JSON lines with `qwen3guard score`, one process a partition.

    spark-submit score.py rows.jsonl judged --command "qwen3guard score --threads 1" --partitions 64

What is written is what one process writes: the same lines in the same order, each with its verdict.
"""

import argparse
import os

from pyspark import RDD
from pyspark.sql import SparkSession

# A piped process gets no environment of its own; these are the driver's.
ENVIRONMENT = ("PATH", "HOME", "QWEN3GUARD_CACHE", "HF_HOME")


def score(rows: RDD, command: str) -> RDD:
    """The rows with their verdicts, in their order. Where a process fails its task fails, and Spark tries it again:
    without checkCode a failed process would be taken for the end of its rows. Nor can one lose a row: zip says so."""
    env = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    return rows.zip(rows.pipe(command, env, checkCode=True)).values()


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge JSON lines on Spark.")
    parser.add_argument("rows", help="JSON lines: a file, a folder or a pattern, compressed or not")
    parser.add_argument("judged", help="folder for the same lines with verdicts; must not be there")
    parser.add_argument(
        "--command",
        default="qwen3guard score --threads 1 --allow-errors all",
        help="what each partition is piped through",
    )
    parser.add_argument("--partitions", type=int, help="how many processes in all (default: as the files are cut)")
    options = parser.parse_args()

    spark = SparkSession.builder.appName("qwen3guard score").getOrCreate()
    rows = spark.sparkContext.textFile(options.rows, options.partitions)
    score(rows, options.command).saveAsTextFile(options.judged)
    spark.stop()


if __name__ == "__main__":
    main()
