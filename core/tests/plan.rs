//! The plan: no two slots that live together overlap, sizes are exact, recomputing changes no
//! gradient, and the counting back-end agrees with formulas written by hand.

mod common;

use common::{Checkpoint, Lab, Row, capacity, config, lora, packed, random_rows, trie};
use paddock_core::Error;
use paddock_core::batch::Batch;
use paddock_core::config::Config;
use paddock_core::model::{Method, Model, Module};
use paddock_core::null::{Counts, Null};
use paddock_core::plan::{Capacity, LayerActs, Plan, Recompute, RegionSizes};
use paddock_core::slot::{Region, Slot};
use paddock_core::train::{Adam, StepSettings, evaluate, step};

const POLICIES: [Recompute; 3] = [Recompute::Nothing, Recompute::Cheap, Recompute::Layers];

fn plan(model: &Model, capacity: Capacity, recompute: Recompute, trains: bool) -> Plan {
    Plan::new(model, capacity, recompute, trains, &Null::default())
}

fn room() -> Capacity {
    Capacity { tokens: 50, kept: 31, entries: 40, positions: 20, cache_rows: 9, logit_rows: 3 }
}

/// A layer's slots: those that backward needs of every layer under `Cheap`, and those it can make
/// again.
fn layer_slots(a: &LayerActs) -> (Vec<Slot>, Vec<Slot>) {
    let mut kept = vec![a.q, a.k, a.v, a.att, a.mid, a.gate, a.up, a.rstd1, a.rstd2, a.lse];
    kept.extend(a.s);
    (kept, vec![a.norm1, a.norm2, a.act])
}

/// All slots that hold something at the same time, under a policy.
fn living_together(p: &Plan) -> Vec<Slot> {
    let h = &p.head;
    let mut slots = vec![
        h.x_kept,
        h.norm1_kept,
        h.out,
        h.norm,
        h.rstd,
        h.nll,
        h.lse,
        h.best,
        h.coeff,
        h.logits,
        h.rope,
        h.norm_squared,
    ];
    let g = &p.grads;
    slots.extend([g.dx, g.dx_kept, g.dnorm, g.dnorm_kept, g.ds, g.dropped]);
    slots.extend(p.cache.iter().flat_map(|c| [c.k, c.v]));
    for (l, acts) in p.layers.iter().enumerate() {
        let (kept, again) = layer_slots(acts);
        if p.trains || l < 2 {
            slots.push(acts.x);
        }
        if l == 0 || p.trains && p.recompute != Recompute::Layers {
            slots.extend(kept);
        }
        if l == 0 || p.trains && p.recompute == Recompute::Nothing {
            slots.extend(again);
        }
    }
    slots
}

fn assert_apart(slots: &[Slot], sizes: &RegionSizes) {
    for (i, a) in slots.iter().enumerate() {
        assert!(a.end() <= sizes.len(a.region) || a.len == 0, "{a:?} ends beyond its region");
        for b in &slots[i + 1..] {
            assert!(!a.overlaps(*b), "{a:?} and {b:?}");
        }
    }
}

#[test]
fn slots_that_live_together_are_apart() {
    for (method, layers, tied) in
        [(Method::Full, 1, false), (Method::Full, 4, true), (lora(0.1), 3, false)]
    {
        let config = Config { n_layers: layers, tied, ..config() };
        let model = Model::new(config, method).unwrap();
        for policy in POLICIES {
            for trains in [true, false] {
                let p = plan(&model, room(), policy, trains);
                let together = living_together(&p);
                let g = p.grads;
                // Attention's gradients and the feed-forward layer's take turns in one place.
                for part in [vec![g.datt, g.dq, g.dk, g.dv], vec![g.dgate, g.dact]] {
                    let all: Vec<Slot> = together.iter().chain(&part).copied().collect();
                    assert_apart(&all, &p.sizes);
                }
            }
        }
    }
}

/// Without a backward, layer l reads one residual stream and writes the other.
#[test]
fn streams_take_turns() {
    let model = Model::new(Config { n_layers: 5, ..config() }, Method::Frozen).unwrap();
    let p = plan(&model, room(), Recompute::Nothing, false);
    for l in 1..5 {
        assert!(!p.layers[l].x.overlaps(p.layers[l - 1].x));
        assert_eq!(p.layers[l].x, p.layers[l % 2].x);
    }
}

