//! All memory, assigned before step 0: every slot of a run from the model's shape, the method and
//! the largest batch. The total is exact and known before anything is allocated.

use alloc::vec::Vec;

use crate::backend::Backend;
use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::{Model, Module};
use crate::slot::{Region, Slot};

/// The largest micro-batch that a plan serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Rows (N).
    pub tokens: u64,
    /// Kept rows (M), at most `tokens`.
    pub kept: u64,
    /// Loss entries (E), at least `kept` where there is a loss.
    pub entries: u64,
    /// Rows of the rotary table: the largest position plus one.
    pub positions: u64,
    /// Rows of the key/value cache of decoding (0: no decoding).
    pub cache_rows: u64,
    /// Rows of logits that the sampler reads at once (0: no decoding).
    pub logit_rows: u64,
}

impl Capacity {
    /// Refuses a batch that does not fit.
    pub fn admit(&self, batch: &Batch) -> Result<()> {
        let needs = [
            ("tokens", batch.rows(), self.tokens),
            ("kept rows", batch.kept(), self.kept),
            ("loss entries", batch.entries(), self.entries),
            ("positions", u64::from(batch.longest), self.positions),
        ];
        for (what, found, reserved) in needs {
            if found > reserved {
                return Err(Error::Capacity { what, found, reserved });
            }
        }
        Ok(())
    }
}

/// What backward computes again instead of remembering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Everything is remembered.
    #[default]
    Nothing,
    /// Outputs of norms and of SwiGLU are computed again: about 1% of the time for 30% less memory.
    Cheap,
    /// Only each layer's input is remembered: a third more time, little memory.
    Layers,
}

/// Elements of each region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionSizes {
    lens: [u64; 8],
}

impl RegionSizes {
    /// Elements of one region.
    pub fn len(&self, region: Region) -> u64 {
        self.lens[region as usize]
    }

    /// Whether nothing is reserved.
    pub fn is_empty(&self) -> bool {
        self.lens.iter().all(|&n| n == 0)
    }

    /// Bytes of one region on a back-end.
    pub fn bytes(&self, region: Region, backend: &dyn Backend) -> u64 {
        self.len(region) * backend.element_bytes(region)
    }

    /// Bytes of all regions on a back-end.
    pub fn total_bytes(&self, backend: &dyn Backend) -> u64 {
        Region::ALL.iter().map(|&r| self.bytes(r, backend)).sum()
    }

    /// Gives the next `len` elements of `region`, 64-aligned so that vector loads stay aligned.
    pub fn take(&mut self, region: Region, len: u64) -> Slot {
        let end = &mut self.lens[region as usize];
        let offset = *end;
        *end = (offset + len).next_multiple_of(64);
        Slot::new(region, offset, len)
    }

    /// Makes `region` at least `len` elements long.
    pub fn grow(&mut self, region: Region, len: u64) {
        let end = &mut self.lens[region as usize];
        *end = (*end).max(len);
    }
}

/// What forward leaves behind for one layer. Widths: see [`crate::backend`].
#[derive(Clone, Copy, Debug)]
pub struct LayerActs {
    /// The layer's input (N,C): the residual stream.
    pub x: Slot,
    /// Norm before attention (N,C).
    pub norm1: Slot,
    /// Its reciprocal deviations (N).
    pub rstd1: Slot,
    /// Queries, rotated (N,H,D).
    pub q: Slot,
    /// Keys, rotated (N,K,D).
    pub k: Slot,
    /// Values (N,K,D).
    pub v: Slot,
    /// Output of attention (N,H,D).
    pub att: Slot,
    /// Its log-sum-exps (N,H).
    pub lse: Slot,
    /// The residual stream after attention (N,C).
    pub mid: Slot,
    /// Norm before the feed-forward layer (N,C).
    pub norm2: Slot,
    /// Its reciprocal deviations (N).
    pub rstd2: Slot,
    /// Gate (N,F).
    pub gate: Slot,
    /// Up (N,F).
    pub up: Slot,
    /// silu(gate)·up (N,F).
    pub act: Slot,
    /// LoRA's s (N,R) of each module, empty where there is none.
    pub s: [Slot; 7],
}

/// Activations outside the layers.
#[derive(Clone, Copy, Debug)]
pub struct HeadActs {
    /// The last layer's input at the kept rows (M,C).
    pub x_kept: Slot,
    /// The last layer's first norm at the kept rows (M,C).
    pub norm1_kept: Slot,
    /// The last layer's output (M,C).
    pub out: Slot,
    /// The final norm (M,C).
    pub norm: Slot,
    /// Its reciprocal deviations (M).
    pub rstd: Slot,
    /// nll of each entry (E).
    pub nll: Slot,
    /// lse of each kept row (M).
    pub lse: Slot,
    /// Number of the largest logit of each kept row (M).
    pub best: Slot,
    /// Coefficients of the entries (E).
    pub coeff: Slot,
    /// Logits for the sampler (logit_rows,V).
    pub logits: Slot,
    /// The rotary table (P,D).
    pub rope: Slot,
    /// One number: Σ g².
    pub norm_squared: Slot,
}

