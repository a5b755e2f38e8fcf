//! A desk for tests of the command line: a temporary folder with a toy model and rows, and the program.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::toy;

/// A folder with a toy model and rows.
pub struct Desk {
    dir: tempfile::TempDir,
    program: &'static str,
}

impl Desk {
    /// A new one, for a program.
    pub fn new(program: &'static str) -> Desk {
        let dir = tempfile::tempdir().expect("a temporary folder");
        toy::write_model(&dir.path().join("model"));
        toy::write_rows(&dir.path().join("rows.json"), 120);
        Desk { dir, program }
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `core-cli ARGS` (cut at white space) in the folder, not started yet.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(self.program);
        command.current_dir(self.dir.path()).args(args.split_whitespace());
        command
    }

    /// Runs `core-cli ARGS` (cut at white space) and expects an exit code.
    pub fn run(&self, args: &str, code: i32) -> (String, String) {
        let output = self.command(args).output().expect("core-cli starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
        let Output { status, stdout, stderr } = output;
        let (out, err) = (text(&stdout), text(&stderr));
        assert_eq!(status.code(), Some(code), "core-cli {args}\n{out}\n{err}");
        (out, err)
    }

    /// A file's bytes.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A file's lines of JSON.
    pub fn json_lines(&self, name: &str) -> Vec<Value> {
        let text = String::from_utf8(self.bytes(name)).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The loss of each of a run's steps.
    pub fn losses(&self, run: &str) -> Vec<f64> {
        let lines = self.json_lines(&format!("{run}/metrics.jsonl"));
        let steps = lines.iter().filter(|l| l["kind"] == "step");
        steps.map(|l| l["loss"].as_f64().expect("a loss")).collect()
    }
}
