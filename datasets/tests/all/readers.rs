//! Readers on small files, good and bad.

use crate::common::{file, gzip, shared};
use paddock_datasets::readers::csv::TableChoice;
use paddock_datasets::readers::{Format, Layout, ReadOptions, Rows, UnpackLimits, open};
use paddock_datasets::record::Record;
use serde_json::json;

fn rows(path: &std::path::Path) -> Rows {
    open(path, &ReadOptions::default()).unwrap()
}

fn good(path: &std::path::Path) -> Vec<Record> {
    rows(path).map(|r| r.unwrap()).collect()
}

fn refusal(name: &str, content: &[u8]) -> String {
    let (_guard, path) = file(name, content);
    match open(&path, &ReadOptions::default()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{name} was accepted"),
    }
}

#[test]
fn a_json_array_is_streamed_and_its_layout_told() {
    let text = r#" [ {"instruction":"a, ] \" b","input":"","output":"x"},
        {"instruction":"c","input":"d","output":{"n":[1,2]}} ] "#;
    let (_guard, path) = file("a.json", text);
    let found = good(&path);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].get("instruction"), Some(&json!("a, ] \" b")));
    assert_eq!((found[1].row, found[1].line), (1, Some(2)));
    let detected = rows(&path).detected().clone();
    assert_eq!((detected.format, detected.layout), (Format::Json, Layout::Alpaca));
    assert!(detected.why.contains("begins with ["), "{}", detected.why);
    let (_guard, packed) = file("a.json.gz", gzip(text.as_bytes()));
    assert_eq!(good(&packed), found);
    assert_eq!(rows(&packed).detected().compression, "gzip");
    let (_guard, packed) = file("x", zstd::encode_all(text.as_bytes(), 3).unwrap());
    assert_eq!(good(&packed), found);
}

#[test]
fn a_broken_element_is_reported_and_the_next_one_read() {
    let (_guard, path) = file("a.json", r#"[{"a":1},{"a" 2},3,{"a":4}]"#);
    let all: Vec<_> = rows(&path).collect();
    assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 2);
    let bad = all[1].as_ref().unwrap_err().to_string();
    assert!(bad.contains("row 1 (line 1, byte 9)") && bad.contains("broken JSON"), "{bad}");
    let bad = all[2].as_ref().unwrap_err().to_string();
    assert!(bad.contains("found a number where one object a row"), "{bad}");
}

#[test]
fn a_cut_off_array_says_so() {
    for text in [r#"[{"a":1},{"a":2"#, r#"[{"a":1},{"a":2}"#, r#"[{"a":1}"#] {
        let (_guard, path) = file("a.json", text);
        let last = rows(&path).last().unwrap().unwrap_err();
        assert!(last.fatal && last.to_string().contains("the file ends inside"), "{last}");
    }
}

#[test]
fn json_readers_never_panic_or_hang() {
    for text in [
        "[",
        "]",
        "[,]",
        "[,,,]",
        "[}{]",
        "{}{}",
        "{\"a\":1}\n{\"a\":2}",
        "[\"",
        "[[[[",
        "{",
        "[1]2",
    ] {
        for name in ["a.json", "a.jsonl", "a.csv"] {
            let (_guard, path) = file(name, text);
            if let Ok(rows) = open(&path, &ReadOptions::default()) {
                assert!(rows.take(100).count() < 100, "{text} as {name} does not end");
            }
        }
    }
    let deep = "[".repeat(100_000);
    let (_guard, path) = file("deep.json", &deep);
    assert!(rows(&path).next().unwrap().is_err());
}

