"""Golden values of tiny random LLaMA models: logits, losses, gradients, greedy tokens, short runs.

    python tests/scripts/make_fixtures.py [NAME ...]

Writes tests/fixtures/NAME/, whose layout tests/fixtures/README.md describes. Everything is drawn
from fixed seeds; a seed is skipped while f32 and f64 disagree on a greedy token or on a run.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

import peer

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent / "fixtures"
STEPS, SHORT_STEPS, NEW_TOKENS, RANK, ALPHA = 20, 5, 12, 3, 6
RUN = {
    "optimizer": "adamw",
    "lr_schedule": "linear",
    "warmup_steps": 3,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def rope(kind, theta=10000.0, **more):
    return {"rope_type": kind, "rope_theta": theta, **more}


def shape(dim, hidden, layers, heads, kv, vocab, **more):
    return {
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_parameters": rope("default"),
        **more,
    }


MHA = shape(24, 56, 2, 3, 3, 67, tie_word_embeddings=True)
GQA = shape(40, 52, 3, 4, 2, 61, head_dim=14, rms_norm_eps=1e-6)
LLAMA3 = rope(
    "llama3",
    500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
FIXTURES = {
    "mha_tied": {"seed": 159, "config": MHA},
    "gqa_untied_odd": {"seed": 201, "config": GQA},
    "llama3_rope": {
        "seed": 363,
        "config": shape(
            32, 44, 2, 4, 1, 59, rope_parameters=LLAMA3, max_position_embeddings=128,
            tie_word_embeddings=True,
        )
    },
    "linear_rope": {
        "seed": 400,
        "config": shape(20, 36, 2, 2, 2, 53, rope_parameters=rope("linear", factor=2.0)),
        "clip": {"lora": 0.9, "full": 2.1},  # crossed on the way: some steps are not clipped
    },
    "dynamic_rope": {
        "seed": 513,
        "config": shape(
            24, 40, 2, 4, 2, 47, rope_parameters=rope("dynamic", factor=2.0),
            max_position_embeddings=12,
        )
    },
    "mha_tied_bf16": {"seed": 616, "config": MHA, "dtype": "bf16"},
    "gqa_untied_odd_f16_sharded": {"seed": 703, "config": GQA, "dtype": "f16", "shard": "40KB"},
}


def draw_rows(vocab, generator):
    """Five rows: three share 9 tokens, two of these share 14, one is a prefix of another.

    The masks cover what sharing must survive: a trained token inside the shared prefix, one right
    after it, gaps (several turns), and a single trained token.
    """

    def ids(n):
        return torch.randint(3, vocab, (n,), generator=generator).tolist()

    head, long_head = ids(8), ids(5)
    first = [1] + head + ids(7)
    second = [1] + head + long_head + ids(9)
    third = [1] + head + long_head + ids(4) + [2]
    while len({row[9] for row in (first, second)}) < 2 or second[14] == third[14]:
        first[9], third[14] = ids(1)[0], ids(1)[0]
    return [
        {"tokens": first, "trained": list(range(9, len(first)))},
        {"tokens": second, "trained": [6, 7] + list(range(15, len(second)))},
        {"tokens": third, "trained": list(range(14, len(third)))},
        {"tokens": first[:7], "trained": [6]},
        {"tokens": [1] + ids(10), "trained": [1, 2, 5, 6, 10]},
    ]


def draw_model(config, generator):
    """Random weights large enough that attention, norms and gates all matter."""
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim == 1:
                value.copy_(1 + 0.2 * noise)
            elif "embed" in name:
                value.copy_((0.25 if config.tie_word_embeddings else 0.6) * noise)
            else:
                value.copy_(noise / value.shape[1] ** 0.5)
    return model


def draw_adapter(folder, generator):
    """A PEFT folder whose A and B are both random, so that every gradient is non-zero."""
    model = peer.add_lora(peer.load_model(folder), RANK, ALPHA)
    with torch.no_grad():
        for value in (p for p in model.parameters() if p.requires_grad):
            value.copy_(0.3 * torch.randn(value.shape, generator=generator) / value.shape[1] ** 0.5)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    path = folder / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = None  # was an absolute path
    config["target_modules"].sort()  # was a set, in no fixed order
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def write_model(folder, spec, generator):
    config = LlamaConfig(bos_token_id=1, eos_token_id=2, **spec["config"])
    model = draw_model(config, generator).to(DTYPES[spec.get("dtype", "f32")])
    model.save_pretrained(folder, max_shard_size=spec.get("shard", "1GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)
    written = json.loads((folder / "config.json").read_text())
    write_json(folder / "config_v4.json", older_config(written))


def older_config(config):
    """The same configuration in the words of transformers 4 and of most published checkpoints."""
    config = dict(config)
    parameters = dict(config.pop("rope_parameters"))
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    return dict(sorted(config.items()))


def write_json(path, value):
    """Compact, yet one line for each entry, so that a diff can be read."""
    lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_tensors(path, tensors, dtype):
    save_file({k: v.detach().to(dtype).contiguous() for k, v in tensors.items()}, path)


def opened(folder, dtype, lora=False, **changes):
    model = peer.load_model(folder, dtype)
    return peer.open_lora(model, folder / "adapter", True, **changes) if lora else model


def trained_values(model):
    return {peer.saved_name(k): v for k, v in model.named_parameters() if v.requires_grad}


def forward_and_gradients(folder, rows, lora):
    """Values in f64 of all rows as one batch: logits, token losses, mean loss, gradients."""
    model = opened(folder, "f64", lora)
    with peer.float64_everywhere():
        logits = peer.batch_logits(model, rows)
        nll = [peer.row_nll(value, row) for value, row in zip(logits, rows)]
        loss = torch.cat(nll).sum() / sum(len(row["trained"]) for row in rows)
        loss.backward()
        gradients = {k: v.grad for k, v in trained_values(model).items()}
        check_gradients(model, rows, gradients)
    return logits, nll, loss.item(), gradients


def check_gradients(model, rows, gradients, step=1e-3):
    """The slope along a random direction, by differences, is the gradient's: proof of real f64."""
    generator = torch.Generator().manual_seed(7)
    values = trained_values(model)
    ways = {k: torch.randn(v.shape, generator=generator).double() for k, v in values.items()}

    length = sum((way**2).sum() for way in ways.values()) ** 0.5
    ways = {k: way / length for k, way in ways.items()}

    def loss_at(amount):
        for name, value in values.items():
            value.add_(ways[name], alpha=amount)
        loss = peer.batch_loss(model, rows).item()
        for name, value in values.items():
            value.sub_(ways[name], alpha=amount)
        return loss

    with torch.no_grad():
        near, far = (loss_at(h) - loss_at(-h) for h in (step, 2 * step))
    slope = (8 * near - far) / (12 * step)
    expected = sum((gradients[k] * ways[k]).sum().item() for k in values)
    size = sum((g**2).sum().item() for g in gradients.values()) ** 0.5
    assert abs(slope - expected) <= 1e-9 * size, (slope, expected, size)


