//! The sum of token losses of rows, without training.

use paddock_core::model::{Model, init};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::train::evaluate;
use paddock_datasets::encode::Example;
use paddock_datasets::forest::Limits;

use crate::open::{Machine, Opened, backend};
use crate::train::session::batches;

/// Rows looked at together: enough to share beginnings, few enough to hold.
const GROUP: usize = 256;

/// nll of each row: Σ over its trained tokens. Rows share the beginnings that they have in common.
pub fn scores(
    opened: &Opened,
    rows: &[Example],
    micro_batch_tokens: u64,
    machine: &Machine,
) -> anyhow::Result<Vec<f64>> {
    let config = &opened.folder.config;
    let longest = rows.iter().map(|r| r.tokens.len() as u64).max().unwrap_or(1);
    let tokens = micro_batch_tokens.max(longest);
    let capacity = Capacity {
        tokens,
        kept: tokens,
        entries: 2 * tokens,
        positions: longest,
        ..Capacity::default()
    };
    let mut b = backend(machine, opened.weights()?)?;
    let model = Model::new(config.clone(), opened.method())?;
    let plan = Plan::new(&model, capacity, Recompute::Nothing, false, &*b);
    b.reserve(&plan.sizes)?;
    init::upload_rope(&mut *b, &model, &plan, 0)?;
    opened.load_adapter(&mut *b, &model)?;
    let limits = Limits { entries: 2 * tokens as usize, ..Limits::tokens(tokens as usize) };
    let mut nll = vec![0.0; rows.len()];
    for (group, base) in rows.chunks(GROUP).zip((0..).step_by(GROUP)) {
        let group: Vec<&Example> = group.iter().collect();
        for (micro, batch) in batches(&group, &limits, config)? {
            let result = evaluate(&mut *b, &model, &plan, &batch)?;
            for (&x, &row) in result.nll.iter().zip(&micro.entry_rows) {
                nll[base + row] += f64::from(x);
            }
        }
    }
    Ok(nll)
}
