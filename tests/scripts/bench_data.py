"""Rows read, rendered with the Alpaca prompts and tokenised: Paddock beside Python's datasets and transformers.

    venv/bin/pip install datasets transformers sentencepiece
    venv/bin/python tests/scripts/bench_data.py --core-cli target/release/core-cli \
        --data alpaca_data.json.gz --tokenizer FOLDER --rounds 5

The two take turns, so that a disturbed machine disturbs both; read the ratios. FOLDER holds a fast tokenizer
(tokenizer.json): both sides then use the same tokenizer library. Python reads with datasets' json builder into a
fresh cache, renders with map, and tokenises with a batched map; the tokenizer alone is timed over the same texts.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}"
    "\n\n### Response:{output}"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:{output}"
)


def peer(data, folder):
    import datasets
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"))

    def render(row):
        template = WITH_INPUT if row["input"] else WITHOUT_INPUT
        return {"text": template.format(**row)}

    with tempfile.TemporaryDirectory() as cache:
        begun = time.perf_counter()
        rows = datasets.load_dataset("json", data_files=data, cache_dir=cache, split="train")
        rows = rows.map(render, remove_columns=rows.column_names)
        read = time.perf_counter()
        tokens = rows.map(lambda batch: {"ids": tokenizer(batch["text"])["input_ids"]}, batched=True)
        end = time.perf_counter()
        texts = rows["text"][:]
        alone = time.perf_counter()
        for start in range(0, len(texts), 1000):
            tokenizer(texts[start : start + 1000])
        tokenizer_s = time.perf_counter() - alone
        count = sum(len(ids) for ids in tokens["ids"])
    print(json.dumps({
        "rows": len(rows), "tokens": count, "all_s": end - begun, "read_and_render_s": read - begun,
        "outside_tokenizer_s": max(end - begun - tokenizer_s, 0.0),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--core-cli", default="target/release/core-cli")
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--near", action="store_true")
    parser.add_argument("--peer", action="store_true")
    args = parser.parse_args()
    if args.peer:
        peer(args.data, args.tokenizer)
        return
    own = [args.core_cli, "bench", "data", "--data", args.data, "--tokenizer", args.tokenizer]
    own += ["--near"] if args.near else []
    other = [sys.executable, __file__, "--peer", "--data", args.data, "--tokenizer", args.tokenizer]
    ratios, outside = [], []
    print("| round | Paddock s | Python s | ratio | outside the tokenizer: Paddock s | Python s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for number in range(args.rounds):
        a, b = run(own), run(other)
        ratios.append(b["all_s"] / a["all_s"])
        outside.append(b["outside_tokenizer_s"] / a["outside_tokenizer_s"])
        print(f"| {number + 1} | {a['all_s']:.2f} | {b['all_s']:.2f} | {ratios[-1]:.2f} | "
              f"{a['outside_tokenizer_s']:.2f} | {b['outside_tokenizer_s']:.2f} | {outside[-1]:.1f} |", flush=True)
    print(f"\nmedian ratio {statistics.median(ratios):.2f}, outside the tokenizer {statistics.median(outside):.1f}")
    print(json.dumps({"paddock": a, "python": b}))


if __name__ == "__main__":
    main()
