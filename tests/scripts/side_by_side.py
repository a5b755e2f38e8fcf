"""Paddock beside its peers on this machine, interleaved, as one table.

    python tests/scripts/side_by_side.py dense [--rust tests/scripts/peers/target/release]
    python tests/scripts/side_by_side.py generate [--llama-python venv/bin/python]
    python tests/scripts/side_by_side.py rows --model FOLDER --rows FILE [--batches 4]
    … [--cli target/release/core-cli] [--rounds 5] [--only TEXT] [--save FILE]

`dense`: random tokens, nothing shared, every token trained (`core-cli bench train`, bench_peer.py),
PyTorch eager and compiled; with --rust the programs of `peers/` too, where all weights are trained.
`core-cli bench train --keep` writes model and rows once a shape, and every side reads them. A side
whose first loss is another's by more than 1e-4 ends the comparison: it trains something else.
`generate`: reading a prompt of 512 tokens and writing 128, one stream (`core-cli bench generate`,
bench_generate.py with llama.cpp). `rows`: real rows as {"prompt", "completion"} lines, LoRA r16
(`core-cli train`, bench_rows.py), PyTorch padded and packed: a few batches with the whole file's
padding and length (rows_sample.py).

Every round runs each side once, in turn, so that all sides meet the same neighbours; the tables
show medians over the rounds and the range of the ratios. Prints Markdown, with what the machine is
and the multiply-adds it reached before each table; --save appends it to a file as well.
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

import rows_sample

HERE = pathlib.Path(__file__).parent
DENSE = [
    ("dim288", "lora"),
    ("dim288", "full"),
    ("dim768", "lora"),
    ("dim768", "full"),
    ("1b", "lora"),
]
MODELS = {
    "dim288": ["--shape", "288,6,6,6,768,32000"],
    "dim768": ["--shape", "768,12,12,12,2048,32000"],
    "1b": ["--shape", "2048,22,32,4,5632,32000", "--weights", "bf16"],
}
BATCHES = {
    "dim288": ["--batch", "8", "--seq", "256"],
    "dim768": ["--batch", "4", "--seq", "512"],
    "1b": ["--batch", "1", "--seq", "512"],
}
GENERATE = ["dim768", "1b"]
# Paddock with matrix products in bf16, by --bf16, on processors with instructions for them.
IN_BF16 = "Paddock in bf16"
BF16 = ["--backend", "cpu", "--precision", "bf16"]
# How far the first losses of two sides may be apart; bf16 activations round to three digits.
SAME_LOSS = {"f32": 1e-4, "bf16": 0.02}


def run(command):
    """Runs a command; gives what it printed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def last_json(command):
    """Runs a command and reads the last line of what it prints."""
    return json.loads(run(command).strip().splitlines()[-1])


def say(options, text):
    """Prints Markdown, and appends it to the file of --save."""
    print(text, flush=True)
    if options.save:
        with open(options.save, "a", encoding="utf-8") as file:
            file.write(text + "\n")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    day, load = time.strftime("%Y-%m-%d"), os.getloadavg()[0]
    return f"{name}, {os.cpu_count()} cores, {day}, load before: {load:.1f}"


def roofs(options):
    """What the machine reaches at this moment, in words; nothing if the program does not say."""
    command = [options.cli, "bench", "ops", "--only", "peak", "--json"]
    command += ["--threads", options.threads]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    found = {row["op"]: row for row in map(json.loads, lines)}
    words = []
    if "peak multiply-add" in found:
        words.append(f"{found['peak multiply-add']['gflops']:.0f} GFLOP/s of multiply-adds")
    if "peak read" in found:
        words.append(f"{found['peak read']['gbytes']:.0f} GB/s read")
    return f"The machine just before: {', '.join(words)}.\n\n" if words else ""


def rounds(options, sides, check=lambda results: None):
    """Each side once a round; all results of each."""
    results = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            results[name].append(side() if callable(side) else last_json(side))
        check(results)
    return results


def same_start(results):
    """Ends the comparison if the sides do not train the same model on the same rows."""
    ours = results["Paddock"][-1].get("first_loss")
    for name, found in results.items():
        theirs = found[-1].get("first_loss")
        if ours is None or theirs is None:
            raise SystemExit(f"{name if theirs is None else 'Paddock'} prints no first_loss")
        # Only PyTorch computes in the precision of its weights.
        computed = found[-1]["weights"] if name.startswith("PyTorch") else "f32"
        computed = "bf16" if name == IN_BF16 else computed
        if not abs(theirs - ours) <= SAME_LOSS[computed]:
            raise SystemExit(
                f"{name} starts with a loss of {theirs:.6f}, Paddock with {ours:.6f}: more than "
                f"{SAME_LOSS[computed]:g} apart, so they do not train the same on the same rows"
            )


