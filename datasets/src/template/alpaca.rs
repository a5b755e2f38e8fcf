//! The two Alpaca prompts, word for word as the field uses them.

use crate::error::Result;
use crate::record::Record;
use crate::template::columns::{Columns, optional_text, required_text};
use crate::template::rendered::Rendered;

const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that \
provides further context. Write a response that appropriately completes the request.\n\n";
const WITHOUT_INPUT: &str = "Below is an instruction that describes a task. Write a response that \
appropriately completes the request.\n\n";
const INSTRUCTION: &str = "### Instruction:\n";
const INPUT: &str = "\n\n### Input:\n";
const RESPONSE: &str = "\n\n### Response:";

/// Prompt of a row: the second form where there is no input.
pub fn render_prompt(name: &str, columns: &Columns, record: &Record) -> Result<Rendered> {
    let instruction = required_text(name, record, columns.prompt_or("instruction"))?;
    let input = optional_text(name, record, columns.input_or("input"))?;
    let mut out = Rendered::default();
    out.literal(if input.is_empty() { WITHOUT_INPUT } else { WITH_INPUT });
    out.literal(INSTRUCTION);
    out.data(&instruction);
    if !input.is_empty() {
        out.literal(INPUT);
        out.data(&input);
    }
    out.literal(RESPONSE);
    Ok(out)
}

/// Prompt and answer of a row.
pub fn render(name: &str, columns: &Columns, record: &Record) -> Result<Rendered> {
    let mut out = render_prompt(name, columns, record)?;
    out.answer(&columns.answer_text(name, record, columns.answer_or("output"))?);
    Ok(out)
}
