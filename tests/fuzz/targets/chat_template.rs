#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use paddock_tests::parsers::{Parser, for_fuzzer};

static PARSER: LazyLock<Parser> = LazyLock::new(|| for_fuzzer("chat_template"));

fuzz_target!(|bytes: &[u8]| (PARSER.read)(bytes));
