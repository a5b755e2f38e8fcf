//! The rows that are built in as `bundled:stories`.

/// The seed they were made with.
pub const SEED: u64 = 20_240_607;
/// How many training, validation and test rows there are.
pub const COUNTS: [usize; 3] = [3_200, 200, 400];

/// Training rows as JSON lines.
pub const TRAIN: &str = include_str!("../../bundled/stories/train.jsonl");
/// Validation rows as JSON lines.
pub const VALIDATION: &str = include_str!("../../bundled/stories/validation.jsonl");
/// Test rows as JSON lines.
pub const TEST: &str = include_str!("../../bundled/stories/test.jsonl");
