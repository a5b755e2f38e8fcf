#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use paddock_tests::parsers::{Parser, parser};

static PARSER: LazyLock<Parser> = LazyLock::new(|| parser("jinja"));

fuzz_target!(|bytes: &[u8]| (PARSER.read)(bytes));
