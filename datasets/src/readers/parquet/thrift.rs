//! Thrift's compact protocol, as far as Parquet's footer and page headers need it. Total: whatever the bytes are,
//! a field is read, passed over, or refused, and nothing is set aside for a length that is merely claimed.

use std::io::Read;

/// What is wrong with the bytes.
pub type Broken = &'static str;

/// A yes; no is 2.
pub const BOOL: u8 = 1;
/// Eight bits.
pub const BYTE: u8 = 3;
/// A 16-bit number.
pub const I16: u8 = 4;
/// A 32-bit number.
pub const I32: u8 = 5;
/// A 64-bit number.
pub const I64: u8 = 6;
/// A 64-bit floating-point number.
pub const DOUBLE: u8 = 7;
/// Bytes or text.
pub const BINARY: u8 = 8;
/// A list.
pub const LIST: u8 = 9;
/// A structure.
pub const STRUCT: u8 = 12;

/// How deeply structures and lists may lie in one another; Parquet's own lie six deep.
const DEPTH: u32 = 24;

/// Refuses a value of another type than the format names.
pub fn expect(kind: u8, wanted: u8) -> Result<(), Broken> {
    let good = kind == wanted || (wanted == BOOL && kind == 2);
    if good { Ok(()) } else { Err("a field in it is not of the type that it should be") }
}

/// Refuses a list of yes and no: writers differ in whether one takes a byte, and the package that reads after this
/// takes none, be there two billion.
fn no_bools(kind: u8, count: u64) -> Result<(), Broken> {
    if count > 0 && matches!(kind, 1 | 2) {
        return Err("it has a list of yes and no, which belongs into no footer or page header");
    }
    Ok(())
}

/// Reads from `from` and counts.
pub struct Thrift<R> {
    from: R,
    /// Bytes read so far.
    pub taken: u64,
}

impl<R: Read> Thrift<R> {
    /// From the first byte on.
    pub fn new(from: R) -> Self {
        Thrift { from, taken: 0 }
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        let mut byte = [0];
        self.from.read_exact(&mut byte).map_err(|_| "it ends early")?;
        self.taken += 1;
        Ok(byte[0])
    }

    fn pass(&mut self, bytes: u64) -> Result<(), Broken> {
        let passed = std::io::copy(&mut (&mut self.from).take(bytes), &mut std::io::sink());
        self.taken += bytes;
        if passed.is_ok_and(|n| n == bytes) { Ok(()) } else { Err("it ends early") }
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number in it has more than 64 bits")
    }

    fn zigzag(&mut self) -> Result<i64, Broken> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number that was declared to have 32 bits.
    pub fn i32(&mut self, kind: u8) -> Result<i32, Broken> {
        expect(kind, I32)?;
        i32::try_from(self.zigzag()?).map_err(|_| "a number in it has more than 32 bits")
    }

    /// A yes or no, which the field's type says.
    pub fn bool(&mut self, kind: u8) -> Result<bool, Broken> {
        match kind {
            1 => Ok(true),
            2 => Ok(false),
            _ => Err("a field in it is not of the type that it should be"),
        }
    }

    /// Every field of a structure: `each` gets its number and type, and reads or passes over its value. A field
    /// that stands there twice is refused, since readers differ in which they take.
    pub fn fields(
        &mut self,
        mut each: impl FnMut(&mut Self, i16, u8) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let (mut last, mut seen) = (0i16, 0u64);
        loop {
            let head = self.byte()?;
            let (step, kind) = (i16::from(head >> 4), head & 0xf);
            if kind == 0 {
                return Ok(());
            }
            let id = match step {
                0 => i16::try_from(self.zigzag()?).ok(),
                step => last.checked_add(step),
            };
            let id = id.ok_or("a field in it has an impossible number")?;
            let bit = u32::try_from(id).ok().and_then(|id| 1u64.checked_shl(id)).unwrap_or(0);
            if seen & bit != 0 {
                return Err("a field in it stands there twice");
            }
            (seen, last) = (seen | bit, id);
            each(self, id, kind)?;
        }
    }

    /// The type of a list's elements and their number, which nobody has counted yet.
    pub fn list(&mut self) -> Result<(u8, u64), Broken> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            few => u64::from(few),
        };
        Ok((head & 0xf, count))
    }

    /// Passes over a value.
    pub fn skip(&mut self, kind: u8) -> Result<(), Broken> {
        // A field's yes or no is its type.
        if matches!(kind, 1 | 2) { Ok(()) } else { self.skip_within(kind, DEPTH) }
    }

    fn skip_within(&mut self, kind: u8, depth: u32) -> Result<(), Broken> {
        let depth = depth.checked_sub(1).ok_or("it is nested too deeply")?;
        match kind {
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let (kind, count) = self.list()?;
                no_bools(kind, count)?;
                (0..count).try_for_each(|_| self.skip_within(kind, depth))
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                no_bools(kinds >> 4, count).and(no_bools(kinds & 0xf, count))?;
                (0..count).try_for_each(|_| {
                    self.skip_within(kinds >> 4, depth)?;
                    self.skip_within(kinds & 0xf, depth)
                })
            }
            12 => self.fields(|thrift, _, kind| match kind {
                1 | 2 => Ok(()),
                kind => thrift.skip_within(kind, depth),
            }),
            13 => self.pass(16),
            _ => Err("a field in it is of an unknown type"),
        }
    }
}
