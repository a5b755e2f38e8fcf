//! What a row group's pages claim, looked at before the package believes it: for a page it sets aside as much memory
//! as the page's header says that it unpacks to, for a dictionary as many entries as its header says.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Take};

use flate2::bufread::MultiGzDecoder;
use parquet::basic::{Compression, Type};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::thrift::{Broken, STRUCT, Thrift};
use crate::readers::UnpackLimits;

/// What the pages that are open at the same time (of every column a dictionary and a page of values) may hold
/// whatever they are packed into. Writers close a page at 1 MiB, and so do they a dictionary.
const FREE: u64 = 8 << 20;

/// An entry of a dictionary of texts in memory, beside its text.
const ENTRY_BYTES: u64 = 32;

/// Gzip cannot pack better than this.
const GZIP_RATIO: u64 = 1032;

/// Gzip pages that cannot unpack to more are not unpacked to see whether their size is true.
const GZIP_FREE: u64 = 1 << 20;

/// What a page's header says.
#[derive(Debug, Default, PartialEq)]
struct Header {
    kind: i32,
    unpacked: u64,
    packed: u64,
    /// Values of a page, nulls among them; entries of a dictionary.
    values: u64,
    /// Bytes in front that are not packed.
    levels: u64,
    is_packed: bool,
}

const INDEX: i32 = 1;
const DICTIONARY: i32 = 2;

fn header(from: impl Read) -> Result<(Header, u64), Broken> {
    let (mut header, mut known) = (Header { is_packed: true, ..Header::default() }, 0u32);
    let size = |n: i32| u64::try_from(n).map_err(|_| "a size in it is negative");
    let mut values = [None; 9];
    let mut thrift = Thrift::new(from);
    thrift.fields(|thrift, id, kind| {
        match id {
            1 => header.kind = thrift.i32(kind)?,
            2 => header.unpacked = size(thrift.i32(kind)?)?,
            3 => header.packed = size(thrift.i32(kind)?)?,
            4 => _ = thrift.i32(kind)?,
            5 | 7 | 8 if kind == STRUCT => thrift.fields(|thrift, inner, kind| {
                match (id, inner) {
                    (_, 1) => values[id as usize] = Some(size(thrift.i32(kind)?)?),
                    (8, 5 | 6) => header.levels += size(thrift.i32(kind)?)?,
                    (8, 7) => header.is_packed = thrift.bool(kind)?,
                    (7, 3) => _ = thrift.bool(kind)?,
                    (7, 2) | (5, 2..=4) | (8, 2..=4) => _ = thrift.i32(kind)?,
                    _ => thrift.skip(kind)?,
                }
                Ok(())
            })?,
            5..=8 if kind != STRUCT => {
                return Err("a field in it is not of the type that it should be");
            }
            _ => thrift.skip(kind)?,
        }
        known |= 1 << id.clamp(0, 31);
        Ok(())
    })?;
    if known & 0b1110 != 0b1110 {
        return Err("its type or a size is missing");
    }
    header.values = match header.kind {
        0 => values[5],
        INDEX => Some(0),
        DICTIONARY => values[7],
        3 => values[8],
        _ => return Err("it is of an unknown type"),
    }
    .ok_or("its number of values is missing")?;
    Ok((header, thrift.taken))
}

/// A column's pages of a row group, as far as they are well.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Pages that may be read.
    pub pages: u64,
    /// Bytes of the file.
    pub packed: u64,
    /// What is wrong with the one after them, if there is one.
    pub broken: Option<String>,
    /// Values in them, without those of dictionaries.
    values: u64,
    /// The largest dictionary and the largest page, in memory and in the file.
    held: [(u64, u64); 2],
}

