//! Parquet files whose sizes are lies, made byte by byte: a small file must not fill memory. And honest ones of every
//! encoding, which the same checks must let through.

use std::io::Write;
use std::sync::Arc;

use paddock_datasets::readers::{ReadOptions, open};
use paddock_datasets::record::Record;
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;

use crate::common::{file, gzip};

fn varint(n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = n;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Numbers as fields of a Thrift structure, one after the other.
fn fields(numbers: &[i64]) -> Vec<u8> {
    let field = |n: &i64| [&[0x15][..], &varint(((n << 1) ^ (n >> 63)) as u64)].concat();
    numbers.iter().flat_map(field).collect()
}

const DATA: i64 = 0;
const DICTIONARY: i64 = 2;

/// A page of the first version: its header with a claimed size, then its bytes.
fn page(kind: i64, unpacked: i64, packed: &[u8], inner: &[i64]) -> Vec<u8> {
    let sizes = fields(&[kind, unpacked, packed.len() as i64]);
    let structure = if kind == DATA { 0x2c } else { 0x4c };
    [&sizes, &[structure][..], &fields(inner), &[0, 0], packed].concat()
}

/// A file of one column, whose pages are given.
fn of_pages(schema: &str, rows: u64, compression: Compression, pages: &[Vec<u8>]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let descriptor = SchemaDescriptor::new(schema.clone());
    let bytes = pages.concat();
    let mut chunk = tempfile::tempfile().unwrap();
    chunk.write_all(&bytes).unwrap();
    let metadata = ColumnChunkMetaData::builder(descriptor.column(0))
        .set_compression(compression)
        .set_num_values(rows as i64)
        .set_total_compressed_size(bytes.len() as i64)
        .set_total_uncompressed_size(bytes.len() as i64)
        .set_data_page_offset(0)
        .build()
        .unwrap();
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: rows,
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: None,
    };
    let properties = Arc::new(WriterProperties::default());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    group.append_column(&chunk, close).unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// Rows until the first that is bad, and what is said of that.
fn read(bytes: &[u8]) -> (Vec<Record>, String) {
    let (_folder, path) = file("rows.parquet", bytes);
    let rows = match open(&path, &ReadOptions::default()) {
        Ok(rows) => rows,
        Err(error) => return (Vec::new(), error.to_string()),
    };
    let mut good = Vec::new();
    for row in rows {
        match row {
            Ok(row) => good.push(row),
            Err(bad) => return (good, bad.to_string()),
        }
    }
    (good, String::new())
}

#[track_caller]
fn refused(bytes: &[u8], words: &str) {
    assert!(bytes.len() < 80_000, "the file is small: {}", bytes.len());
    let (rows, said) = read(bytes);
    assert!(rows.is_empty() && said.contains(words), "{} rows, {said}", rows.len());
}

const TEXT: &str = "message m { required binary text (UTF8); }";
const LIST: &str = "message m { repeated binary list (UTF8); }";
const ZSTD: fn() -> Compression = || Compression::ZSTD(ZstdLevel::default());
const GZIP: fn() -> Compression = || Compression::GZIP(GzipLevel::default());

/// Two texts as they stand in a page.
const PLAIN: [u8; 10] = *b"\x01\0\0\0a\x01\0\0\0b";
/// A page's number of values, its encoding, and those of its levels (runs).
const TWO: [i64; 4] = [2, 0, 3, 3];

#[test]
fn a_file_made_by_hand_is_read() {
    let good = of_pages(TEXT, 2, Compression::UNCOMPRESSED, &[page(DATA, 10, &PLAIN, &TWO)]);
    let (rows, said) = read(&good);
    let texts: Vec<_> = rows.iter().map(|row| row.get("text").unwrap().as_str().unwrap()).collect();
    assert_eq!((texts, said.as_str()), (vec!["a", "b"], ""));
}

#[test]
fn f33_a_page_that_claims_gigabytes_is_refused() {
    let packed = zstd::encode_all(&PLAIN[..], 1).unwrap();
    let (most, words) = (i64::from(i32::MAX), "say that they unpack to 2147483647 bytes at once");
    refused(&of_pages(TEXT, 2, ZSTD(), &[page(DATA, most, &packed, &TWO)]), words);
    // Where nothing is packed the claim is of no consequence.
    let plain = of_pages(TEXT, 2, Compression::UNCOMPRESSED, &[page(DATA, most, &PLAIN, &TWO)]);
    assert_eq!(read(&plain).0.len(), 2);
    // A dictionary of two thousand million entries, 32 bytes each.
    let dictionary = page(DICTIONARY, 10, &PLAIN, &[most, 0]);
    let pages = [dictionary, page(DATA, 2, &[1, 3], &[2, 8, 3, 3])];
    let words = "most of them in column `text`";
    refused(&of_pages(TEXT, 2, Compression::UNCOMPRESSED, &pages), words);
    refused(
        &of_pages(TEXT, 2, ZSTD(), &[page(DATA, -1, &packed, &TWO)]),
        "a size in it is negative",
    );
}

#[test]
fn f33_a_gzip_page_that_unpacks_to_more_than_it_says_is_refused() {
    let bomb = gzip(&vec![0; 64 << 20]);
    let pages = [page(DATA, 1 << 20, &bomb, &TWO)];
    refused(&of_pages(TEXT, 2, GZIP(), &pages), "unpacks to more than the 1048576 bytes");
    let pages = [page(DATA, 64 << 20, &bomb, &TWO)];
    refused(&of_pages(TEXT, 2, GZIP(), &pages), "unpack to 67108864 bytes at once from");
}

#[test]
fn f33_a_list_of_a_billion_elements_is_refused() {
    let run = |count: u64, level: u8| [varint(count << 1), vec![level]].concat();
    let levels = |runs: Vec<u8>| [&(runs.len() as u32).to_le_bytes()[..], &runs].concat();
    let list = |elements: u64| {
        // One row that goes on and on; each element is the dictionary's only entry.
        let repetition = levels([run(1, 0), run(elements, 1)].concat());
        let bytes =
            [repetition, levels(run(elements + 1, 1)), vec![0], varint((elements + 1) << 1)];
        let dictionary = page(DICTIONARY, 5, &PLAIN[..5], &[1, 0]);
        let data = bytes.concat();
        let data = page(DATA, data.len() as i64, &data, &[elements as i64 + 1, 8, 3, 3]);
        of_pages(LIST, 1, Compression::UNCOMPRESSED, &[dictionary, data])
    };
    let (rows, said) = read(&list(99_999));
    assert_eq!((rows.len(), said.as_str()), (1, ""));
    assert_eq!(rows[0].get("list").unwrap().as_array().unwrap().len(), 100_000);
    refused(&list(1_000_000_000), "has a row with more than 131");
}

#[test]
fn f33_lengths_that_nobody_wrote_are_refused() {
    // Blocks of 128 numbers in 4 parts, 2^40 of them, of which the first is 1.
    let claim = [vec![0x80, 1, 4], varint(1 << 40), vec![2]].concat();
    // The same of two numbers, which differ by nothing.
    let good = vec![0x80, 1, 4, 2, 2, 0, 0, 0, 0, 0];
    for (encoding, bytes) in [(6, claim.clone()), (7, claim.clone()), (7, [good, claim].concat())] {
        let pages = [page(DATA, bytes.len() as i64, &bytes, &[2, encoding, 3, 3])];
        let words =
            "column `text` has a page that claims 1099511627776 texts where at most 2 can be";
        refused(&of_pages(TEXT, 2, Compression::UNCOMPRESSED, &pages), words);
    }
}

/// A file that is a footer alone.
fn with(footer: &[u8]) -> Vec<u8> {
    [b"PAR1", footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

#[test]
fn f33_a_footer_of_billions_of_nothings_is_refused_at_once() {
    // A version, a schema of one group without columns, no rows; then what is given.
    let begin: [&[u8]; 3] = [&[0x15, 2], &[0x19, 0x1c, 0x48, 1, b'x', 0x15, 0, 0], &[0x16, 0]];
    let footer = |rest: &[u8]| with(&[&begin.concat(), rest].concat());
    // Without them it is a footer in order.
    refused(&footer(&[0x19, 0x0c, 0]), "it has no columns");
    let many = varint(i32::MAX as u64);
    // A list of yes, a set of no, a map of both; in a field that nobody knows, and within a row group.
    for (field, kind) in [(0x09, &[0xf1][..]), (0x0a, &[0xf2][..]), (0x0b, &[][..])] {
        let nothings = [kind, &many, if kind.is_empty() { &[0x12] } else { &[] }].concat();
        let unknown = [&[0x19, 0x0c][..], &[field, 40], &nothings, &[0]].concat();
        refused(&footer(&unknown), "it has a list of yes and no");
        let group = [&[0x19, 0x1c][..], &[field, 40], &nothings, &[0, 0]].concat();
        refused(&footer(&group), "it has a list of yes and no");
    }
    // Row groups of another type, which the package would read as if they were of the right one.
    refused(&footer(&[0x18, 3, 1, 2, 3, 0]), "a field in it is not of the type");
    refused(&footer(&[0x19, 0x15, 2, 0]), "a field in it is not of the type");
    let rows_as_text = [0x19, 0x1c, 0x38, 1, b'x', 0, 0];
    refused(&footer(&rows_as_text), "a field in it is not of the type");
}

#[test]
fn f33_a_schema_that_is_no_tree_is_refused() {
    // A schema of elements called x, of which each has so many children.
    let schema = |children: &[i64]| {
        let element = |n: &i64| [&[0x48, 1, b'x'][..], &fields(&[*n]), &[0]].concat();
        let elements: Vec<u8> = children.iter().flat_map(element).collect();
        with(
            &[&[0x15, 2, 0x19, 0xfc][..], &varint(children.len() as u64), &elements, &[0]].concat(),
        )
    };
    refused(&schema(&[i64::from(i32::MAX), 0]), "claims more columns than there are");
    refused(&schema(&[1, i64::from(i32::MAX), 0]), "claims more columns than there are");
    refused(&schema(&[1, 0, 0]), "has more elements than groups name");
    refused(&schema(&[-1]), "has a negative number of columns");
    refused(&schema(&[vec![1; 9_000], vec![0]].concat()), "nested too deeply");
    refused(&schema(&[0]), "begins like a Parquet file but cannot be read");
    refused(&with(&[0x15, 2, 0x15, 2]), "a field in it is not of the type that it should be");
    refused(&with(&[0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0x7f]), "it ends early");
}

#[test]
fn f33_columns_that_hold_fewer_values_than_rows_are_refused() {
    let pages = [page(DATA, 10, &PLAIN, &TWO)];
    let words = "column `text` holds 2 values for 3 rows";
    refused(&of_pages(TEXT, 3, Compression::UNCOMPRESSED, &pages), words);
    // Lists are counted where they are read: the first row is there, the second is not.
    let list = [&[2, 0, 0, 0, 2, 0][..], &[2, 0, 0, 0, 2, 1], &PLAIN[..5]].concat();
    let pages = [page(DATA, list.len() as i64, &list, &[1, 0, 3, 3])];
    let (rows, said) = read(&of_pages(LIST, 9, Compression::UNCOMPRESSED, &pages));
    assert!(rows.len() < 2 && said.contains("holds 1 rows of 9"), "{} {said}", rows.len());
    // A second page whose header is damaged: what stands before it is read.
    let pages = [page(DATA, 10, &PLAIN, &TWO), vec![0xff; 30]];
    let (rows, said) = read(&of_pages(TEXT, 9, Compression::UNCOMPRESSED, &pages));
    assert!(said.contains("the header of page 2 of column `text` is damaged"), "{said}");
    assert!(rows.len() <= 2);
}

/// Rows of an honest file: a number, a list that is sometimes empty, and a text that begins like the one before.
fn honest(properties: WriterProperties, rows: usize, text: &dyn Fn(usize) -> String) -> Vec<u8> {
    let schema = "message m { required int64 id; repeated binary words (UTF8); optional binary text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let ids: Vec<i64> = (0..rows as i64).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
    column.close().unwrap();
    let (mut words, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows {
        let count = row * 7 % 60;
        words.extend((0..count).map(|i| ByteArray::from(format!("w{}", i % 5).as_str())));
        definition.extend(std::iter::repeat_n(i16::from(count > 0), count.max(1)));
        repetition.extend((0..count.max(1)).map(|i| i16::from(i > 0)));
    }
    let mut column = group.next_column().unwrap().unwrap();
    let levels = (Some(&definition[..]), Some(&repetition[..]));
    column.typed::<ByteArrayType>().write_batch(&words, levels.0, levels.1).unwrap();
    column.close().unwrap();
    let texts = (0..rows).filter(|row| row % 3 != 0).map(|row| ByteArray::from(text(row).as_str()));
    let there: Vec<i16> = (0..rows).map(|row| i16::from(row % 3 != 0)).collect();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<_> = texts.collect();
    column.typed::<ByteArrayType>().write_batch(&texts, Some(&there), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[track_caller]
fn read_whole(bytes: &[u8], rows: usize, text: &dyn Fn(usize) -> String, how: &str) {
    let (found, said) = read(bytes);
    assert_eq!((found.len(), said.as_str()), (rows, ""), "{how}");
    for (row, record) in found.iter().enumerate() {
        let words = record.get("words").unwrap().as_array().unwrap();
        assert_eq!(words.len(), row * 7 % 60, "{how}, row {row}");
        assert!(words.iter().enumerate().all(|(i, word)| *word == format!("w{}", i % 5)), "{how}");
        let wanted = (row % 3 != 0).then(|| text(row));
        assert_eq!(record.get("text").unwrap().as_str(), wanted.as_deref(), "{how}, row {row}");
    }
}

#[test]
fn honest_files_of_every_encoding_are_read() {
    let text = |row: usize| format!("{} and then {row}", "once upon a time ".repeat(row % 9));
    let encodings = [
        None,
        Some(Encoding::PLAIN),
        Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        Some(Encoding::DELTA_BYTE_ARRAY),
    ];
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, ZSTD(), GZIP()] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for encoding in encodings {
                let mut properties = WriterProperties::builder()
                    .set_compression(compression)
                    .set_writer_version(version)
                    .set_data_page_row_count_limit(100)
                    .set_write_batch_size(50)
                    .set_dictionary_enabled(encoding.is_none());
                for column in ["words", "text"] {
                    if let Some(encoding) = encoding {
                        properties = properties.set_column_encoding(column.into(), encoding);
                    }
                }
                let how = format!("{compression}, {version:?}, {encoding:?}");
                read_whole(&honest(properties.build(), 1000, &text), 1000, &text, &how);
            }
        }
    }
}

/// Pages may be larger than usual, and texts that repeat pack very well.
#[test]
fn honest_files_of_large_pages_are_read() {
    let text = |row: usize| format!("{}{row}", "The same long instruction again. ".repeat(300));
    for compression in [ZSTD(), GZIP()] {
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(false)
            .set_data_page_size_limit(64 << 20);
        let bytes = honest(properties.build(), 900, &text);
        assert!(bytes.len() < 60_000, "{} bytes for 6 MB of text", bytes.len());
        read_whole(&bytes, 900, &text, &compression.to_string());
    }
}

#[test]
fn a_day_that_is_in_no_calendar_is_a_bad_row_and_the_next_is_read() {
    let days = [0, i32::MAX, 1].map(i32::to_le_bytes).concat();
    let three = [3, 0, 3, 3];
    let schema = "message m { required int32 d (DATE); }";
    let bytes = of_pages(schema, 3, Compression::UNCOMPRESSED, &[page(DATA, 12, &days, &three)]);
    let (_folder, path) = file("rows.parquet", bytes);
    let all: Vec<_> = open(&path, &ReadOptions::default()).unwrap().collect();
    let bad = all[1].as_ref().unwrap_err();
    assert!(!bad.fatal && bad.to_string().contains("row 1"), "{bad}");
    assert!(bad.to_string().contains("in no calendar"), "{bad}");
    assert_eq!(all[2].as_ref().unwrap().get("d"), Some(&serde_json::json!("1970-01-02")));
}
