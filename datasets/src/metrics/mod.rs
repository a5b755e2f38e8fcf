//! How good answers are: exact match, accuracy, ROUGE and BLEU, as the field computes them.

pub mod accuracy;
pub mod bleu;
pub mod exact_match;
pub mod rouge;