/// Every parameter has its own place; gradients and both moments lie as the parameters do.
#[test]
fn parameters_are_apart() {
    for method in [Method::Full, lora(0.0)] {
        let model = Model::new(config(), method).unwrap();
        let p = plan(&model, room(), Recompute::Nothing, true);
        let slots: Vec<Slot> = model.params.items.iter().map(|p| p.slot).collect();
        assert_apart(&slots, &p.sizes);
        assert_eq!(p.sizes.len(Region::Params), model.params.len());
        assert_eq!(p.sizes.len(Region::Grads), model.params.len());
        assert_eq!(p.sizes.len(Region::Moments), 2 * model.params.len());
        let [decaying, rest] = model.params.groups().map(|(slot, _)| slot);
        assert_eq!(
            (decaying.offset, decaying.end(), rest.end()),
            (0, rest.offset, p.sizes.len(Region::Params))
        );
        for param in &model.params.items {
            let group = if param.decays { decaying } else { rest };
            assert!(param.slot.offset >= group.offset && param.slot.end() <= group.end());
            assert_eq!(param.decays, !param.name.contains("norm"));
        }
    }
    let model = Model::new(config(), Method::Full).unwrap();
    assert_eq!(model.params.count(), model.config.params());
    let tied = Model::new(Config { tied: true, ..config() }, Method::Full).unwrap();
    assert_eq!(tied.params.count(), tied.config.params());
    assert_eq!(tied.config.params() + 6 * 11, model.config.params());
}

/// With sizes that need no rounding, regions have exactly the elements of these formulas.
#[test]
fn sizes_are_exact() {
    let (n, m, e, p) = (128, 64, 64, 64);
    let (c, f, v, l, r) = (16, 24, 29, 3, 2);
    let config = Config { dim: 16, hidden_dim: 24, vocab_size: 29, n_layers: 3, ..config() };
    let (h, hd, kd) = (4, 16, 8);
    let room =
        Capacity { tokens: n, kept: m, entries: e, positions: p, cache_rows: 64, logit_rows: 64 };
    let model = Model::new(config, lora(0.1)).unwrap();
    let saved = 2 * hd + 2 * kd + c + 2 * f + 7 * r;
    let again = 2 * c + f;
    let others = 4 * m * c + n * f.max(hd);
    let acts = [
        l * n * (c + saved + again) + others,
        n * (l * (c + saved) + again) + others,
        n * (l * c + saved + again) + others,
    ];
    let layers_with_stats = [l, l, 1];
    for (i, policy) in POLICIES.into_iter().enumerate() {
        let sizes = plan(&model, room, policy, true).sizes;
        assert_eq!(sizes.len(Region::Acts), acts[i], "{policy:?}");
        let head = 3 * m + 2 * e + 64 * v + p * 4 + 64;
        let stats = layers_with_stats[i] * n * (2 + h) + head;
        assert_eq!(sizes.len(Region::Stats), stats, "{policy:?}");
        // The widest layer's gradients: attention's or the feed-forward layer's.
        let turns = (2 * hd + 2 * kd).max(2 * f);
        assert_eq!(sizes.len(Region::ActGrads), n * (2 * c + r + turns) + 2 * m * c);
        assert_eq!(sizes.len(Region::Kv), l * 2 * 64 * kd);
        assert_eq!(sizes.len(Region::Scratch), 0);
        let total: u64 = Region::ALL.iter().map(|&r| 4 * sizes.len(r)).sum();
        assert_eq!(sizes.total_bytes(&Null::default()), total);
    }
    let used = plan(&model, room, Recompute::Nothing, false).sizes;
    assert_eq!(used.len(Region::Acts), n * (2 * c + saved + again) + others);
    assert_eq!(used.len(Region::ActGrads) + used.len(Region::Grads) + used.len(Region::Moments), 0);
}

#[test]
fn recomputing_changes_no_gradient() {
    let config = Config { n_layers: 4, ..config() };
    let checkpoint = Checkpoint::new(&config, 5);
    let rows = shared_rows();
    for method in [Method::Full, lora(0.0), lora(0.3)] {
        let gradients = POLICIES.map(|policy| {
            let mut lab = Lab::<f64>::new(&checkpoint, &config, method, capacity(&rows), policy);
            lab.loss_and_gradient(&[trie(&rows), packed(&rows)], Some((4, 2)))
        });
        // The same operations on the same numbers: the same bits.
        assert!(gradients[0] == gradients[1], "{method:?}: cheap");
        assert!(gradients[0] == gradients[2], "{method:?}: layers");
    }
}

fn shared_rows() -> Vec<Row> {
    let mut rows = random_rows(4, 8, 11);
    for i in 1..4 {
        let start = rows[0].tokens[..5].to_vec();
        rows[i].tokens[..5].copy_from_slice(&start);
    }
    rows
}