#[test]
fn jsonl_reports_every_bad_line_with_its_place() {
    let text = b"{\"a\":1}\n\n{\"a\":\n{\"a\":\"\xff\"}\n{\"a\":\"x\0y\"}\n[1]\n{\"a\":2}\r\n";
    let (_guard, path) = file("a.jsonl", text);
    let mut rows = rows(&path);
    let good: Vec<_> = rows.by_ref().filter_map(|r| r.ok()).collect();
    assert_eq!(good.iter().map(|r| r.line.unwrap()).collect::<Vec<_>>(), [1, 7]);
    assert_eq!(rows.bad().total, 4);
    let words: Vec<String> = rows.bad().first.iter().map(|b| b.to_string()).collect();
    assert!(words[0].contains("line 3, byte 9"), "{}", words[0]);
    assert!(words[1].contains("byte 0xff at byte 6"), "{}", words[1]);
    assert!(words[2].contains("NUL byte at byte 7"), "{}", words[2]);
    assert!(words[3].contains("found a list"), "{}", words[3]);
}

#[test]
fn csv_follows_rfc_4180() {
    let text = "text,label\r\n\"a, \"\"b\"\"\nsecond line\",1\r\nplain,0\r\n";
    let (_guard, path) = file("a.csv", text);
    let found = good(&path);
    assert_eq!(found[0].get("text"), Some(&json!("a, \"b\"\nsecond line")));
    assert_eq!(found[1].get("label"), Some(&json!("0")));
    assert_eq!(found[1].line, Some(4));
}

#[test]
fn csv_rows_of_another_width_are_bad_rows() {
    let (_guard, path) = file("a.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n");
    let all: Vec<_> = rows(&path).collect();
    assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 2);
    let bad = all[1].as_ref().unwrap_err().to_string();
    assert!(
        bad.contains("row 1 (line 3") && bad.contains("has 1 fields, the header has 2"),
        "{bad}"
    );
}

#[test]
fn the_delimiter_and_header_are_told_and_named() {
    let (_guard, path) = file("a.csv", "text;label\nhello, you;1\nwell, yes, so;0\n");
    let found = rows(&path);
    assert_eq!(found.detected().columns, ["text", "label"]);
    assert!(found.detected().why.contains("separated by ';'"), "{}", found.detected().why);
    let (_guard, path) = file("a.tsv", "1\tit 's \"good\n0\tbad , very\n");
    let found = rows(&path);
    assert!(found.detected().why.contains("looks like data"), "{}", found.detected().why);
    assert_eq!(found.detected().columns, ["column_1", "column_2"]);
    assert_eq!(good(&path)[0].get("column_2"), Some(&json!("it 's \"good")));
}

#[test]
fn an_unclosed_quote_does_not_eat_the_memory() {
    let mut text = b"a,b\n1,2\n\"never closed,".to_vec();
    text.resize(8 << 20, b'x');
    let (_guard, path) = file("a.csv", text);
    let options = ReadOptions { max_row_bytes: 1 << 16, ..ReadOptions::default() };
    let last = open(&path, &options).unwrap().last().unwrap().unwrap_err();
    assert!(last.fatal && last.to_string().contains("row limit of 65536 bytes"), "{last}");
}

#[test]
fn rows_above_the_cap_are_named_and_skipped() {
    let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(100_000));
    let options = ReadOptions { max_row_bytes: 50_000, ..ReadOptions::default() };
    for text in
        [format!("{{\"a\":1}}\n{long}{{\"a\":2}}\n"), format!("[{{\"a\":1}},{long},{{\"a\":2}}]")]
    {
        let (_guard, path) = file("a.json", text);
        let all: Vec<_> = open(&path, &options).unwrap().collect();
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 2);
        assert!(all[1].as_ref().unwrap_err().to_string().contains("longer than the row limit"));
    }
}

#[test]
fn fasttext_lines() {
    let (_guard, path) =
        file("a.txt", "__label__pos good film\n__label__a __label__b both\nnone\n");
    let all: Vec<_> = rows(&path).collect();
    let first = all[0].as_ref().unwrap();
    assert_eq!(first.get("label"), Some(&json!("pos")));
    assert_eq!(first.get("text"), Some(&json!("good film")));
    assert_eq!(all[1].as_ref().unwrap().get("label"), Some(&json!(["a", "b"])));
    assert!(all[2].is_err());
}

