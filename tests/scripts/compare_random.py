"""Trains random LLaMAs here and in PyTorch, and lets each side open what the other one made.

    python tests/scripts/compare_random.py --core-cli target/release/core-cli --seeds 1 12 --work DIR

For every seed: random_llama.py draws a model and rows; the seed also draws the method (LoRA with any rank,
scale and targets, or full), optimizer, schedule, decay and batch size. Both sides train from the same start. Then
- the losses and gradient norms of all steps are compared,
- the result made here is opened by transformers and PEFT, and its row losses are compared,
- the result made there is opened by core-cli score, and its row losses are compared.
PyTorch computes in f64. Prints a line a seed and a JSON summary; exits 1 if anything is over --bound.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys

import torch

import peer
import text_rows

HERE = pathlib.Path(__file__).parent
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core-cli", required=True)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 12), metavar=("FIRST", "LAST"))
    parser.add_argument("--work", type=pathlib.Path, required=True, help="a new folder")
    parser.add_argument("--bound", type=float, default=1e-4, help="largest relative difference")
    return parser.parse_args()


def draw_settings(draw):
    method = draw.choice(("lora", "lora", "full"))
    settings = {
        "method": method,
        "optimizer": draw.choice(("adamw", "adamw", "adam")),
        "lr": draw.choice((1e-3, 3e-3)),
        "lr-schedule": draw.choice(("constant", "linear", "cosine")),
        "warmup-steps": draw.choice((0, 2)),
        "weight-decay": draw.choice((0.0, 0.1)),
        "max-grad-norm": draw.choice((0.0, 0.5, 1.0)),
        "batch-size": draw.choice((3, 4, 8)),
        "epochs": 3,
    }
    if method == "lora":
        targets = draw.sample(MODULES, draw.randrange(1, 8))
        settings["lora-rank"] = draw.choice((1, 3, 8))
        settings["lora-alpha"] = draw.choice((4.0, 16.0))
        settings["lora-targets"] = draw.choice(("all-linear", ",".join(targets)))
    return settings


def call(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def flags(settings):
    return [word for key, value in settings.items() for word in (f"--{key}", value)]


def train_there(folder, settings, rslora, limit):
    command = [sys.executable, HERE / "train_peer.py", folder / "model", "--dtype", "f64"]
    command += ["--data", folder / "model/data.jsonl", "--out", folder / "there"]
    command += ["--max-seq-len", limit, *flags(settings)]
    if settings["method"] == "lora":
        command += ["--save-init", folder / "start"]
        command += ["--rslora"] if rslora else []
    return json.loads(call(command).splitlines()[-1])


def train_here(core_cli, folder, settings):
    command = [core_cli, "train", "--model", folder / "model", "--data", folder / "model/data.jsonl"]
    command += ["--template", "prompt", "--out", folder / "here", "--shuffle", "false"]
    command += ["--validation", "none", "--threads", 1]
    if settings["method"] == "lora":
        # Rank, scale and targets are the adapter's own.
        settings = {k: v for k, v in settings.items() if not k.startswith("lora")}
        command += ["--init-adapter", folder / "start"]
    call(command + flags(settings))
    lines = [json.loads(line) for line in (folder / "here/metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "step"]


def score_here(core_cli, folder, made, method):
    model = folder / "model" if method == "lora" else made
    command = [core_cli, "score", "--model", model, "--data", folder / "model/data.jsonl"]
    command += ["--template", "prompt"] + (["--adapter", made] if method == "lora" else [])
    return {row["row"]: row["nll"] for row in map(json.loads, call(command).splitlines())}


def score_there(folder, made, method, rows):
    model = peer.load_model(folder / "model" if method == "lora" else made, "f64")
    if method == "lora":
        model = peer.open_lora(model, made)
    losses = []
    for row in rows:
        peer.fresh_rope(model, "f64")
        with peer.in_dtype("f64"), torch.no_grad():
            losses.append(peer.row_nll(peer.batch_logits(model, [row])[0], row).sum().item())
    return losses


def apart(ours, theirs):
    """Largest difference, relative to the larger of value and 1."""
    if len(ours) != len(theirs):
        return float("inf")
    return max(abs(a - b) / max(abs(b), 1.0) for a, b in zip(ours, theirs, strict=True))


def compare(options, seed):
    draw = random.Random(1000 + seed)
    folder = options.work / f"seed-{seed}"
    folder.mkdir(parents=True)
    drawn = json.loads(
        call([sys.executable, HERE / "random_llama.py", "--seed", seed, "--out", folder / "model"])
    )
    settings, rslora = draw_settings(draw), draw.random() < 0.3
    limit = drawn["max_position_embeddings"]
    there = train_there(folder, settings, rslora, limit)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / "model" / file).exists():
            shutil.copy(folder / "model" / file, folder / "there" / file)
    here = train_here(options.core_cli, folder, settings)
    method = settings["method"]
    made_here = folder / "here" / ("adapter" if method == "lora" else "model")
    rows = text_rows.read_text_rows(folder / "model", folder / "model/data.jsonl")
    kept = [i for i, row in enumerate(rows) if len(row["tokens"]) <= limit and row["trained"]]
    ours = score_here(options.core_cli, folder, made_here, method)
    back = score_here(options.core_cli, folder, folder / "there", method)
    chosen = [rows[i] for i in kept]
    result = {
        "seed": seed,
        "steps": len(here),
        "first_loss": there["loss"][0],
        "last_loss": there["loss"][-1],
        "loss": apart([s["loss"] for s in here], there["loss"]),
        "grad_norm": apart([s["grad_norm"] for s in here], there["grad_norm"]),
        "opened_there": apart(
            [ours[i] for i in kept], score_there(folder, made_here, method, chosen)
        ),
        "opened_here": apart([back[i] for i in kept], there["final_nll"]),
    }
    result["model"] = drawn
    result["settings"] = settings | {"rslora": rslora and method == "lora"}
    return result


def main():
    options = arguments()
    options.work.mkdir(parents=True)
    worst = {"loss": 0.0, "grad_norm": 0.0, "opened_there": 0.0, "opened_here": 0.0}
    results = []
    for seed in range(options.seeds[0], options.seeds[1] + 1):
        result = compare(options, seed)
        results.append(result)
        worst = {key: max(value, result[key]) for key, value in worst.items()}
        print(json.dumps(result), flush=True)
    (options.work / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))
    print(json.dumps({"seeds": len(results), "worst": worst}))
    sys.exit(any(value > options.bound for value in worst.values()))


if __name__ == "__main__":
    main()