#[test]
fn what_does_not_fit_is_refused() {
    let rows = shared_rows();
    let batch = Batch::from_forest(&packed(&rows), 11).unwrap();
    let fits = capacity(&rows);
    let fits = Capacity { kept: batch.kept(), entries: batch.entries(), ..fits };
    fits.admit(&batch).unwrap();
    let short = [
        Capacity { tokens: fits.tokens - 1, ..fits },
        Capacity { kept: fits.kept - 1, ..fits },
        Capacity { entries: fits.entries - 1, ..fits },
        Capacity { positions: fits.positions - 1, ..fits },
    ];
    for room in short {
        let model = Model::new(config(), Method::Frozen).unwrap();
        let p = plan(&model, room, Recompute::Nothing, false);
        let outcome = evaluate(&mut Null::default(), &model, &p, &batch);
        assert!(matches!(outcome, Err(Error::Capacity { .. })), "{outcome:?}");
    }
}

/// What a step of `method` on one packed forest costs.
fn counts(config: &Config, method: Method, batch: &Batch) -> Counts {
    let model = Model::new(config.clone(), method).unwrap();
    let room = Capacity {
        tokens: batch.rows(),
        kept: batch.kept(),
        entries: batch.entries(),
        positions: 64,
        ..Capacity::default()
    };
    let p = plan(&model, room, Recompute::Nothing, true);
    let mut b = Null::default();
    let settings =
        StepSettings { adam: Adam::default(), lr: 0.1, max_grad_norm: 1.0, step: 0, seed: 1 };
    step(&mut b, &model, &p, std::slice::from_ref(batch), &settings, &mut ()).unwrap();
    b.counts
}

/// Every row kept: 6·N·P for full training, where P counts what takes part in products.
#[test]
fn full_training_costs_six_products_a_parameter() {
    let config = config();
    let mut forest = packed(&random_rows(2, 9, 11));
    // One entry at each row.
    forest.entries = (0..18)
        .map(|position| paddock_core::forest::Entry { position, target: 1, weight: 1.0 })
        .collect();
    let batch = Batch::from_forest(&forest, 11).unwrap();
    let counts = counts(&config, Method::Full, &batch);
    assert_eq!(counts.matmul_flops, 6.0 * 18.0 * config.matmul_params() as f64);
    // Pairs of a query and a key that it sees: 9·10/2 a row; two products forward, five backward.
    let pairs = 2.0 * 45.0;
    assert_eq!(counts.attention_flops, 2.0 * 7.0 * pairs * f64::from(config.q_dim()) * 2.0);
}

/// With M kept rows the last layer's queries, output and feed-forward layer work on those alone, and
/// with LoRA no frozen matrix gets a gradient and nothing below the first adapter is differentiated.
#[test]
fn lora_costs_what_the_formula_says() {
    let config = Config { n_layers: 3, ..config() };
    let rows = shared_rows();
    let batch = Batch::from_forest(&trie(&rows), 11).unwrap();
    let (n, m) = (batch.rows() as f64, batch.kept() as f64);
    assert!(n < 32.0 && m < n);
    let rank = 2.0;
    let mut expected = 2.0 * 2.0 * m * 6.0 * 11.0;
    for l in 0..3 {
        for module in Module::ALL {
            let (o, i) = module.shape(&config);
            let (o, i) = (f64::from(o), f64::from(i));
            let rows = if l == 2 && !matches!(module, Module::K | Module::V) { m } else { n };
            let adapter = rank * (o + i);
            let forward = o * i + adapter;
            // db, ds, da; then dinp through both.
            let mut backward = rank * o + rank * o + rank * i;
            if l > 0 || !matches!(module, Module::Q | Module::K | Module::V) {
                backward += o * i + rank * i;
            }
            expected += 2.0 * rows * (forward + backward);
        }
    }
    let found = counts(&config, lora(0.0), &batch);
    assert_eq!(found.matmul_flops, expected);

    // Who sees whom, counted naively from the rows' own definition.
    let forest = trie(&rows);
    let ends = forest.subtree_ends();
    let pairs = |kept: bool| -> f64 {
        let mut pairs = 0;
        for (segment, &end) in forest.segments.iter().zip(&ends) {
            for key in segment.start..segment.start + segment.len {
                let queries = (key..end).filter(|q| !kept || batch.kept_rows.contains(q));
                pairs += queries.count();
            }
        }
        pairs as f64
    };
    let width = f64::from(config.q_dim());
    // Each layer but the last for all rows.
    let expected = 2.0 * 7.0 * width * (2.0 * pairs(false) + pairs(true));
    assert_eq!(found.attention_flops, expected);
}
