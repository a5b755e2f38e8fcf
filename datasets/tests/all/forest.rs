//! Forests against plain packed rows.

use paddock_core::forest::Forest;
use paddock_datasets::encode::Example;
use paddock_datasets::forest::{Limits, MicroBatch, forest_of, micro_batches};

fn example(tokens: &[u32], first_trained: usize) -> Example {
    let trained = (0..tokens.len()).map(|i| i >= first_trained).collect();
    Example { tokens: tokens.to_vec(), trained, row: 0, template: 0, cut: false }
}

/// For each entry: the tokens that it sees and its target; this is all a loss depends on.
fn terms(forest: &Forest) -> Vec<(Vec<u32>, u32)> {
    let mut terms = Vec::new();
    for entry in &forest.entries {
        let at = forest.segments.iter().rposition(|s| s.start <= entry.position).unwrap();
        let mut segment = forest.segments[at];
        let mut end = entry.position + 1;
        let mut context = Vec::new();
        loop {
            let own = &forest.tokens[segment.start as usize..end as usize];
            context.splice(0..0, own.iter().copied());
            let Some(parent) = segment.parent else { break };
            segment = forest.segments[parent as usize];
            end = segment.start + segment.len;
        }
        terms.push((context, entry.target));
    }
    terms.sort();
    terms
}

fn same_terms(rows: &[&Example], forests: &[MicroBatch]) {
    let plain: Vec<(&[u32], &[bool])> =
        rows.iter().map(|e| (e.tokens.as_slice(), e.trained.as_slice())).collect();
    let mut found: Vec<_> = forests.iter().flat_map(|b| terms(&b.forest)).collect();
    found.sort();
    assert_eq!(found, terms(&Forest::from_rows(&plain)));
    for batch in forests {
        batch.forest.validate(1000).unwrap();
    }
}

#[test]
fn shared_beginnings_are_computed_once() {
    let a = example(&[1, 2, 3, 4, 5, 9], 4);
    let b = example(&[1, 2, 3, 4, 6, 9], 4);
    let c = example(&[1, 2, 3, 7, 9], 3);
    let rows = [&a, &b, &c];
    let batch = forest_of(&rows, 1);
    assert_eq!(batch.row_tokens, 17);
    // 1 2 3 | 4 | 5 | 6 | 7: the last token of each row is only a target.
    assert_eq!(batch.computed_tokens(), 7);
    same_terms(&rows, &[batch]);
}

#[test]
fn a_row_may_end_in_the_trunk_and_rows_may_be_equal() {
    let a = example(&[1, 2, 3, 9], 2);
    let b = example(&[1, 2, 3, 4, 5, 9], 2);
    let rows = [&a, &b, &a, &b];
    let batch = forest_of(&rows, 1);
    assert_eq!(batch.computed_tokens(), 5);
    same_terms(&rows, &[batch]);
}

#[test]
fn short_shares_are_left_alone() {
    let a = example(&[1, 2, 3, 9], 2);
    let b = example(&[1, 2, 4, 9], 2);
    let batch = forest_of(&[&a, &b], 3);
    assert_eq!(batch.forest.segments.len(), 2);
    assert!(batch.forest.segments.iter().all(|s| s.parent.is_none()));
}

proptest::proptest! {
    #[test]
    fn any_rows_give_the_same_terms(
        rows in proptest::collection::vec(
            (proptest::collection::vec(0u32..3, 2..12), 1usize..12), 1..24),
        min_share in 1usize..4,
        limit in 12usize..40,
    ) {
        let examples: Vec<Example> = rows
            .iter()
            .map(|(tokens, first)| example(tokens, (*first).min(tokens.len() - 1)))
            .collect();
        let rows: Vec<&Example> = examples.iter().collect();
        let limits = Limits { min_share, ..Limits::tokens(limit) };
        let batches = micro_batches(&rows, &limits).unwrap();
        let mut seen: Vec<usize> = batches.iter().flat_map(|b| b.rows.clone()).collect();
        seen.sort_unstable();
        proptest::prop_assert_eq!(seen, (0..rows.len()).collect::<Vec<_>>());
        for batch in &batches {
            proptest::prop_assert!(batch.computed_tokens() <= limit);
        }
        same_terms(&rows, &batches);
    }
}

#[test]
fn a_row_above_the_limit_is_named() {
    let mut long = example(&[1; 50], 10);
    long.row = 7;
    let error = micro_batches(&[&long], &Limits::tokens(20)).unwrap_err().to_string();
    assert!(error.contains("row 7 alone needs 49 tokens"), "{error}");
}