/// Gradients of activations: one set for all layers.
#[derive(Clone, Copy, Debug)]
pub struct Grads {
    /// Residual stream (N,C).
    pub dx: Slot,
    /// Residual stream of the last layer's kept rows (M,C).
    pub dx_kept: Slot,
    /// Output of a norm (N,C).
    pub dnorm: Slot,
    /// Output of a norm at the kept rows (M,C).
    pub dnorm_kept: Slot,
    /// Queries (N,H,D).
    pub dq: Slot,
    /// Keys (N,K,D).
    pub dk: Slot,
    /// Values (N,K,D).
    pub dv: Slot,
    /// Output of attention (N,H,D).
    pub datt: Slot,
    /// Gate (N,F).
    pub dgate: Slot,
    /// silu(gate)·up, then up (N,F).
    pub dact: Slot,
    /// LoRA's ds (N,R).
    pub ds: Slot,
    /// Dropped-out inputs (N, widest input); empty without dropout.
    pub dropped: Slot,
}

/// Keys and values cached for decoding, one pair a layer.
#[derive(Clone, Copy, Debug)]
pub struct CacheSlots {
    /// (cache_rows,K,D)
    pub k: Slot,
    /// (cache_rows,K,D)
    pub v: Slot,
}

/// Every slot of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Elements of each region, scratch included.
    pub sizes: RegionSizes,
    /// The largest batch.
    pub capacity: Capacity,
    /// What backward computes again.
    pub recompute: Recompute,
    /// Whether backward is planned at all.
    pub trains: bool,
    /// Each layer's activations.
    pub layers: Vec<LayerActs>,
    /// The others.
    pub head: HeadActs,
    /// Gradients of activations.
    pub grads: Grads,
    /// The cache, one pair a layer; empty without decoding.
    pub cache: Vec<CacheSlots>,
}

impl Plan {
    /// Assigns every slot. With `trains == false` the layers share one set of activations and
    /// nothing is kept for a backward.
    pub fn new(
        model: &Model,
        capacity: Capacity,
        recompute: Recompute,
        trains: bool,
        backend: &dyn Backend,
    ) -> Plan {
        let config = &model.config;
        let mut sizes = RegionSizes::default();
        if trains {
            sizes.grow(Region::Params, model.params.len());
            sizes.grow(Region::Grads, model.params.len());
            sizes.grow(Region::Moments, 2 * model.params.len());
        } else {
            sizes.grow(Region::Params, model.params.len());
        }
        let layers = plan_layers(&mut sizes, model, capacity, recompute, trains);
        let head = plan_head(&mut sizes, config, capacity);
        let grads = plan_grads(&mut sizes, model, capacity, trains);
        let cache_len = capacity.cache_rows * u64::from(config.kv_dim());
        let mut cache = Vec::new();
        if cache_len > 0 {
            for _ in 0..config.n_layers {
                let k = sizes.take(Region::Kv, cache_len);
                cache.push(CacheSlots { k, v: sizes.take(Region::Kv, cache_len) });
            }
        }
        sizes.grow(Region::Scratch, backend.scratch_len(config, &capacity));
        Plan { sizes, capacity, recompute, trains, layers, head, grads, cache }
    }
}

fn plan_layers(
    sizes: &mut RegionSizes,
    model: &Model,
    capacity: Capacity,
    recompute: Recompute,
    trains: bool,
) -> Vec<LayerActs> {
    let config = &model.config;
    // What is not remembered per layer lives once, in `shared`.
    let shared = plan_layer(sizes, model, capacity);
    let keep_all = trains && recompute != Recompute::Layers;
    let keep_cheap = trains && recompute == Recompute::Nothing;
    let stream = capacity.tokens * u64::from(config.dim);
    let mut layers = Vec::new();
    for l in 0..config.n_layers {
        let own_x = trains || l < 2;
        let mut acts = shared;
        if l > 0 && keep_all {
            acts = plan_layer_saved(sizes, model, capacity, &shared);
        }
        if l > 0 && keep_cheap {
            acts.norm1 = sizes.take(Region::Acts, shared.norm1.len);
            acts.norm2 = sizes.take(Region::Acts, shared.norm2.len);
            acts.act = sizes.take(Region::Acts, shared.act.len);
        }
        // Without training two streams take turns: a layer reads one and writes the other.
        acts.x = if own_x {
            sizes.take(Region::Acts, stream)
        } else {
            let earlier: &LayerActs = &layers[l as usize - 2];
            earlier.x
        };
        layers.push(acts);
    }
    layers
}