def alone(folder, rows):
    """Each row in its own batch: for dynamic RoPE the angles depend on what a row is run with."""
    model, logits = opened(folder, "f64"), []
    for row in rows:
        peer.fresh_rope(model, "f64")
        with peer.float64_everywhere(), torch.no_grad():
            logits += peer.batch_logits(model, [row])
    return logits, [peer.row_nll(value, row) for value, row in zip(logits, rows)]


def greedy_rows(folder, rows, lora=False):
    """The continuation of each row, or None if f32, f64, cached and uncached do not agree.

    None as well where a choice is close or a row only repeats itself: such a row tests little.
    """
    answers = []
    for dtype, cached in (("f64", False), ("f64", True), ("f32", True)):
        model, found = opened(folder, dtype, lora), []
        for row in rows:
            peer.fresh_rope(model, dtype)
            with peer.in_dtype(dtype):
                tokens, lead = peer.greedy(model, row["tokens"], NEW_TOKENS, cached)
            if lead < 1e-3 or len(set(tokens)) < 3:
                return None
            found.append(tokens)
        answers.append(found)
    return answers[0] if answers[0] == answers[1] == answers[2] else None


def run(folder, rows, lora, settings, steps, **changes):
    """The same run in f64 and in f32; the f64 history also carries the f32 losses."""
    histories = {}
    for dtype in ("f64", "f32"):
        model = opened(folder, dtype, lora, **changes)
        with peer.in_dtype(dtype):
            histories[dtype] = peer.train(model, [rows] * steps, settings)
        if dtype == "f64":
            final = {k: v.detach().clone() for k, v in trained_values(model).items()}
    result = {"steps": steps, **settings, "peak_lr": settings["lr"]} | histories["f64"]
    result["loss_f32"] = histories["f32"]["loss"]
    worst = max(abs(a - b) / abs(a) for a, b in zip(result["loss"], result["loss_f32"]))
    return result, final, worst


