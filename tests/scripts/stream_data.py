"""Memory does not grow with the file: makes a JSONL of some gigabytes and looks at the peak memory of commands on it.

    python tests/scripts/stream_data.py --core-cli target/release/core-cli --gigabytes 10 --folder /tmp/stream

Rows have some 500 bytes and are all different. The folder is emptied afterwards.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
import time


def block(size):
    """Lines of random words with a source and a time."""
    draw = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 8))) for _ in range(4096)]
    lines, length, number = [], 0, 0
    while length < size:
        text = " ".join(draw.choices(words, k=70))
        line = '{"instruction":"say %d %s","input":"","output":"%s","source":"s%d","day":%d}\n' % (
            number, text[:60], text, number % 7, number)
        lines.append(line)
        length += len(line)
        number += 1
    return "".join(lines).encode(), number


def make(data, size):
    """The block again and again, each time with another number in every row."""
    lines, count = block(50_000_000)
    number = 1
    with open(data, "wb") as file:
        while file.tell() < size:
            mark = b"%d" % number
            file.write(lines.replace(b'"say ', b'"say ' + mark + b" ").replace(b'"day":', b'"day":' + mark))
            number += 1
    print(f"{(number - 1) * count} rows", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--core-cli", default="target/release/core-cli")
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--folder", required=True)
    args = parser.parse_args()
    os.makedirs(args.folder)
    data = os.path.join(args.folder, "rows.jsonl")
    # In a process of its own: a child inherits the peak memory of its parent.
    maker = multiprocessing.Process(target=make, args=(data, args.gigabytes * 1e9))
    maker.start()
    maker.join()
    print(f"{os.path.getsize(data)} bytes\n\n| command | peak memory, MB | seconds |\n|---|---|---|", flush=True)
    out = os.path.join(args.folder, "out")
    commands = [
        ["inspect", data],
        ["stats", data],
        ["sample", data, "--rows", "1000", "--source", "source", "--out", out + ".jsonl"],
        ["split", data, "--out", out],
        ["convert", data, "--drop", "day", "--out", out + ".jsonl"],
    ]
    for command in commands:
        begun = time.monotonic()
        process = subprocess.Popen([args.core_cli, "data", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        errors = process.stderr.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"{command}\n{errors}")
        words = " ".join(command).replace(args.folder + "/", "")
        print(f"| data {words} | {used.ru_maxrss / 1024:.0f} | {time.monotonic() - begun:.0f} |", flush=True)
        for name in ["out", "out.jsonl", "out.jsonl.manifest.json"]:
            path = os.path.join(args.folder, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
    shutil.rmtree(args.folder)


if __name__ == "__main__":
    main()
