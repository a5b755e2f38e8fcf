//! Plain text: no prompt, every token is learned.

use crate::error::Result;
use crate::record::Record;
use crate::template::columns::{Columns, required_text};
use crate::template::rendered::Rendered;

/// A document: the answer column, `text` unless another is named.
pub fn render(name: &str, columns: &Columns, record: &Record) -> Result<Rendered> {
    let mut out = Rendered::default();
    out.answer(&required_text(name, record, columns.answer_or("text"))?);
    Ok(out)
}