#[test]
fn what_is_no_data_is_named() {
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    assert!(refusal("a.json", lfs).contains("Git LFS pointer"));
    assert!(refusal("a.json", b"<!DOCTYPE html><html></html>").contains("an HTML page"));
    assert!(refusal("a.csv", b"\xff\xfea\0,\0b\0").contains("UTF-16, little end first"));
    assert!(refusal("a.csv", b"a\0,\0b\0\n\x001\0,\x002\0").contains("UTF-16, little end first"));
    assert!(refusal("a.csv", b"\0a\0,\0b\0\n").contains("UTF-16, big end first"));
    assert!(refusal("a.json", b"").contains("is empty"));
    assert!(refusal("a.json", b"PK\x03\x04zip").contains("a zip archive"));
    assert!(refusal("a.json", b"\x80\x04pickle").contains("pickle"));
    assert!(refusal("a.parquet", b"PAR1 and nothing more").contains("Parquet"));
    let (_guard, path) = file("a.csv", "a,a\n1,2\n");
    let table = TableChoice { header: Some(true), ..TableChoice::default() };
    let options = ReadOptions { table, ..ReadOptions::default() };
    let error = open(&path, &options).err().unwrap().to_string();
    assert!(error.contains("two columns called \"a\""), "{error}");
}

#[test]
fn a_byte_order_mark_changes_nothing_but_a_note() {
    let (_guard, path) = file("a.csv", "\u{feff}text,label\nx,1\n");
    assert!(rows(&path).notes()[0].contains("byte-order mark"));
    assert_eq!(good(&path)[0].get("text"), Some(&json!("x")));
    let (_guard, path) = file("a.jsonl", "\u{feff}{\"text\":\"x\"}\n");
    assert_eq!(good(&path)[0].byte, Some(3));
}

#[test]
fn an_archive_made_to_burst_is_stopped() {
    let (_guard, path) = file("a.jsonl.gz", gzip(&vec![b' '; 32 << 20]));
    let tight = UnpackLimits { ratio: 500, total: 1 << 20 };
    let options = ReadOptions { unpack: tight, ..ReadOptions::default() };
    let last = open(&path, &options).unwrap().last().unwrap().unwrap_err();
    assert!(last.fatal && last.to_string().contains("no ordinary data file"), "{last}");
}

