//! All texts of a recipe in one file of rows, in a mixed order that the seed decides.

use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::Context;
use paddock_core::philox::{Philox, Stream};
use paddock_datasets::readers::{self, ReadOptions, UnpackLimits, check_text, source};
use paddock_datasets::record::BadRowKind;
use paddock_datasets::stories;
use serde_json::{Value, json};

use super::recipe::Texts;
use crate::error::bad_input;

/// The line that parts documents of a plain text file.
const PART: &str = "<|endoftext|>";

/// Between two words about the progress.
const SAY_EVERY: u64 = 20_000;

/// Writes the corpus: documents of the files spread evenly among the stories.
pub fn write(
    texts: &Texts,
    seed: u64,
    path: &Path,
    said: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for file in &texts.files {
        let found = documents_of(Path::new(file))?;
        said(&format!("{file}: {} documents", found.len()));
        documents.extend(found);
    }
    let times = u64::from(texts.times.unwrap_or(1));
    let (from_files, told) = (documents.len() as u64 * times, texts.stories);
    let total = from_files + told;
    let random = Philox::new(seed, Stream::GENERATE);
    let mut stories = stories::books(seed);
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    let (mut used, mut next) = (0, 0);
    for i in 0..total {
        // Of what is left, each text is as likely as any other to come next.
        let take_file = random.below(1, i, total - i) < from_files - used;
        let text = if take_file {
            let document = &documents[next];
            next = (next + 1) % documents.len();
            used += 1;
            document.clone()
        } else {
            stories.next().unwrap_or_default()
        };
        serde_json::to_writer(&mut out, &json!({ "text": text }))?;
        out.write_all(b"\n")?;
        if (i + 1).is_multiple_of(SAY_EVERY) {
            said(&format!("texts: {} of {total}", i + 1));
        }
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

/// The documents of a file.
fn documents_of(path: &Path) -> anyhow::Result<Vec<String>> {
    let name = path.display();
    if !path.is_file() {
        return Err(bad_input(format!("{name}: there is no such file")));
    }
    let stem = path.to_string_lossy().to_lowercase();
    let plain = stem.trim_end_matches(".gz").trim_end_matches(".zst");
    if plain.ends_with(".txt") || plain.ends_with(".md") {
        return plain_documents(path);
    }
    let mut documents = Vec::new();
    for record in readers::open(path, &ReadOptions::default())? {
        let record = record.map_err(|bad| bad_input(format!("{name}: {bad}")))?;
        match record.get("text") {
            Some(Value::String(text)) => documents.push(text.clone()),
            _ => return Err(bad_input(format!("{name}: a row has no text in a column `text`"))),
        }
    }
    Ok(documents)
}

fn plain_documents(path: &Path) -> anyhow::Result<Vec<String>> {
    let (name, mut bytes) = (path.display(), Vec::new());
    let mut file = source::open_source(path, UnpackLimits::default())?;
    file.reader.read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    let text = check_text(&bytes).map_err(|kind| {
        let what = match kind {
            BadRowKind::Nul { at } => {
                format!("holds a NUL byte at byte {}", at as u64 + file.skipped)
            }
            BadRowKind::Utf8 { at, byte } => {
                format!("is no UTF-8 text: byte 0x{byte:02x} at byte {}", at as u64 + file.skipped)
            }
            other => other.to_string(),
        };
        bad_input(format!("{name}: {what}; save it as plain text in UTF-8"))
    })?;
    let documents = text.split(PART).map(|d| d.trim().to_string());
    Ok(documents.filter(|d| !d.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f26_texts_are_checked_as_rows_are() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("text.md");
        let wide: Vec<u8> = "Once there was".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let refused: [(&[u8], &str); 5] = [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
            (b"<!DOCTYPE html><html>Once</html>", "is an HTML page"),
            (&wide, "is encoded as UTF-16"),
            (b"\xef\xbb\xbfOnce \0 there", "holds a NUL byte at byte 8; save it as plain text"),
            (b"Once \xff there", "is no UTF-8 text: byte 0xff at byte 5"),
        ];
        for (bytes, words) in refused {
            std::fs::write(&path, bytes).expect("a file");
            let error = documents_of(&path).expect_err(words);
            assert_eq!(crate::error::exit_code(&error), 2, "{error:#}");
            let error = error.to_string();
            assert!(error.contains("text.md") && error.contains(words), "{error}");
        }
        std::fs::write(&path, "\u{feff}Once\n<|endoftext|>\n\nTwice\n").expect("a file");
        assert_eq!(documents_of(&path).expect("documents"), ["Once", "Twice"]);
    }
}
