//! The rest of the footer: every field is of the type that the format names, so that the package, which goes by
//! numbers alone, reads the same structures as this, and in time: a map of a billion yes and no, which the package
//! takes to be no bytes long, would keep it busy for minutes.

use std::io::Read;

use super::thrift::{BINARY, BOOL, Broken, DOUBLE, I16, I32, I64, LIST, STRUCT, Thrift, expect};

/// What a field holds.
enum Holds {
    One(u8),
    Struct(Fields),
    List(u8),
    Structs(Fields),
}
use Holds::{List, One, Struct, Structs};

/// The fields of a structure that the package reads; it passes over others.
type Fields = &'static [(i16, Holds)];

const KEY_VALUE: Fields = &[(1, One(BINARY)), (2, One(BINARY))];
const SORTING_COLUMN: Fields = &[(1, One(I32)), (2, One(BOOL)), (3, One(BOOL))];
const COLUMN_ORDER: Fields = &[(1, Struct(&[])), (2, Struct(&[]))];
const PAGE_ENCODING_STATS: Fields = &[(1, One(I32)), (2, One(I32)), (3, One(I32))];
const SIZE_STATISTICS: Fields = &[(1, One(I64)), (2, List(I64)), (3, List(I64))];
const GEOSPATIAL_STATISTICS: Fields = &[(1, Struct(BOUNDING_BOX)), (2, List(I32))];
const BOUNDING_BOX: Fields = &[
    (1, One(DOUBLE)),
    (2, One(DOUBLE)),
    (3, One(DOUBLE)),
    (4, One(DOUBLE)),
    (5, One(DOUBLE)),
    (6, One(DOUBLE)),
    (7, One(DOUBLE)),
    (8, One(DOUBLE)),
];
const STATISTICS: Fields = &[
    (1, One(BINARY)),
    (2, One(BINARY)),
    (3, One(I64)),
    (4, One(I64)),
    (5, One(BINARY)),
    (6, One(BINARY)),
    (7, One(BOOL)),
    (8, One(BOOL)),
    (9, One(I64)),
];
const COLUMN_META_DATA: Fields = &[
    (1, One(I32)),
    (2, List(I32)),
    (3, List(BINARY)),
    (4, One(I32)),
    (5, One(I64)),
    (6, One(I64)),
    (7, One(I64)),
    (8, Structs(KEY_VALUE)),
    (9, One(I64)),
    (10, One(I64)),
    (11, One(I64)),
    (12, Struct(STATISTICS)),
    (13, Structs(PAGE_ENCODING_STATS)),
    (14, One(I64)),
    (15, One(I32)),
    (16, Struct(SIZE_STATISTICS)),
    (17, Struct(GEOSPATIAL_STATISTICS)),
];
const COLUMN_CHUNK: Fields = &[
    (1, One(BINARY)),
    (2, One(I64)),
    (3, Struct(COLUMN_META_DATA)),
    (4, One(I64)),
    (5, One(I32)),
    (6, One(I64)),
    (7, One(I32)),
    (9, One(BINARY)),
];
const ROW_GROUP: Fields = &[
    (1, Structs(COLUMN_CHUNK)),
    (2, One(I64)),
    (3, One(I64)),
    (4, Structs(SORTING_COLUMN)),
    (5, One(I64)),
    (6, One(I64)),
    (7, One(I16)),
];
const FILE_META_DATA: Fields = &[
    (3, One(I64)),
    (4, Structs(ROW_GROUP)),
    (5, Structs(KEY_VALUE)),
    (6, One(BINARY)),
    (7, Structs(COLUMN_ORDER)),
    (9, One(BINARY)),
];

/// A field of FileMetaData behind the schema.
pub fn field<R: Read>(thrift: &mut Thrift<R>, id: i16, kind: u8) -> Result<(), Broken> {
    known(thrift, FILE_META_DATA, id, kind)
}

fn known<R: Read>(thrift: &mut Thrift<R>, of: Fields, id: i16, kind: u8) -> Result<(), Broken> {
    let Some((_, holds)) = of.iter().find(|(known, _)| *known == id) else {
        return thrift.skip(kind);
    };
    match holds {
        One(wanted) => expect(kind, *wanted).and_then(|()| thrift.skip(kind)),
        Struct(of) => expect(kind, STRUCT).and_then(|()| structure(thrift, of)),
        List(wanted) => {
            let count = list(thrift, kind, *wanted)?;
            (0..count).try_for_each(|_| thrift.skip(*wanted))
        }
        Structs(of) => {
            let count = list(thrift, kind, STRUCT)?;
            (0..count).try_for_each(|_| structure(thrift, of))
        }
    }
}

fn structure<R: Read>(thrift: &mut Thrift<R>, of: Fields) -> Result<(), Broken> {
    thrift.fields(|thrift, id, kind| known(thrift, of, id, kind))
}

/// The number of a list's elements. An empty list's may be of any type.
fn list<R: Read>(thrift: &mut Thrift<R>, kind: u8, wanted: u8) -> Result<u64, Broken> {
    expect(kind, LIST)?;
    let (elements, count) = thrift.list()?;
    if count > 0 {
        expect(elements, wanted)?;
    }
    Ok(count)
}