def table(options, title, results, speed, unit, before=""):
    """One table of ours beside the others, and another one if products in bf16 were measured too."""
    others = {name: found for name, found in results.items() if name != IN_BF16}
    one_table(options, title, others, speed, unit, before)
    if IN_BF16 in results:
        results = {IN_BF16: results[IN_BF16], **others}
        one_table(options, f"{title}: {IN_BF16}", results, speed, unit, "")


def one_table(options, title, results, speed, unit, before):
    first = next(iter(results))
    with_loss = "first_loss" in results[first][-1]
    heads = f"| | {unit} | {first} is faster by (range) | peak memory |"
    heads += " first loss |" if with_loss else ""
    lines = [f"\n### {title}\n\n{before}{heads}", "|---" * (heads.count("|") - 1) + "|"]
    ours = [result[speed] for result in results[first]]
    for name, found in results.items():
        speeds = [result[speed] for result in found]
        ratios = [a / b for a, b in zip(ours, speeds)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        ratio = "" if name == first else ratio
        memory = statistics.median(result["peak_rss_bytes"] for result in found) / 1e6
        loss = f" {found[-1]['first_loss']:.5f} |" if with_loss else ""
        median = statistics.median(speeds)
        lines.append(f"| {name} | {median:,.2f} | {ratio} | {memory:,.0f} MB |{loss}")
    say(options, "\n".join(lines))


def dense_sides(options, preset, method, folder):
    common = ["--method", method, "--steps", options.steps, "--threads", options.threads]
    theirs = [sys.executable, HERE / "bench_peer.py", "--from", folder, *common]
    bench = [options.cli, "bench", "train", *MODELS[preset], *BATCHES[preset]]
    sides = {"Paddock": bench + common}
    if options.bf16:
        sides[IN_BF16] = sides["Paddock"] + BF16
    if preset == "1b":
        sides["PyTorch f32"] = theirs
        sides["PyTorch bf16"] = theirs + ["--weights", "bf16"]
    else:
        sides["PyTorch eager"] = theirs
        sides["PyTorch compiled"] = theirs + ["--compile"]
    if options.rust and method == "full":
        for name in ("candle", "burn"):
            program = [options.rust / f"peer-{name}", "--model", folder, *common[2:]]
            sides[name] = program
    return sides


def dense(options, room):
    for preset, method in DENSE:
        if options.only not in f"{preset} {method}":
            continue
        folder = room / preset
        if not folder.exists():
            bench = [options.cli, "bench", "train", *MODELS[preset], *BATCHES[preset]]
            run([*bench, "--method", "lora", "--steps", 1, "--keep", folder])
        before = roofs(options)
        results = rounds(options, dense_sides(options, preset, method, folder), same_start)
        table(options, f"{preset}, {method}", results, "tokens_per_s", "tokens/s", before)


def generate(options, room):
    for preset in GENERATE:
        if options.only not in preset:
            continue
        folder = room / f"{preset}-generate"
        ours = [options.cli, "bench", "generate", *MODELS[preset]]
        if not folder.exists():
            short = ["--prompt", 16, "--tokens", 1, "--times", 1]
            run([*ours, *short, "--keep", folder])
        common = ["--prompt", 512, "--tokens", 128, "--threads", options.threads]
        # Written in the first round, used again in the others.
        made = ["--model", folder, "--gguf", room / f"{preset}.gguf"]
        theirs = [options.llama_python, HERE / "bench_generate.py", *made, *common]
        before = roofs(options)
        sides = {"Paddock": ours + common, "llama.cpp": theirs}
        if options.bf16:
            sides[IN_BF16] = ours + common + BF16
        results = rounds(options, sides)
        writing = (f"{preset}, writing 128 tokens", results, "tokens_per_s", "tokens/s", before)
        table(options, *writing)
        reading = (f"{preset}, a prompt of 512", results, "prompt_tokens_per_s", "tokens/s")
        table(options, *reading)


def sample_of_rows(options, room):
    """Writes one batch to warm up with and some that stand for the whole file; what they are like, in words."""
    # Needs `tokenizers`, which the other comparisons do without.
    import text_rows

    rows = text_rows.read_text_rows(options.model, options.rows)
    lengths = [len(row["tokens"]) for row in rows]
    batch, batches = options.batch, options.batches
    # The batch before the window warms up, so the window begins at the second one or later.
    first = 1 + rows_sample.first_of_window(lengths[batch:], batch, batches)
    lines = pathlib.Path(options.rows).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip()][(first - 1) * batch : (first + batches) * batch]
    path = room / "sample.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path, rows_sample.in_words(lengths, batch, first, batches)