/// One full set of a layer's activations, `x` excepted.
fn plan_layer(sizes: &mut RegionSizes, model: &Model, capacity: Capacity) -> LayerActs {
    let config = &model.config;
    let n = capacity.tokens;
    let (c, f) = (n * u64::from(config.dim), n * u64::from(config.hidden_dim));
    let empty = Slot::new(Region::Acts, 0, 0);
    let blank = LayerActs {
        x: empty,
        norm1: sizes.take(Region::Acts, c),
        rstd1: empty,
        q: Slot::new(Region::Acts, 0, n * u64::from(config.q_dim())),
        k: Slot::new(Region::Acts, 0, n * u64::from(config.kv_dim())),
        v: Slot::new(Region::Acts, 0, n * u64::from(config.kv_dim())),
        att: Slot::new(Region::Acts, 0, n * u64::from(config.q_dim())),
        lse: Slot::new(Region::Stats, 0, n * u64::from(config.n_heads)),
        mid: Slot::new(Region::Acts, 0, c),
        norm2: sizes.take(Region::Acts, c),
        rstd2: empty,
        gate: Slot::new(Region::Acts, 0, f),
        up: Slot::new(Region::Acts, 0, f),
        act: sizes.take(Region::Acts, f),
        s: [empty; 7],
    };
    plan_layer_saved(sizes, model, capacity, &blank)
}

/// The part of a layer's activations that every policy but `Layers` remembers for each layer.
fn plan_layer_saved(
    sizes: &mut RegionSizes,
    model: &Model,
    capacity: Capacity,
    like: &LayerActs,
) -> LayerActs {
    let mut acts = *like;
    for slot in [
        &mut acts.q,
        &mut acts.k,
        &mut acts.v,
        &mut acts.att,
        &mut acts.mid,
        &mut acts.gate,
        &mut acts.up,
    ] {
        *slot = sizes.take(Region::Acts, slot.len);
    }
    acts.rstd1 = sizes.take(Region::Stats, capacity.tokens);
    acts.rstd2 = sizes.take(Region::Stats, capacity.tokens);
    acts.lse = sizes.take(Region::Stats, like.lse.len);
    for module in Module::ALL {
        if let Some(rank) = model.rank_of(module) {
            acts.s[module as usize] = sizes.take(Region::Acts, capacity.tokens * u64::from(rank));
        }
    }
    acts
}

fn plan_head(sizes: &mut RegionSizes, config: &Config, capacity: Capacity) -> HeadActs {
    let kept = capacity.kept * u64::from(config.dim);
    let logits = capacity.logit_rows * u64::from(config.vocab_size);
    let table = capacity.positions * u64::from(config.head_dim);
    HeadActs {
        x_kept: sizes.take(Region::Acts, kept),
        norm1_kept: sizes.take(Region::Acts, kept),
        out: sizes.take(Region::Acts, kept),
        norm: sizes.take(Region::Acts, kept),
        rstd: sizes.take(Region::Stats, capacity.kept),
        nll: sizes.take(Region::Stats, capacity.entries),
        lse: sizes.take(Region::Stats, capacity.kept),
        best: sizes.take(Region::Stats, capacity.kept),
        coeff: sizes.take(Region::Stats, capacity.entries),
        logits: sizes.take(Region::Stats, logits),
        rope: sizes.take(Region::Stats, table),
        norm_squared: sizes.take(Region::Stats, 1),
    }
}

fn plan_grads(sizes: &mut RegionSizes, model: &Model, capacity: Capacity, trains: bool) -> Grads {
    let config = &model.config;
    let n = if trains { capacity.tokens } else { 0 };
    let m = if trains { capacity.kept } else { 0 };
    let mut take = |rows: u64, width: u32| sizes.take(Region::ActGrads, rows * u64::from(width));
    let (dx, dx_kept) = (take(n, config.dim), take(m, config.dim));
    let (dnorm, dnorm_kept) = (take(n, config.dim), take(m, config.dim));
    let ds = take(n, model.largest_rank());
    let widest = config.dim.max(config.hidden_dim).max(config.q_dim());
    let dropout = model.dropout() > 0.0;
    let dropped = if dropout {
        // Forward needs this place too, so it lies among the activations.
        sizes.take(Region::Acts, capacity.tokens * u64::from(widest))
    } else {
        Slot::new(Region::Acts, 0, 0)
    };
    // Attention's gradients and the feed-forward layer's never live together: they share a place.
    let mut feed = *sizes;
    let dgate = feed.take(Region::ActGrads, n * u64::from(config.hidden_dim));
    let dact = feed.take(Region::ActGrads, n * u64::from(config.hidden_dim));
    let mut take = |width: u32| sizes.take(Region::ActGrads, n * u64::from(width));
    let (datt, dq) = (take(config.q_dim()), take(config.q_dim()));
    let (dk, dv) = (take(config.kv_dim()), take(config.kv_dim()));
    sizes.grow(Region::ActGrads, feed.len(Region::ActGrads));
    Grads { dx, dx_kept, dnorm, dnorm_kept, dq, dk, dv, datt, dgate, dact, ds, dropped }
}
