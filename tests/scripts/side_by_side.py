"""Paddock beside its peers on this machine, interleaved, as one table.

    python tests/scripts/side_by_side.py dense [--rounds 5] [--cli target/release/core-cli]
    python tests/scripts/side_by_side.py rows --model FOLDER --rows FILE [--rounds 5] [--batches 4]

`dense`: random tokens, nothing shared, every token trained (`core-cli bench train`, bench_peer.py),
PyTorch eager and compiled. `rows`: real rows as {"prompt", "completion"} lines, LoRA r16 (`core-cli
train`, bench_rows.py), PyTorch padded and packed. Every round runs each side once, in turn, so
that all sides meet the same neighbours; the table shows medians over the rounds and the range of
the ratios. Prints Markdown, with a line about the machine.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
DENSE = [
    ("dim288", "lora"),
    ("dim288", "full"),
    ("dim768", "lora"),
    ("dim768", "full"),
    ("1b", "lora"),
]
SHAPES = {
    "dim288": ["--shape", "288,6,6,6,768,32000", "--batch", "8", "--seq", "256"],
    "dim768": ["--shape", "768,12,12,12,2048,32000", "--batch", "4", "--seq", "512"],
    "1b": ["--shape", "2048,22,32,4,5632,32000", "--batch", "1", "--seq", "512", "--weights", "bf16"],
}


def last_json(command):
    """Runs a command and reads the last line of what it prints."""
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"{command} failed:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def machine():
    names = [l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
    load = os.getloadavg()[0]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, load before: {load:.1f}"


def dense_sides(options, preset, method):
    ours = [options.cli, "bench", "train", *SHAPES[preset], "--method", method, "--steps", options.steps]
    theirs = [sys.executable, HERE / "bench_peer.py", "--preset", preset, "--method", method, "--steps", options.steps]
    sides = {"Paddock": ours}
    if preset == "1b":
        sides["PyTorch f32"] = theirs
        sides["PyTorch bf16"] = theirs + ["--weights", "bf16"]
    else:
        sides["PyTorch eager"] = theirs
        sides["PyTorch compiled"] = theirs + ["--compile"]
    return sides


def train_rows(options):
    """Rows a second of `core-cli train` on the same rows, counted from its own record of steps."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        settings = {
            "model": options.model, "data": options.rows, "template": "prompt", "epochs": 1,
            "batch-size": options.batch, "max-steps": options.batches + 1, "lora-rank": 16,
            "lora-alpha": 32, "lora-targets": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
            "shuffle": "false", "validation": "none", "samples": 0, "lr": 1e-4,
            "lr-schedule": "constant", "weight-decay": 0, "out": out,
        }
        command = [options.cli, "train"]
        for key, value in settings.items():
            command += [f"--{key}", str(value)]
        usage = "import resource,subprocess,sys;c=subprocess.run(sys.argv[1:],stdout=2).returncode;" \
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss*1024);sys.exit(c)"
        run = subprocess.run([sys.executable, "-c", usage, *map(str, command)], capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(run.stderr[-2000:])
        steps = [json.loads(l) for l in open(out / "metrics.jsonl")]
        steps = [s for s in steps if s["kind"] == "step"]
        # The first step warms up, as on the other side.
        done = steps[1:]
        seconds = done[-1]["elapsed_s"] - steps[0]["elapsed_s"]
        return {
            "rows_per_s": sum(s["rows"] for s in done) / seconds,
            "first_loss": steps[0]["loss"],
            "peak_rss_bytes": int(run.stdout.strip().splitlines()[-1]),
        }


def rounds(options, sides, speed):
    """Each side once a round; the speeds and the last result of each."""
    found = {name: [] for name in sides}
    last = {}
    for _ in range(options.rounds):
        for name, side in sides.items():
            last[name] = side() if callable(side) else last_json(side)
            found[name].append(last[name][speed])
    return found, last


def table(title, found, last, unit):
    print(f"\n### {title}\n\n| | {unit} | Paddock is faster by (range) | peak memory | loss |\n|---|---|---|---|---|")
    for name, speeds in found.items():
        ratios = [a / b for a, b in zip(found["Paddock"], speeds)]
        ratio = "" if name == "Paddock" else f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        loss = last[name].get("first_loss", last[name].get("loss"))
        memory = last[name]["peak_rss_bytes"] / 1e6
        print(f"| {name} | {statistics.median(speeds):,.2f} | {ratio} | {memory:,.0f} MB | {loss:.4f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("dense", "rows"))
    parser.add_argument("--cli", default="target/release/core-cli")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", default="", help="dense: only presets and methods with this in their name")
    parser.add_argument("--model")
    parser.add_argument("--rows")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=4)
    options = parser.parse_args()
    print(machine())
    if options.what == "dense":
        for preset, method in DENSE:
            if options.only in f"{preset} {method}":
                found, last = rounds(options, dense_sides(options, preset, method), "tokens_per_s")
                table(f"{preset}, {method}", found, last, "tokens/s")
        return
    peer = [sys.executable, HERE / "bench_rows.py", "--model", options.model, "--rows", options.rows,
            "--batch", options.batch, "--batches", options.batches]
    sides = {
        "Paddock": lambda: train_rows(options),
        "PyTorch padded": peer + ["--mode", "padded"],
        "PyTorch packed": peer + ["--mode", "packed"],
    }
    found, last = rounds(options, sides, "rows_per_s")
    table(f"{pathlib.Path(options.rows).name}, batches of {options.batch}", found, last, "rows/s")


if __name__ == "__main__":
    main()
