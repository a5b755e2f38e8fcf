"""What the scripts share: the reference stack (transformers + PEFT + PyTorch) on rows of token ids.

A row is {"tokens": [ids], "trained": [positions]}. Position p in "trained" means that token p is a
target: its loss is -log softmax(logits[p - 1])[tokens[p]]. Position 0 can never be trained.
"""

import argparse
import contextlib
import json
import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

warnings.filterwarnings("ignore", category=FutureWarning)

SCHEDULES = ("constant", "linear", "cosine")


@contextlib.contextmanager
def float64_everywhere():
    """Inside, what transformers forces into float32 is done in float64.

    LLaMA's norm, its softmax and its rotary angles are cast to float32 by name, whatever the
    model's type. Golden values need them in float64, so the *names* mean float64 for a while.
    """
    saved = (torch.float, torch.float32, torch.Tensor.float, torch.get_default_dtype())
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float, torch.float32, torch.Tensor.float = saved[:3]
        torch.set_default_dtype(saved[3])


def argument_parser(description):
    """A parser whose help is the script's own opening words."""
    kind = argparse.RawTextHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=kind)


def in_dtype(dtype):
    """The context in which a model of this type ("f32" or "f64") must be run."""
    return float64_everywhere() if dtype == "f64" else contextlib.nullcontext()


def load_model(folder, dtype="f32"):
    """The model of a Hugging Face folder, computing in f32 or (throughout) in f64.

    Half-precision weights are widened exactly. Attention is the plain (eager) one in f64.
    """
    attention = "eager" if dtype == "f64" else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    )
    model.eval()
    if dtype == "f64":
        model.double()
    fresh_rope(model, dtype)
    return model


def fresh_rope(model, dtype):
    """Forgets what dynamic RoPE remembers of earlier, longer rows."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    with in_dtype(dtype):
        base.model.rotary_emb = LlamaRotaryEmbedding(base.config)


def add_lora(model, rank, alpha, targets="all-linear", rslora=False, seed=0):
    """A new adapter with PEFT's own initialisation. Targets: a name list or "all-linear"."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=targets,
        use_rslora=rslora,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def open_lora(model, folder, trainable=False, **changes):
    """The adapter of a PEFT folder on a model; changes replace keys of its configuration."""
    dtype = next(model.parameters()).dtype
    config = LoraConfig.from_pretrained(folder)
    for key, value in changes.items():
        setattr(config, key, value)
    model = PeftModel.from_pretrained(
        model, folder, is_trainable=trainable, autocast_adapter_dtype=False, config=config
    )
    return model.to(dtype)


def saved_name(name):
    """A parameter's name as PEFT writes it to adapter_model.safetensors."""
    return name.replace(".default.", ".")


def read_rows(path):
    """Rows of a JSON list, of {"rows": [...]}, or of JSON lines."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        value = json.loads(text)
        rows = value["rows"] if isinstance(value, dict) and "rows" in value else value
        rows = [rows] if isinstance(rows, dict) else rows
    except json.JSONDecodeError:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows):
        row.setdefault("trained", list(range(1, len(row["tokens"]))))
        if any(not 0 < p < len(row["tokens"]) for p in row["trained"]):
            raise ValueError(f"row {number}: a trained position lies outside 1..len")
    return rows


def batch_logits(model, rows):
    """Logits of every row, each (tokens of the row, V), from one batch padded on the right."""
    longest = max(len(row["tokens"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row["tokens"])] = torch.tensor(row["tokens"])
        mask[i, : len(row["tokens"])] = 1
    out = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return [out[i, : len(row["tokens"])] for i, row in enumerate(rows)]


def row_nll(logits, row):
    """(trained positions,) = token loss at each trained position, in the row's order."""
    targets = torch.tensor([row["tokens"][p] for p in row["trained"]], dtype=torch.long)
    sources = torch.tensor([p - 1 for p in row["trained"]], dtype=torch.long)
    return torch.nn.functional.cross_entropy(logits[sources], targets, reduction="none")


def batch_loss(model, rows):
    """Sum of all token losses over the number of trained tokens."""
    nll = [row_nll(logits, row) for logits, row in zip(batch_logits(model, rows), rows)]
    return torch.cat(nll).sum() / sum(len(row["trained"]) for row in rows)


def greedy(model, tokens, new_tokens, cached, stop_ids=()):
    """The most likely continuation and the smallest lead of a chosen token over the second."""
    ids, past, lead, out = list(tokens), None, float("inf"), []
    with torch.no_grad():
        for _ in range(new_tokens):
            step = ids if past is None else ids[-1:]
            result = model(torch.tensor([step]), past_key_values=past, use_cache=cached)
            past = result.past_key_values if cached else None
            best = result.logits[0, -1].topk(2)
            lead = min(lead, (best.values[0] - best.values[1]).item())
            out.append(best.indices[0].item())
            ids.append(out[-1])
            if out[-1] in stop_ids:
                break
    return out, lead


def make_optimizer(model, settings):
    """AdamW (or Adam) with decay on matrices and none on vectors."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings["optimizer"]]
    betas = (settings["beta1"], settings["beta2"])
    groups = [group for group in groups if group["params"]]
    return kind(groups, lr=settings["lr"], betas=betas, eps=settings["eps"])


def make_schedule(optimizer, settings, total_steps):
    warmup = settings["warmup_steps"]
    if settings["lr_schedule"] == "constant":
        return get_constant_schedule_with_warmup(optimizer, warmup)
    if settings["lr_schedule"] == "linear":
        return get_linear_schedule_with_warmup(optimizer, warmup, total_steps)
    if settings["lr_schedule"] == "cosine":
        return get_cosine_schedule_with_warmup(optimizer, warmup, total_steps)
    raise ValueError(f"lr_schedule must be one of {SCHEDULES}")


DEFAULTS = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "lr_schedule": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
}


def train(model, batches, settings, on_step=None):
    """Runs one optimizer step for each batch; gives losses, pre-clip norms and learning rates."""
    settings = DEFAULTS | settings
    optimizer = make_optimizer(model, settings)
    schedule = make_schedule(optimizer, settings, settings.get("total_steps", len(batches)))
    trained = [p for p in model.parameters() if p.requires_grad]
    limit = settings["max_grad_norm"] or float("inf")
    history = {"loss": [], "grad_norm": [], "lr": []}
    for rows in batches:
        optimizer.zero_grad()
        loss = batch_loss(model, rows)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, limit)
        history["lr"].append(schedule.get_last_lr()[0])
        history["loss"].append(loss.item())
        history["grad_norm"].append(norm.item())
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(len(history["loss"]), history)
    return history
