//! Rows of data files.

use std::cell::RefCell;
use std::io::Write;

use paddock_datasets::readers::{ReadOptions, open};

use super::Parser;

/// Rows of an input that are looked at.
const MOST_ROWS: usize = 20_000;

thread_local! {
    static DESK: RefCell<tempfile::TempDir> =
        RefCell::new(tempfile::tempdir().expect("a temporary folder"));
}

/// Opens the bytes as a data file of this name and reads its rows.
fn rows(name: &str, bytes: &[u8]) {
    DESK.with_borrow(|desk| {
        let path = desk.path().join(name);
        std::fs::File::create(&path).and_then(|mut f| f.write_all(bytes)).expect("a file");
        for skip_bad in [false, true] {
            let options = ReadOptions { skip_bad, ..ReadOptions::default() };
            if let Ok(rows) = open(&path, &options) {
                _ = rows.take(MOST_ROWS).count();
            }
        }
    });
}

pub(super) fn parsers() -> Vec<Parser> {
    vec![
        Parser {
            name: "jsonl",
            read: |bytes| rows("rows.jsonl", bytes),
            seeds: &["datasets/bundled/seeds/seeds.jsonl"],
            more: &[b"{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\":\"c\",\"output\":3}\n"],
        },
        Parser {
            name: "json",
            read: |bytes| rows("rows.json", bytes),
            seeds: &[],
            more: &[
                b"[{\"prompt\":\"a\",\"completion\":\"b\"},{\"prompt\":\"c\",\"completion\":\"d\"}]",
                b"[{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}]}]",
                b"{\"Definition\":[\"d\"],\"Instances\":[{\"input\":\"a\",\"output\":[\"b\"]}]}",
            ],
        },
        Parser {
            name: "csv",
            read: |bytes| rows("rows.csv", bytes),
            seeds: &[],
            more: &[
                b"text,label\n\"a, \"\"b\"\"\nc\",good\nd,bad\n",
                b"a;b;c\r\n1;2;3\r\n\"x\ny\";5;6\r\n",
                b"a\tb\n1\t2\n",
            ],
        },
        Parser {
            name: "fasttext",
            read: |bytes| rows("rows.txt", bytes),
            seeds: &[],
            more: &[b"__label__1 good thing\n__label__2 __label__3 bad thing\n"],
        },
        Parser {
            name: "parquet",
            read: |bytes| rows("rows.parquet", bytes),
            seeds: &["tests/fuzz/seeds/rows.parquet"],
            more: &[],
        },
        Parser {
            name: "packed",
            read: |bytes| {
                rows("rows.jsonl.gz", bytes);
                rows("rows.jsonl.zst", bytes);
            },
            seeds: &["tests/fuzz/seeds/rows.jsonl.gz", "tests/fuzz/seeds/rows.jsonl.zst"],
            more: &[],
        },
    ]
}
