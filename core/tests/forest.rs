//! Rows one at a time, packed as roots, or with every common prefix shared: the loss and every
//! gradient are the same. So are those of any split into micro-batches.

mod common;

use common::{Checkpoint, Lab, Row, capacity, config, error, packed, trie};
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::forest::Forest;
use paddock_core::model::{LoraConfig, Method};
use paddock_core::plan::Recompute;
use proptest::collection::vec;
use proptest::prelude::*;

/// One drawn case.
#[derive(Clone, Debug)]
struct Case {
    config: Config,
    method: Method,
    recompute: Recompute,
    rows: Vec<Row>,
    /// Micro-batch of each row.
    split: Vec<usize>,
}

fn configs() -> impl Strategy<Value = Config> {
    let heads = prop_oneof![Just((1, 1)), Just((2, 1)), Just((3, 3)), Just((4, 2)), Just((6, 2))];
    let rope = prop_oneof![
        Just(RopeScaling::Default),
        Just(RopeScaling::Linear { factor: 2.0 }),
        Just(RopeScaling::Llama3 {
            factor: 4.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max: 16,
        }),
    ];
    (heads, 1u32..=4, 1u32..=3, 3u32..=9, 2u32..=9, 3u32..=12, any::<bool>(), rope).prop_map(
        |((n_heads, n_kv_heads), n_layers, half, dim, hidden_dim, vocab_size, tied, scaling)| {
            let rope = Rope { theta: 50.0, scaling };
            let head_dim = 2 * half;
            let base = config();
            Config {
                dim,
                hidden_dim,
                n_layers,
                n_heads,
                n_kv_heads,
                head_dim,
                vocab_size,
                rope,
                tied,
                ..base
            }
        },
    )
}

fn methods() -> impl Strategy<Value = Method> {
    let lora = (1u32..=2, any::<bool>(), prop_oneof![Just(0.0f32), Just(0.4)], any::<[bool; 7]>());
    prop_oneof![
        1 => Just(Method::Full),
        2 => lora.prop_map(|(rank, rank_stabilised, dropout, mut targets)| {
            targets[rank as usize] |= !targets.contains(&true);
            Method::Lora(LoraConfig { rank, alpha: 3.0, rank_stabilised, dropout, targets })
        }),
    ]
}

/// Rows that begin like an earlier one, at times wholly; weights of 0 (not trained), 1 and others.
fn rows(vocab: u32) -> impl Strategy<Value = Vec<Row>> {
    let weight = prop_oneof![2 => Just(0.0f32), 3 => Just(1.0), 1 => Just(0.25), 1 => Just(2.0)];
    let suffix = vec((0..vocab, weight), 1..=6);
    vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), suffix), 1..=5).prop_map(
        |drawn| {
            let mut rows: Vec<Row> = Vec::new();
            for (from, cut, suffix) in drawn {
                let mut row = Row { tokens: Vec::new(), weights: Vec::new() };
                if !rows.is_empty() {
                    let from = from.get(&rows);
                    let cut = cut.index(from.tokens.len() + 1);
                    row.tokens.extend(&from.tokens[..cut]);
                    row.weights.extend(&from.weights[..cut]);
                }
                row.tokens.extend(suffix.iter().map(|s| s.0));
                row.weights.extend(suffix.iter().map(|s| s.1));
                rows.push(row);
            }
            rows
        },
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let recompute =
        prop_oneof![Just(Recompute::Nothing), Just(Recompute::Cheap), Just(Recompute::Layers)];
    (configs(), methods(), recompute).prop_flat_map(|(config, method, recompute)| {
        (rows(config.vocab_size), vec(0usize..3, 5)).prop_map(move |(rows, split)| Case {
            config: config.clone(),
            method,
            recompute,
            rows,
            split,
        })
    })
}

fn trained(rows: &[Row]) -> usize {
    rows.iter().map(|r| r.weights[1..].iter().filter(|&&w| w > 0.0).count()).sum()
}

