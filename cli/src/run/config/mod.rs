//! RUN.toml: every setting of a training run, in one table of keys.
//!
//! The table below is the only place where a key is defined. From it come the fields of
//! [`RunConfig`], the flags of `core-cli train`, their help, the check of types and names, and what
//! a resumed run may change.

mod check;
mod choices;
pub mod diff;
mod flags;
mod kinds;
mod layers;
pub mod mixture;
pub mod presets;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use choices::{
    BackendChoice, EarlyStopOn, LossSpike, LrSchedule, Method, Optimizer, OverLength, Parameters,
    Precision, Recompute, ShotsBy,
};
pub use flags::ConfigFlags;
use kinds::KeyType;
pub(crate) use kinds::nearest;
pub use kinds::{Kind, Validation};
pub use layers::{ConfigError, Layers, Problem};
pub use mixture::MixtureSet;
pub use record::{Continuation, Record, RecordedFile, RunFile, Versions};

/// The version of RUN.toml that this program writes; it reads every version from 1 to this one.
pub const CONFIG_VERSION: i64 = 1;

/// Whether a run that is resumed may have another value than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnResume {
    /// The checkpoint makes no sense with another value.
    MustMatch,
    /// Another value changes nothing in the result.
    MayChange,
    /// The run goes on, but ends in other bits than it would have; only on request, and recorded.
    ChangesResult,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in RUN.toml; the flag is the same with dashes.
    pub name: &'static str,
    /// One or two plain sentences, one per line of the source.
    pub doc: &'static [&'static str],
    /// What may stand behind it.
    pub kind: Kind,
    /// Whether it may be absent; then `none` behind the flag removes it.
    pub optional: bool,
    /// What a resumed run may do with it.
    pub on_resume: OnResume,
}

impl Key {
    /// The flag of the command line: `--batch-size` for `batch_size`.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The documentation as one text.
    pub fn help(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// The key of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $on_resume:ident;)+) => {
        /// All settings of a run. The defaults are those of [`RunConfig::default`].
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RunConfig {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for RunConfig {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// Every key, in the order in which run.toml shows them.
        pub const KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            doc: &[$($doc),+],
            kind: <$type as KeyType>::KIND,
            optional: <$type as KeyType>::OPTIONAL,
            on_resume: OnResume::$on_resume,
        }),+];
    };
}

