//! The footer, looked at before the package decodes it: the package sets memory aside for as many children as a group
//! of the schema claims to have, and calls itself once a level. What stands behind the schema: `metadata.rs`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::metadata;
use super::thrift::{BINARY, BOOL, BYTE, Broken, I32, LIST, STRUCT, Thrift, expect};

/// Groups within groups: one of messages with lists of calls with arguments has a dozen.
const DEPTH: usize = 64;

/// Refuses a schema that is no tree, and fields of another type than the format's. What else may be wrong with a footer
/// the package finds.
pub fn check(mut file: &File) -> Result<(), String> {
    let mut end = [0; 8];
    let length = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
    if length < 8 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(length - 8)).map_err(|e| e.to_string())?;
    file.read_exact(&mut end).map_err(|e| e.to_string())?;
    let footer = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    let Some(start) = (length - 8).checked_sub(footer).filter(|_| &end[4..] == b"PAR1") else {
        return Ok(());
    };
    file.seek(SeekFrom::Start(start)).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(footer).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    self::file(&bytes).map_err(|why| format!("its footer is damaged: {why}"))
}

/// FileMetaData, whose second field is the schema.
fn file(footer: &[u8]) -> Result<(), Broken> {
    let mut found = false;
    Thrift::new(footer).fields(|thrift, id, kind| match id {
        1 => thrift.i32(kind).map(drop),
        2 => {
            found = true;
            expect(kind, LIST).and_then(|()| tree(thrift))
        }
        // The package reads columns by the schema, which must be known by then.
        4 if !found => Err("its schema is not where it should be"),
        _ => metadata::field(thrift, id, kind),
    })?;
    if found { Ok(()) } else { Err("it has no schema") }
}

/// The elements of the schema, each group before its children.
fn tree<R: Read>(thrift: &mut Thrift<R>) -> Result<(), Broken> {
    let (kind, count) = thrift.list()?;
    expect(kind, STRUCT)?;
    let mut missing: Vec<i32> = vec![1];
    for _ in 0..count {
        while missing.last() == Some(&0) {
            missing.pop();
        }
        let parent = missing.last_mut().ok_or("its schema has more elements than groups name")?;
        *parent -= 1;
        let children = element(thrift)?;
        if children < 0 {
            return Err("a group of its schema has a negative number of columns");
        }
        if children > 0 {
            missing.push(children);
        }
        if missing.len() > DEPTH {
            return Err("its schema is nested too deeply");
        }
    }
    if missing.iter().any(|left| *left > 0) {
        return Err("a group of its schema claims more columns than there are");
    }
    Ok(())
}

/// A SchemaElement; gives the number of its children.
fn element<R: Read>(thrift: &mut Thrift<R>) -> Result<i32, Broken> {
    let mut children = 0;
    thrift.fields(|thrift, id, kind| match id {
        5 => {
            children = thrift.i32(kind)?;
            Ok(())
        }
        1..=3 | 6..=9 => thrift.i32(kind).map(drop),
        4 => expect(kind, BINARY).and_then(|()| thrift.skip(kind)),
        10 => {
            expect(kind, STRUCT)?;
            thrift.fields(|thrift, variant, kind| {
                expect(kind, STRUCT)?;
                thrift.fields(|thrift, id, kind| logical(thrift, variant, id, kind))
            })
        }
        _ => thrift.skip(kind),
    })?;
    Ok(children)
}

/// A field of one of LogicalType's variants. The package reads these by their numbers whatever type they claim, so
/// another type would make it read another schema than this.
fn logical<R: Read>(thrift: &mut Thrift<R>, variant: i16, id: i16, kind: u8) -> Result<(), Broken> {
    let wanted = match (variant, id) {
        (5, 1 | 2) | (18, 2) => I32,
        (7 | 8, 1) | (10, 2) => BOOL,
        (7 | 8, 2) => STRUCT,
        (10 | 16, 1) => BYTE,
        (17 | 18, 1) => BINARY,
        _ => kind,
    };
    expect(kind, wanted)?;
    if kind != STRUCT {
        return thrift.skip(kind);
    }
    // A unit of time: a choice of empty structures.
    thrift.fields(|thrift, _, kind| expect(kind, STRUCT).and_then(|()| thrift.skip(kind)))
}
