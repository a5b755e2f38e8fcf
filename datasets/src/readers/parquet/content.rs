//! What stands in an unpacked page, as far as the package would set memory aside for it before it knows better: how
//! many values of a row lie in a list, and how many lengths a page of texts has.

use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;
use parquet::schema::types::ColumnDescriptor;

use super::thrift::Broken;

/// Elements of all lists of one row, however small they are packed: room for masks and token ids of long rows, not
/// for runs of a billion zeros in six bytes.
const FREE_ELEMENTS: u64 = 1 << 17;

/// Lengths in a page of texts, however small they are packed.
const FREE_LENGTHS: u64 = 1 << 20;

/// Counts the rows of a column and the elements of each, page after page.
pub struct Rows {
    most: u64,
    current: u64,
    /// Rows begun so far.
    pub begun: u64,
}

impl Rows {
    /// For one of so many columns with lists, which has so many bytes in the file.
    pub fn new(packed: u64, columns: u64) -> Self {
        let most = (FREE_ELEMENTS / columns.max(1)).saturating_add(packed.saturating_mul(2));
        Rows { most, current: 0, begun: 0 }
    }

    /// `count` elements, of which each begins a row or none does.
    fn run(&mut self, begins: bool, count: u64) -> Result<(), String> {
        if begins && count > 0 {
            (self.begun, self.current) = (self.begun.saturating_add(count), 1);
        } else {
            self.current = self.current.saturating_add(count);
        }
        if self.current > self.most {
            return Err(format!(
                "has a row with more than {} elements in a list, from a few bytes of the file; that is no ordinary \
                 data file. If you trust it, leave that column out or write the file again as JSONL",
                self.most
            ));
        }
        Ok(())
    }

    /// Repetition levels, which are zero where a row begins, as runs and packed groups of eight.
    fn levels(&mut self, bytes: &[u8], width: u32, mut left: u64) -> Result<(), String> {
        let mut bytes = Bytes(bytes);
        while left > 0 && !bytes.0.is_empty() {
            let head = bytes.varint().map_err(|why| why.to_string())?;
            if head & 1 == 0 {
                let count = (head >> 1).min(left);
                let level = bytes.take(u64::from(width.div_ceil(8)))?;
                self.run(level.iter().all(|byte| *byte == 0), count)?;
                left -= count;
            } else {
                let count = (head >> 1).saturating_mul(8).min(left);
                // The last group may be cut off after its last level.
                let length = count.saturating_mul(u64::from(width)).div_ceil(8);
                let packed = bytes.take(length)?;
                let whole = (head >> 1).saturating_mul(u64::from(width)).saturating_sub(length);
                _ = bytes.take(whole.min(bytes.0.len() as u64))?;
                self.bits(packed, width, count, |bit| bit)?;
                left -= count;
            }
        }
        Ok(())
    }

    /// `count` levels of `width` bits each; `order` says which bit of a byte comes when.
    fn bits(
        &mut self,
        packed: &[u8],
        width: u32,
        count: u64,
        order: fn(u64) -> u64,
    ) -> Result<(), String> {
        let width = u64::from(width);
        for first in (0..count).map(|at| at * width) {
            let mut bits = first..first + width;
            let zero = bits.all(|bit| packed[bit as usize / 8] >> order(bit % 8) & 1 == 0);
            self.run(zero, 1)?;
        }
        Ok(())
    }
}