def make(name, spec, seed):
    """Writes one fixture from one seed; False if the seed is not good enough."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    write_model(folder, spec, generator)
    draw_adapter(folder, generator)
    rows = draw_rows(spec["config"]["vocab_size"], generator)
    plain, tuned = greedy_rows(folder, rows), greedy_rows(folder, rows, lora=True)
    if plain is None or tuned is None:
        return False
    golden = {
        "seed": seed,
        "rows": rows,
        "trained_tokens": sum(len(row["trained"]) for row in rows),
        "lora": {"rank": RANK, "alpha": ALPHA},
        "greedy": plain,
        "lora_greedy": tuned,
    }
    if not runs(folder, spec, rows, golden):
        return False
    values(folder, spec, rows, golden)
    write_json(folder / "golden.json", golden)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    return True


def runs(folder, spec, rows, golden):
    if "dtype" in spec:
        return True
    for kind, lora, lr in (("lora", True, 1e-2), ("full", False, 1e-3)):
        clip = spec.get("clip", {}).get(kind, RUN["max_grad_norm"])
        settings = RUN | {"lr": lr, "max_grad_norm": clip}
        golden[f"{kind}_run"], final, worst = run(folder, rows, lora, settings, STEPS)
        write_tensors(folder / f"{kind}_after.safetensors", final, torch.float32)
        norms = golden[f"{kind}_run"]["grad_norm"]
        print(f"  {kind}: f32 against f64 {worst:.1e}, norms {norms[0]:.2f} to {norms[-1]:.2f}")
        if worst > 1e-5:
            return False
    settings = RUN | {"lr": 1e-2}
    golden["rslora_run"], _, _ = run(folder, rows, True, settings, SHORT_STEPS, use_rslora=True)
    golden["rslora_run"]["scale"] = ALPHA / RANK**0.5
    targets = ["q_proj", "v_proj"]
    settings |= {"optimizer": "adam", "weight_decay": 0.0, "lr_schedule": "cosine"}
    golden["qv_run"], _, _ = run(folder, rows, True, settings, SHORT_STEPS, target_modules=targets)
    golden["qv_run"]["targets"] = targets
    return True


def values(folder, spec, rows, golden):
    logits, nll, golden["loss"], gradients = forward_and_gradients(folder, rows, lora=False)
    lora_logits, lora_nll, golden["lora_loss"], lora_gradients = forward_and_gradients(
        folder, rows, lora=True
    )
    own_logits, own_nll = alone(folder, rows)
    tensors = {}
    for i in range(len(rows)):
        tensors[f"logits.{i}"], tensors[f"nll.{i}"] = logits[i], nll[i]
        tensors[f"lora.nll.{i}"] = lora_nll[i]
        if spec["config"]["rope_parameters"]["rope_type"] == "dynamic":
            tensors[f"alone.logits.{i}"], tensors[f"alone.nll.{i}"] = own_logits[i], own_nll[i]
        else:
            assert (own_logits[i] - logits[i]).abs().max() < 1e-11
    check_stock(folder, rows, logits)
    write_tensors(folder / "values.safetensors", tensors, torch.float64)
    write_tensors(folder / "lora_grad.safetensors", lora_gradients, torch.float32)
    if "dtype" not in spec:
        write_tensors(folder / "full_grad.safetensors", gradients, torch.float32)


def check_stock(folder, rows, expected):
    """The untouched library in f32 gives the same logits, to f32 rounding."""
    with torch.no_grad():
        for logits, value in zip(peer.batch_logits(opened(folder, "f32"), rows), expected):
            assert (logits.double() - value).abs().max() < 5e-5 * value.abs().max()


def schedules():
    """Learning rates of transformers' schedules, as factors of lr, for a few lengths."""
    cases = []
    for kind in peer.SCHEDULES:
        for warmup, total in ((0, 7), (3, 20), (10, 10), (5, 3), (1, 1)):
            weight = torch.nn.Parameter(torch.zeros(1, 1))
            optimizer = torch.optim.SGD([weight], lr=1.0)
            settings = {"lr_schedule": kind, "warmup_steps": warmup}
            schedule, factors = peer.make_schedule(optimizer, settings, total), []
            for _ in range(total + 2):
                factors.append(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
            case = {"kind": kind, "warmup_steps": warmup, "total_steps": total}
            cases.append(case | {"factor": factors})
    write_json(OUT / "schedules.json", {f"case{i}": case for i, case in enumerate(cases)})


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[1:] or [*FIXTURES, "schedules"]:
        if name == "schedules":
            schedules()
            continue
        first = FIXTURES[name]["seed"]
        for seed in range(first, first + 100):
            print(name, "seed", seed, flush=True)
            if make(name, FIXTURES[name], seed):
                break
        else:
            raise SystemExit(f"{name}: no seed in {first}..{first + 99} is good enough")


if __name__ == "__main__":
    main()