def train_rows(options, path, more=()):
    """Rows a second of `core-cli train` on the same rows, counted from its own record of steps."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        targets = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
        settings = {
            "model": options.model, "data": path, "template": "prompt", "epochs": 1,
            "batch-size": options.batch, "max-steps": options.batches + 1, "lora-rank": 16,
            "lora-alpha": 32, "lora-targets": targets, "shuffle": "false", "validation": "none",
            "samples": 0, "lr": 1e-4, "lr-schedule": "constant", "weight-decay": 0, "out": out,
        }  # fmt: skip
        command = [options.cli, "train", *more]
        for key, value in settings.items():
            command += [f"--{key}", str(value)]
        usage = (
            "import resource,subprocess,sys;c=subprocess.run(sys.argv[1:],stdout=2).returncode;"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss*1024);sys.exit(c)"
        )
        printed = run([sys.executable, "-c", usage, *command])
        with open(out / "metrics.jsonl", encoding="utf-8") as file:
            steps = [step for step in map(json.loads, file) if step["kind"] == "step"]
        # The first step warms up, as on the other side.
        done = steps[1:]
        seconds = done[-1]["elapsed_s"] - steps[0]["elapsed_s"]
        return {
            "rows_per_s": sum(step["rows"] for step in done) / seconds,
            "first_loss": steps[0]["loss"],
            "peak_rss_bytes": int(printed.strip().splitlines()[-1]),
        }


def real_rows(options, room):
    path, words = sample_of_rows(options, room)
    peer = [sys.executable, HERE / "bench_rows.py", "--model", options.model]
    peer += ["--rows", path, "--batch", options.batch, "--threads", options.threads]
    sides = {
        "Paddock": lambda: train_rows(options, path),
        "PyTorch padded": peer + ["--mode", "padded"],
        "PyTorch packed": peer + ["--mode", "packed"],
    }
    if options.bf16:
        sides[IN_BF16] = lambda: train_rows(options, path, BF16)
    before = words + roofs(options)
    title = f"{pathlib.Path(options.rows).name}, batches of {options.batch}"
    table(options, title, rounds(options, sides), "rows_per_s", "rows/s", before)


WHAT = {"dense": dense, "generate": generate, "rows": real_rows}


def arguments():
    kind = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("what", choices=tuple(WHAT))
    parser.add_argument("--cli", type=pathlib.Path, default="target/release/core-cli")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="only presets (and methods) with this text")
    parser.add_argument("--save", type=pathlib.Path, help="a file that the Markdown is appended to")
    parser.add_argument("--keep", type=pathlib.Path, help="where the models are made, and left")
    parser.add_argument("--steps", type=int, default=3, help="dense: steps a run")
    parser.add_argument("--bf16", action="store_true", help="Paddock with products in bf16, too")
    parser.add_argument("--rust", type=pathlib.Path, help="dense: where peer-candle and peer-burn are")
    parser.add_argument("--llama-python", default=sys.executable, help="generate: whose llama.cpp")
    parser.add_argument("--model", help="rows: the model's folder")
    parser.add_argument("--rows", help="rows: the file")
    parser.add_argument("--batch", type=int, default=16, help="rows: rows of a batch")
    parser.add_argument("--batches", type=int, default=4, help="rows: batches a run")
    options = parser.parse_args()
    if options.what == "rows" and not (options.model and options.rows):
        parser.error("rows needs --model and --rows")
    # A program in this folder is found as well.
    options.cli = options.cli.absolute()
    options.rust = options.rust and options.rust.absolute()
    return options


def main():
    options = arguments()
    say(options, f"\n{machine()}")
    with tempfile.TemporaryDirectory() as folder:
        room = options.keep or pathlib.Path(folder)
        room.mkdir(parents=True, exist_ok=True)
        WHAT[options.what](options, room)


if __name__ == "__main__":
    main()