keys! {
    /// The model to train: a Hugging Face folder, or bundled:tiny.
    model: Option<String> = None, MustMatch;
    /// The rows to train on: JSON, JSONL, CSV, TSV or Parquet files, or bundled:NAME.
    data: Vec<String> = Vec::new(), MustMatch;
    /// How a row becomes a prompt and an answer: a template's name or file; chat is the model's own.
    /// Without it the columns decide.
    template: Option<String> = None, MustMatch;
    /// The day that a chat template may tell, such as 2026-01-31. Without it: the day of the start, in UTC.
    today: Option<String> = None, MustMatch;
    /// What is trained: lora (small matrices beside the frozen model) or full (every parameter).
    method: Method = Method::Lora, MustMatch;
    /// The run's folder. Without it: a new one under runs/.
    out: Option<String> = None, MayChange;
    /// A LoRA adapter in PEFT's layout to go on from, instead of a fresh one.
    init_adapter: Option<String> = None, MustMatch;

    /// Learning rate: how far each step moves the parameters.
    /// Without it: 2e-4 for lora, 2e-5 for full.
    lr: Option<f64> = None, ChangesResult;
    /// Rows of an optimizer step.
    batch_size: u64 = 16, ChangesResult;
    /// Tokens that are in memory at once; a step is cut into parts of this size.
    /// Another size changes rounding only.
    micro_batch_tokens: u64 = 2048, ChangesResult;
    /// Passes over the training rows; may have a fraction.
    epochs: f64 = 3.0, ChangesResult;
    /// Stop after this many optimizer steps, whatever epochs says.
    max_steps: Option<u64> = None, ChangesResult;
    /// How the learning rate changes after the warm-up: constant, linear (to 0) or cosine (to 0).
    lr_schedule: LrSchedule = LrSchedule::Linear, ChangesResult;
    /// Steps in which the learning rate rises from 0. Without it: 3% of all steps.
    warmup_steps: Option<u64> = None, ChangesResult;
    /// Pulls matrices (never norms) towards 0 at each step, in proportion to the learning rate.
    weight_decay: f64 = 0.0, ChangesResult;
    /// Longer gradients are shortened to this norm; 0 turns it off.
    max_grad_norm: f64 = 1.0, ChangesResult;
    /// What happens when a step's loss jumps far above those before it: warn, skip (the step changes nothing),
    /// rewind (back to the last checkpoint, and on without the rows since then) or off.
    loss_spike: LossSpike = LossSpike::Warn, ChangesResult;
    /// Steps between checks of the device: a part of the step is computed twice and every bit compared; 0 is never.
    self_check: u64 = 0, MayChange;
    /// The rule by which gradients change parameters: adamw or adam.
    optimizer: Optimizer = Optimizer::AdamW, MustMatch;
    /// How long the optimizer remembers gradients, between 0 and 1.
    adam_beta1: f64 = 0.9, ChangesResult;
    /// How long the optimizer remembers squared gradients, between 0 and 1.
    adam_beta2: f64 = 0.999, ChangesResult;
    /// A small number that keeps the optimizer from dividing by 0.
    adam_eps: f64 = 1e-8, ChangesResult;

    /// Longest row in tokens. Without it: what the model allows.
    max_seq_len: Option<u64> = None, MustMatch;
    /// What happens to longer rows: drop, cut_prompt (from the left; answers are never cut),
    /// refuse, or pieces (several rows; for plain text).
    over_length: OverLength = OverLength::Drop, MustMatch;
    /// Leave unreadable rows out (they are counted and named) instead of stopping before the start.
    skip_bad: bool = false, MustMatch;
    /// All random choices follow from this number.
    seed: u64 = 1, MustMatch;
    /// Shuffle the rows anew in each epoch.
    shuffle: bool = true, ChangesResult;

    /// Several sets instead of data, one [[mixture]] section each: data, template (one or more), cluster,
    /// weight, max_rows, columns, labels. docs/data.md shows one.
    mixture: Vec<MixtureSet> = Vec::new(), MustMatch;
    /// Clusters of tasks whose sets are never trained on; they judge the model instead.
    hold_out: Vec<String> = Vec::new(), MustMatch;
    /// Without weights a set of a mixture is drawn from by size, up to this many rows.
    mixture_cap: u64 = 3000, ChangesResult;
    /// Above 1: small sets of a mixture are drawn more often than their size says.
    mixture_temperature: f64 = 1.0, ChangesResult;
    /// Rows of one pass over a mixture. Without it: the rows of all sets, each up to mixture_cap.
    mixture_rows: Option<u64> = None, ChangesResult;
    /// Worked examples before a row; 0 for none.
    shots: u64 = 0, MustMatch;
    /// Share of the rows that get them, from 0 to 1.
    shots_rate: f64 = 0.5, MustMatch;
    /// How they are chosen: random, balanced over the answers, or nearest to the question.
    shots_by: ShotsBy = ShotsBy::Balanced, MustMatch;
    /// Keep the tokens of rows in the cache folder, so that they are made once.
    token_cache: bool = true, MayChange;

    /// Width of the LoRA matrices: more can learn more, and costs more memory.
    lora_rank: u64 = 16, MustMatch;
    /// Strength of the LoRA matrices. Without it: twice the rank.
    lora_alpha: Option<f64> = None, ChangesResult;
    /// Which matrices get a LoRA pair: names such as q_proj, or all-linear.
    lora_targets: Vec<String> = vec!["all-linear".to_string()], MustMatch;
    /// Share of the inputs of the LoRA pairs that is set to 0 in each step, from 0 to below 1.
    lora_dropout: f64 = 0.0, ChangesResult;
    /// Divide the strength by the square root of the rank (rsLoRA) instead of the rank.
    rslora: bool = false, MustMatch;

    /// Files of other rows, or bundled:NAME, that are mixed into the training rows against forgetting.
    replay: Vec<String> = Vec::new(), MustMatch;
    /// Share of the rows of a pass that are replayed ones.
    replay_share: f64 = 0.2, MustMatch;
    /// How replayed rows become prompts and answers. Without it: their columns decide.
    replay_template: Option<String> = None, MustMatch;

    /// Rows held out to judge the model: a share (0.1), a number of rows (200), a file, or none.
    validation: Validation = Validation::Share(0.1), MustMatch;
    /// Rows never trained on by which the model is judged before and after, a file. With bundled:stories: its
    /// own test rows.
    test: Option<String> = None, MustMatch;
    /// Most test rows that are answered, evenly spread; 0 turns judging off.
    test_rows: u64 = 200, MayChange;
    /// Stop after this many evaluations without a better one.
    patience: Option<u64> = None, ChangesResult;
    /// What patience watches: the validation loss or the train loss.
    early_stop_on: EarlyStopOn = EarlyStopOn::Validation, ChangesResult;
    /// Steps between evaluations. Without it: one after each epoch.
    eval_every: Option<u64> = None, ChangesResult;
    /// Steps between checkpoints. Without it: one after each evaluation.
    save_every: Option<u64> = None, MayChange;
    /// How many of the newest checkpoints stay; the best one stays too.
    keep_checkpoints: u64 = 2, MayChange;
    /// Validation prompts that the model answers before and after training.
    samples: u64 = 8, MayChange;
    /// Longest answer to such a prompt, in tokens.
    sample_tokens: u64 = 64, MayChange;
    /// Steps between answers to the first two of these prompts while the model trains, to see it learn; 0 for
    /// none. Without it: an eighth of the run.
    sample_every: Option<u64> = None, MayChange;

    /// Write an event file for TensorBoard into the run's folder, too.
    tensorboard: bool = false, MayChange;

    /// What computes: auto, cpu, wgpu, cuda or reference.
    backend: BackendChoice = BackendChoice::Auto, ChangesResult;
    /// Which graphics card, by its number or a part of its name in core-cli doctor. Without it: the best.
    device: Option<String> = None, ChangesResult;
    /// What a graphics card keeps activations in: bf16 (with cuda alone), f16 (more digits, and a loss scale that
    /// keeps gradients in range) or auto: with cuda bf16, or f16 on cards that lack it; with wgpu f32, twice the memory.
    /// With backend = "cpu" bf16 is what matrix products round their operands to, which is faster and coarser, on
    /// processors with matrix instructions (core-cli doctor says "amx").
    precision: Precision = Precision::Auto, ChangesResult;
    /// What an NVIDIA card keeps trained parameters in with --method full: f32, or bf16 rounded at random (14
    /// bytes a parameter in all, not 18).
    parameters: Parameters = Parameters::F32, ChangesResult;
    /// Processor threads. Without it: all cores. The result does not depend on it.
    threads: Option<u64> = None, MayChange;
    /// Compute activations again instead of keeping them: off, cheap (norms and SwiGLU: about 1% slower, a third
    /// less) or layers (a third slower, least memory). The result is the same.
    recompute: Recompute = Recompute::Cheap, MayChange;

    /// Which column of the data fills which field of the template: columns.prompt = "question".
    columns: BTreeMap<String, String> = BTreeMap::new(), MustMatch;
    /// Labels with their meaning, stated before worked examples: labels.positive = "the writer is content".
    labels: BTreeMap<String, String> = BTreeMap::new(), MustMatch;
}

impl RunConfig {
    /// The learning rate, with the default of the method filled in.
    pub fn effective_lr(&self) -> f64 {
        self.lr.unwrap_or(match self.method {
            Method::Lora => 2e-4,
            Method::Full => 2e-5,
        })
    }

    /// The strength of LoRA, with the default filled in.
    pub fn effective_lora_alpha(&self) -> f64 {
        self.lora_alpha.unwrap_or(2.0 * self.lora_rank as f64)
    }

    /// Warm-up steps of a run of `steps` steps, with the default filled in.
    pub fn effective_warmup_steps(&self, steps: u64) -> u64 {
        self.warmup_steps.unwrap_or(steps.saturating_mul(3).div_ceil(100))
    }

    /// The same configuration with every default that depends on other keys written out.
    pub fn resolved(&self, steps: u64) -> Self {
        Self {
            lr: Some(self.effective_lr()),
            lora_alpha: Some(self.effective_lora_alpha()),
            warmup_steps: Some(self.effective_warmup_steps(steps)),
            ..self.clone()
        }
    }
}