#[test]
fn layouts_are_told_and_can_be_stated() {
    for (row, layout) in [
        (r#"{"prompt":"a","completion":"b"}"#, Layout::PromptCompletion),
        (r#"{"conversations":[]}"#, Layout::ShareGpt),
        (r#"{"messages":[]}"#, Layout::Messages),
        (r#"{"prompt":"a","chosen":"b","rejected":"c"}"#, Layout::Preference),
        (r#"{"instruction":"a","instances":[]}"#, Layout::SelfInstructSeed),
        (r#"{"review":"a","stars":5}"#, Layout::Table),
    ] {
        let (_guard, path) = file("a.jsonl", format!("{row}\n"));
        assert_eq!(rows(&path).detected().layout, layout);
        let options = ReadOptions { layout: Some(Layout::Table), ..ReadOptions::default() };
        assert_eq!(open(&path, &options).unwrap().detected().layout, Layout::Table);
    }
}

#[test]
fn shared_files_are_read_whole() {
    for (name, format, layout, count) in [
        ("instruct/alpaca_data.json.gz", Format::Json, Layout::Alpaca, 52_002),
        ("instruct/seed_tasks.jsonl", Format::Jsonl, Layout::SelfInstructSeed, 175),
        ("sentiment/uci_sentences/imdb_labelled.txt", Format::Tsv, Layout::Table, 1000),
        ("sentiment/sst2/dev.tsv.gz", Format::Tsv, Layout::Table, 872),
        (
            "flan/superni/task363_sst2_polarity_classification/test.json.gz",
            Format::Task,
            Layout::SuperNaturalInstructions,
            100,
        ),
        ("summarization/samsum/test.jsonl.gz", Format::Jsonl, Layout::Table, 819),
        ("instruct/llama_factory/dpo_en_demo.json.gz", Format::Json, Layout::Preference, 300),
        ("instruct/llama_factory/kto_en_demo.json.gz", Format::Json, Layout::Messages, 300),
    ] {
        let Some(path) = shared(name) else { continue };
        let mut found = rows(&path);
        assert_eq!((found.detected().format, found.detected().layout), (format, layout), "{name}");
        let read = found.by_ref().filter(|r| r.is_ok()).count();
        assert_eq!((read, found.bad().total), (count, 0), "{name}");
    }
}

/// A Parquet file of two columns.
fn parquet_bytes(rows: i64) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    let schema = "message rows { required binary text (UTF8); required int64 label; }";
    let schema = std::sync::Arc::new(parse_message_type(schema).unwrap());
    let properties = std::sync::Arc::new(WriterProperties::builder().build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts: Vec<ByteArray> =
        (0..rows).map(|n| ByteArray::from(format!("text {n}").as_str())).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let labels: Vec<i64> = (0..rows).map(|n| n % 2).collect();
    column.typed::<Int64Type>().write_batch(&labels, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_is_read_packed_or_not() {
    let bytes = parquet_bytes(3000);
    let zstd = zstd::encode_all(&bytes[..], 3).unwrap();
    for (name, bytes) in
        [("a.parquet", bytes.clone()), ("a.parquet.gz", gzip(&bytes)), ("a.parquet.zst", zstd)]
    {
        let (_guard, path) = file(name, bytes);
        let found = rows(&path);
        assert_eq!(found.detected().format, Format::Parquet);
        let all = good(&path);
        assert_eq!((all.len(), all[2999].get("text")), (3000, Some(&json!("text 2999"))), "{name}");
        assert_eq!(all[2999].get("label"), Some(&json!(1)));
    }
    // Cut off: refused with a word, packed or not.
    let cut = &bytes[..bytes.len() / 2];
    assert!(refusal("a.parquet", cut).contains("begins like a Parquet file but cannot be read"));
    assert!(refusal("a.parquet.gz", &gzip(cut)).contains("begins like a Parquet file"));
}

#[test]
fn an_object_keyed_by_ids_is_read_in_linear_time_and_its_columns_are_not_all_told() {
    let columns: serde_json::Map<_, _> =
        (0..100_000).map(|id| (format!("id{id:06}"), json!(id))).collect();
    let (_guard, path) = file("a.jsonl", format!("{}\n", serde_json::Value::Object(columns)));
    let start = std::time::Instant::now();
    let found = rows(&path);
    assert_eq!(found.detected().columns.len(), 100_000);
    let told = &found.detected().why;
    assert!(told.contains("id000019 and 99980 more") && told.len() < 1000, "{told}");
    // Seconds where every name is compared with every other.
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    let template = paddock_datasets::template::Template::prompt();
    let error = template.render(&good(&path)[0]).unwrap_err().to_string();
    assert!(error.contains("and 99980 more") && error.len() < 1000, "{error}");
}

#[test]
fn short_floats_of_parquet_stay_short() {
    use parquet::data_type::{FixedLenByteArray, FixedLenByteArrayType, FloatType};
    use parquet::file::writer::SerializedFileWriter;
    let schema = "message rows { required float a; required fixed_len_byte_array(2) b (FLOAT16); }";
    let schema = parquet::schema::parser::parse_message_type(schema).unwrap().into();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let floats = [3.8f32, 0.1, -1e30, 2.0, f32::NAN];
    column.typed::<FloatType>().write_batch(&floats, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    // 3.8, 0.1, -2, 65504, not a number.
    let halves = [0x439au16, 0x2e66, 0xc000, 0x7bff, 0x7e00];
    let halves = halves.map(|half| FixedLenByteArray::from(half.to_le_bytes().to_vec()));
    column.typed::<FixedLenByteArrayType>().write_batch(&halves, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let (_guard, path) = file("a.parquet", bytes);
    let found: Vec<_> = good(&path).iter().map(|row| json!([row.get("a"), row.get("b")])).collect();
    let expected = json!([[3.8, 3.8], [0.1, 0.1], [-1e30, -2.0], [2.0, 65504.0], [null, null]]);
    assert_eq!(json!(found), expected);
}