/// Every way of arranging the rows in micro-batches.
fn arrangements(case: &Case) -> Vec<(&'static str, Vec<Forest>)> {
    let groups: Vec<Vec<Row>> = (0..3)
        .map(|g| {
            let rows = case.rows.iter().zip(&case.split);
            rows.filter(|(_, s)| **s == g).map(|(r, _)| r.clone()).collect()
        })
        .filter(|group: &Vec<Row>| !group.is_empty())
        .collect();
    vec![
        ("one row at a time", case.rows.iter().map(|r| packed(std::slice::from_ref(r))).collect()),
        ("packed", vec![packed(&case.rows)]),
        ("shared", vec![trie(&case.rows)]),
        ("split and packed", groups.iter().map(|g| packed(g)).collect()),
        ("split and shared", groups.iter().map(|g| trie(g)).collect()),
    ]
}

/// Returns the size of the gradient, or nothing where nothing can be trained.
fn check(case: &Case) -> Option<f64> {
    let smallest = case.config.dim.min(case.config.hidden_dim);
    let fits = !matches!(case.method, Method::Lora(l) if l.rank > smallest);
    if trained(&case.rows) == 0 || !fits {
        return None;
    }
    let checkpoint = Checkpoint::new(&case.config, 5);
    let room = capacity(&case.rows);
    let mut lab = Lab::<f64>::new(&checkpoint, &case.config, case.method, room, case.recompute);
    let dropout = (lab.model.dropout() > 0.0).then_some((4, 2));
    let mut first: Option<(f64, Vec<f64>)> = None;
    let mut norm = 0.0;
    for (name, forests) in arrangements(case) {
        let entries: usize = forests.iter().map(|f| f.entries.len()).sum();
        assert_eq!(entries, trained(&case.rows), "{name}: loss entries");
        let (loss, gradient) = lab.loss_and_gradient(&forests, dropout);
        let Some((first_loss, first_gradient)) = &first else {
            norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            first = Some((loss, gradient));
            continue;
        };
        let wrong = (loss - first_loss).abs() / first_loss;
        assert!(wrong < 1e-9, "{name}: loss {loss}, one at a time {first_loss}");
        // Tensors whose gradient is nothing but rounding are measured by the whole gradient.
        let expected = lab.by_name(first_gradient);
        for ((tensor, found), (_, expected)) in lab.by_name(&gradient).zip(expected) {
            let wrong = error(found, expected, (1e-3 * norm).max(1e-6));
            assert!(wrong < 1e-9, "{name}: gradient of {tensor} is {wrong:.1e} off");
        }
    }
    Some(norm)
}

proptest! {
    #![proptest_config(common::cases(400))]

    #[test]
    fn arrangement_changes_nothing(case in cases()) {
        check(&case);
    }
}

/// The case that a person would draw: a preamble, two prompts below it, answers below each.
#[test]
fn preamble_prompts_and_answers() {
    let row = |tokens: &[u32]| Row {
        tokens: tokens.to_vec(),
        weights: (0..tokens.len()).map(|i| if i < 5 { 0.0 } else { 1.0 }).collect(),
    };
    let rows = vec![
        row(&[1, 2, 3, 4, 5, 6, 7]),
        row(&[1, 2, 3, 4, 5, 8]),
        row(&[1, 2, 3, 9, 10, 6]),
        row(&[1, 2, 3, 9, 10, 6, 7, 8]),
        row(&[4, 2, 3, 9, 10, 6]),
    ];
    let forest = trie(&rows);
    // Each token once: the second answer of the second prompt continues the first.
    assert_eq!(forest.tokens.len(), 19);
    assert_eq!(forest.segments.len(), 7);
    assert_eq!(packed(&rows).tokens.len(), 33);
    for recompute in [Recompute::Nothing, Recompute::Cheap, Recompute::Layers] {
        for method in [Method::Full, common::lora(0.0), common::lora(0.3)] {
            let (config, rows, split) = (config(), rows.clone(), vec![0, 1, 0, 1, 2]);
            let norm = check(&Case { config, method, recompute, rows, split });
            assert!(norm.is_some_and(|norm| norm > 1e-3), "{norm:?}");
        }
    }
}
