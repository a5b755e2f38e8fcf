//! Learning rates equal those of transformers' schedules (`tests/fixtures/schedules.json`).

use std::path::Path;

use paddock_core::train::{Schedule, ScheduleKind};
use serde_json::Value;

#[test]
fn rates_are_those_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schedules.json");
    let text = std::fs::read_to_string(path).expect("schedules.json");
    let cases: Value = serde_json::from_str(&text).expect("JSON");
    let cases = cases.as_object().expect("an object of cases");
    assert!(cases.len() >= 15, "only {} cases", cases.len());
    for (name, case) in cases {
        let kind = match case["kind"].as_str() {
            Some("constant") => ScheduleKind::Constant,
            Some("linear") => ScheduleKind::Linear,
            Some("cosine") => ScheduleKind::Cosine,
            other => panic!("{name}: {other:?}"),
        };
        let steps = |key: &str| case[key].as_u64().expect(key);
        let (warmup_steps, total_steps) = (steps("warmup_steps"), steps("total_steps"));
        let schedule = Schedule { kind, lr: 2e-4, warmup_steps, total_steps };
        let factors = case["factor"].as_array().expect("factors");
        assert!(!factors.is_empty(), "{name}");
        for (step, factor) in (0..).zip(factors) {
            let mut expected = 2e-4 * factor.as_f64().expect("a number");
            // Beyond its end transformers' cosine would rise again; no run goes there, and ours stays
            // at zero.
            if kind == ScheduleKind::Cosine && step > warmup_steps.max(total_steps) {
                expected = 0.0;
            }
            let found = schedule.at(step);
            assert!((found - expected).abs() <= 1e-15, "{name}, step {step}: {found}, {expected}");
        }
    }
}