/// Looks at an unpacked page. The error goes on after "column `x` ".
pub fn check(page: &Page, column: &ColumnDescriptor, rows: &mut Rows) -> Result<(), String> {
    let (repetition, definition) = (width(column.max_rep_level()), width(column.max_def_level()));
    let (buf, values, encoding, levels, runs, start) = match page {
        Page::DictionaryPage { .. } => return Ok(()),
        Page::DataPage {
            buf,
            num_values,
            encoding,
            rep_level_encoding,
            def_level_encoding,
            ..
        } => {
            let values = u64::from(*num_values);
            let mut bytes = Bytes(buf);
            let levels = bytes.levels(*rep_level_encoding, repetition, values)?;
            bytes.levels(*def_level_encoding, definition, values)?;
            let runs = *rep_level_encoding == Encoding::RLE;
            (buf, values, *encoding, levels.unwrap_or_default(), runs, buf.len() - bytes.0.len())
        }
        Page::DataPageV2 {
            buf,
            num_values,
            encoding,
            rep_levels_byte_len,
            def_levels_byte_len,
            ..
        } => {
            let start = *rep_levels_byte_len as usize;
            let levels = buf.get(..start).ok_or("has a page that ends early")?;
            let start = start.saturating_add(*def_levels_byte_len as usize);
            (buf, u64::from(*num_values), *encoding, levels, true, start)
        }
    };
    if repetition > 0 {
        if runs {
            rows.levels(levels, repetition, values)?;
        } else {
            // The oldest way to write levels, the highest bit first.
            rows.bits(levels, repetition, values, |bit| 7 - bit)?;
        }
    }
    let texts = matches!(column.physical_type(), Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY);
    if texts {
        let most = values.min(FREE_LENGTHS.saturating_add(buf.len() as u64));
        lengths(buf.get(start..).unwrap_or_default(), encoding, most)?;
    }
    Ok(())
}

/// Bits of a level.
fn width(max: i16) -> u32 {
    i16::BITS - max.max(0).leading_zeros()
}

/// The lengths of a page of texts, of which there may be so many.
fn lengths(bytes: &[u8], encoding: Encoding, most: u64) -> Result<(), String> {
    let mut bytes = Bytes(bytes);
    let streams = match encoding {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        // How much of the text before it a text begins with, then the rest of each.
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => 0,
    };
    for stream in 0..streams {
        let head = bytes.deltas()?;
        if head.count > most {
            let count = head.count;
            return Err(format!(
                "has a page that claims {count} texts where at most {most} can be"
            ));
        }
        if stream + 1 < streams {
            bytes.pass_deltas(&head)?;
        }
    }
    Ok(())
}

/// The head of a stream of numbers that are packed as differences.
struct Deltas {
    parts: u64,
    per_part: u64,
    count: u64,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], Broken> {
        let count = usize::try_from(count).ok().filter(|n| *n <= self.0.len());
        let (head, rest) = self.0.split_at(count.ok_or("has a page that ends early")?);
        self.0 = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("has a page with a number of more than 64 bits")
    }

    /// The levels in front of a page of the first version.
    fn levels(
        &mut self,
        how: Encoding,
        width: u32,
        values: u64,
    ) -> Result<Option<&'a [u8]>, Broken> {
        if width == 0 {
            return Ok(None);
        }
        let length = match how {
            Encoding::RLE => {
                let length = self.take(4)?;
                u64::from(u32::from_le_bytes([length[0], length[1], length[2], length[3]]))
            }
            _ => values.saturating_mul(u64::from(width)).div_ceil(8),
        };
        self.take(length).map(Some)
    }

    fn deltas(&mut self) -> Result<Deltas, Broken> {
        let (block, parts, count) = (self.varint()?, self.varint()?, self.varint()?);
        // The first number itself.
        self.varint()?;
        let per_part = block.checked_div(parts).filter(|n| *n > 0);
        let per_part = per_part.ok_or("has a page with numbers in blocks of none")?;
        Ok(Deltas { parts, per_part, count })
    }

    fn pass_deltas(&mut self, head: &Deltas) -> Result<(), Broken> {
        let mut left = head.count.saturating_sub(1);
        while left > 0 {
            // The block's smallest difference.
            self.varint()?;
            for width in self.take(head.parts)? {
                // Widths behind the last number mean nothing.
                let width = if left == 0 { 0 } else { u64::from(*width) };
                self.take(width.saturating_mul(head.per_part) / 8)?;
                left = left.saturating_sub(head.per_part);
            }
        }
        Ok(())
    }
}
