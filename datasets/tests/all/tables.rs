//! Tables as they are written and read back, and those that other programs write.

use std::path::Path;

use crate::common::file;
use paddock_datasets::readers::{ReadOptions, open};
use paddock_datasets::record::Record;
use paddock_datasets::writers::{RowWriter, form_of};
use serde_json::{Value, json};

fn good(path: &Path) -> Vec<Record> {
    open(path, &ReadOptions::default()).unwrap().map(|row| row.unwrap()).collect()
}

fn written(name: &str, rows: &[Value]) -> std::io::Result<Vec<u8>> {
    let mut writer = RowWriter::new(Vec::new(), form_of(Path::new(name)).unwrap());
    for row in rows {
        writer.row(row.as_object().unwrap())?;
    }
    writer.finish()
}

#[test]
fn a_table_comes_back_as_it_was_written() {
    let row = |text: &str| json!({"text": text, "label": "a \"b\" c"});
    let plain = ["He said \"hi\"", "\"all\" of it\"", "a, b; c", "\"", "it's"].map(row);
    let broken = ["one\ntwo", "one\ttwo", "one\r"].map(row);
    for name in ["a.tsv", "a.csv"] {
        let mut rows = plain.to_vec();
        if name == "a.csv" {
            rows.extend_from_slice(&broken);
        }
        let (_guard, path) = file(name, written(name, &rows).unwrap());
        let found = good(&path);
        assert_eq!(found.len(), rows.len(), "{name}");
        for (found, row) in found.iter().zip(&rows) {
            assert_eq!(Value::Object(found.columns.clone()), *row, "{name}");
        }
    }
    for row in broken {
        let error = written("a.tsv", &[plain[0].clone(), row]).unwrap_err().to_string();
        assert!(error.contains("row 1") && error.contains("write .jsonl"), "{error}");
    }
    let head = written("a.tsv", &[json!({"a\tb": "1"})]).unwrap_err().to_string();
    assert!(head.contains("holds a tab or a line break"), "{head}");
}

#[test]
fn a_table_with_row_numbers_under_no_name_has_a_header() {
    let (_guard, path) = file("a.csv", ",text,label\n0,good,1\n1,bad,0\n");
    let found = good(&path);
    assert_eq!(found.len(), 2);
    let row = json!({"column_1": "0", "text": "good", "label": "1"});
    assert_eq!(Value::Object(found[0].columns.clone()), row);
    // Without numbers, an empty field is data.
    let (_guard, path) = file("a.csv", ",text,label\nx,good,1\n");
    assert_eq!(good(&path).len(), 2);
}

#[test]
fn f28_a_row_with_an_open_quote_is_never_left_out() {
    let text = "text,label\na,b\nwhat,\"is\n".to_string() + &"c,d\n".repeat(50);
    let (_guard, path) = file("a.csv", text);
    let options = ReadOptions { skip_bad: true, ..ReadOptions::default() };
    let all: Vec<_> = open(&path, &options).unwrap().collect();
    assert_eq!(all.iter().filter(|row| row.is_ok()).count(), 1);
    let bad = all.last().unwrap().as_ref().unwrap_err();
    assert!(bad.fatal && bad.to_string().contains("a quote that is never closed"), "{bad}");
}

#[test]
fn thousands_of_columns_take_linear_time() {
    let names: Vec<String> = (0..20_000).map(|i| format!("c{i}")).collect();
    let line = vec!["1"; names.len()].join(",");
    let (_guard, path) = file("a.csv", format!("{}\n{line}\n{line}\n", names.join(",")));
    let start = std::time::Instant::now();
    let rows: Vec<Value> = good(&path).into_iter().map(|row| row.columns.into()).collect();
    assert_eq!(rows[1].as_object().unwrap().len(), names.len());
    for _ in 0..20 {
        written("a.csv", &rows).unwrap();
    }
    // Far below what a quadratic method would need, far above what a loaded machine adds.
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