/// Walks all pages of a row group. The error says what to do.
pub fn walk(file: &File, group: &RowGroupMetaData) -> Result<Vec<Chunk>, String> {
    let end = file.metadata().map_err(|e| e.to_string())?.len();
    let chunks = group.columns().iter().map(|column| walk_column(file, end, column));
    let chunks: Vec<Chunk> = chunks.collect::<Result<_, _>>()?;
    let total = |part: fn(&(u64, u64)) -> u64| -> u64 {
        chunks.iter().flat_map(|chunk| &chunk.held).map(part).fold(0, u64::saturating_add)
    };
    let (held, packed) = (total(|(held, _)| *held), total(|(_, packed)| *packed));
    if held > FREE.saturating_add(packed.saturating_mul(UnpackLimits::default().ratio)) {
        let sizes = chunks.iter().map(|chunk| chunk.held[0].0.saturating_add(chunk.held[1].0));
        let most = sizes.enumerate().max_by_key(|(_, size)| *size).map_or(0, |(at, _)| at);
        return Err(format!(
            "its pages say that they unpack to {held} bytes at once from {packed} packed ones, most of them in \
             column `{}`; that is no ordinary data file. If you trust it, write it again with smaller pages or as \
             JSONL",
            name(&group.columns()[most])
        ));
    }
    for (chunk, column) in chunks.iter().zip(group.columns()) {
        let flat = column.column_descr().max_rep_level() == 0;
        let rows = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
        if flat && chunk.broken.is_none() && chunk.values != rows {
            return Err(format!(
                "column `{}` holds {} values for {rows} rows; the file may be cut off or damaged: fetch it again",
                name(column),
                chunk.values
            ));
        }
    }
    Ok(chunks)
}

fn name(column: &ColumnChunkMetaData) -> String {
    column.column_path().parts().join(".")
}

fn walk_column(file: &File, end: u64, column: &ColumnChunkMetaData) -> Result<Chunk, String> {
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let [Ok(start), Ok(length)] = [start, column.compressed_size()].map(u64::try_from) else {
        return Err(format!("column `{}` stands at an impossible place", name(column)));
    };
    let packs = column.compression() != Compression::UNCOMPRESSED;
    let entry = match column.column_type() {
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => ENTRY_BYTES,
        _ => ENTRY_BYTES / 2,
    };
    let (mut at, mut left) = (start, length.min(end.saturating_sub(start)));
    let mut chunk = Chunk { packed: left, ..Chunk::default() };
    while left > 0 {
        let read = open(file, at, left).map_err(|e| e.to_string())?;
        let page = header(read).and_then(|(page, taken)| {
            let within = taken.checked_add(page.packed).is_some_and(|all| all <= left);
            if within { Ok((page, taken)) } else { Err("it reaches beyond its column") }
        });
        let (page, taken) = match page {
            Ok(found) => found,
            Err(why) => {
                let (name, number) = (name(column), chunk.pages + 1);
                let why =
                    format!("the header of page {number} of column `{name}` is damaged: {why}");
                chunk.broken = Some(why);
                break;
            }
        };
        if matches!(column.compression(), Compression::GZIP(_)) {
            gzip_is_true(file, at + taken, &page).map_err(|why| {
                format!("page {} of column `{}` {why}", chunk.pages + 1, name(column))
            })?;
        }
        let dictionary = page.kind == DICTIONARY;
        let entries = if dictionary { page.values.saturating_mul(entry) } else { 0 };
        let unpacked = if packs { page.unpacked } else { page.packed };
        let held = (unpacked.saturating_add(entries), page.packed);
        let largest = &mut chunk.held[usize::from(!dictionary)];
        *largest = held.max(*largest);
        if page.kind != INDEX {
            chunk.pages += 1;
        }
        if !dictionary {
            chunk.values = chunk.values.saturating_add(page.values);
        }
        at += taken + page.packed;
        left -= taken + page.packed;
    }
    Ok(chunk)
}

fn open(mut file: &File, at: u64, length: u64) -> std::io::Result<Take<BufReader<&File>>> {
    file.seek(SeekFrom::Start(at))?;
    Ok(BufReader::new(file).take(length))
}

/// The package unpacks gzip to its end, whatever size the header says: so it is unpacked here first and thrown away.
fn gzip_is_true(file: &File, at: u64, page: &Header) -> Result<(), String> {
    let packed = page.packed.saturating_sub(page.levels);
    if !page.is_packed || packed.saturating_mul(GZIP_RATIO) <= GZIP_FREE {
        return Ok(());
    }
    let claimed = page.unpacked.saturating_sub(page.levels);
    let packed = open(file, at + page.levels, packed).map_err(|e| e.to_string())?;
    let mut unpacked = MultiGzDecoder::new(packed).take(claimed + 1);
    // Damage is found again by the package, which says so.
    let found = std::io::copy(&mut unpacked, &mut std::io::sink()).unwrap_or(0);
    if found > claimed {
        return Err(format!("unpacks to more than the {claimed} bytes that its header says"));
    }
    Ok(())
}
