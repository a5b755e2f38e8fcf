//! A rendered row as a person sees it: what is trained apart from what is not, special tokens visible.

use std::io::IsTerminal;

use paddock_datasets::encode::encode;
use paddock_datasets::template::Rendered;
use paddock_datasets::tokenizer::Tokenizer;

/// How parts are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Green is trained, grey is not, special tokens stand in reverse.
    Colour,
    /// `⟦trained⟧`, `‹special›`, the rest is not trained.
    Marks,
}

impl Look {
    /// Colours on a terminal, unless NO_COLOR is set.
    pub fn of_stdout() -> Look {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stdout().is_terminal() && !refused { Look::Colour } else { Look::Marks }
    }

    /// One line that explains the look.
    pub fn legend(self) -> &'static str {
        match self {
            Look::Colour => {
                "\x1b[32mgreen: trained\x1b[0m  \x1b[2mgrey: given, not trained\x1b[0m  \
                 \x1b[7m reverse: special tokens \x1b[0m"
            }
            Look::Marks => "⟦trained⟧  given, not trained  ‹special tokens›",
        }
    }
}

/// A piece of the row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its text; a token that is half a character adds its text to the next one.
    pub text: String,
    /// Whether the loss counts it.
    pub trained: bool,
    /// Whether it is a special token.
    pub special: bool,
    /// What it marks: `BOS`, a beginning; `EOS`, the end of an answer; or nothing.
    pub mark: &'static str,
}

/// The row as one text. With a tokenizer it is the tokens that training sees, BOS and EOS included; without
/// one the text, where the end of each answer is marked.
pub fn row(
    look: Look,
    tokenizer: Option<&Tokenizer>,
    rendered: &Rendered,
) -> anyhow::Result<String> {
    Ok(paint(look, &pieces(tokenizer, rendered)?))
}

/// The row in pieces: its tokens as training sees them, or its spans where there is no tokenizer.
pub fn pieces(tokenizer: Option<&Tokenizer>, rendered: &Rendered) -> anyhow::Result<Vec<Piece>> {
    match tokenizer {
        Some(tokenizer) => tokens(tokenizer, rendered),
        None => Ok(spans(rendered)),
    }
}

fn tokens(tokenizer: &Tokenizer, rendered: &Rendered) -> anyhow::Result<Vec<Piece>> {
    let encoding = encode(tokenizer, rendered)?;
    let mut pieces = Vec::new();
    let mut decoder = tokenizer.stream_decoder(&[], true);
    let mut last = false;
    for (id, trained) in encoding.tokens.iter().zip(&encoding.trained) {
        if tokenizer.is_special(*id) {
            let rest = decoder.finish()?;
            pieces.push(Piece { text: rest, trained: last, ..Piece::default() });
            decoder = tokenizer.stream_decoder(&[], true);
            let text = tokenizer.token_text(*id).unwrap_or_else(|| format!("token {id}"));
            let mark = match *id {
                id if tokenizer.bos() == Some(id) => "BOS",
                id if tokenizer.stops().contains(&id) => "EOS",
                _ => "",
            };
            pieces.push(Piece { text, trained: *trained, special: true, mark });
        } else {
            let text = decoder.push(*id)?;
            pieces.push(Piece { text, trained: *trained, ..Piece::default() });
        }
        last = *trained;
    }
    pieces.push(Piece { text: decoder.finish()?, trained: last, ..Piece::default() });
    Ok(pieces)
}

fn spans(rendered: &Rendered) -> Vec<Piece> {
    let piece = |span: &paddock_datasets::template::Span| Piece {
        text: rendered.text[span.range.clone()].to_string(),
        trained: span.trained,
        ..Piece::default()
    };
    rendered.spans.iter().map(piece).collect()
}

fn paint(look: Look, pieces: &[Piece]) -> String {
    let mut out = String::new();
    let mut open = false;
    for piece in pieces.iter().filter(|piece| !piece.text.is_empty()) {
        let text = visible(&piece.text);
        match look {
            Look::Colour => {
                let colour = if piece.trained { "32" } else { "2" };
                let reverse = if piece.special { ";7" } else { "" };
                out.push_str(&format!("\x1b[{colour}{reverse}m{text}\x1b[0m"));
            }
            Look::Marks => {
                if piece.trained != open {
                    out.push(if piece.trained { '⟦' } else { '⟧' });
                    open = piece.trained;
                }
                if piece.special {
                    out.push_str(&format!("‹{text}›"));
                } else {
                    out.push_str(&text);
                }
            }
        }
    }
    if open {
        out.push('⟧');
    }
    out
}

/// Text from a file must not steer the terminal.
pub fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => '\u{fffd}',
        // Marks that turn the direction of writing would hide what stands there.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(shown).collect()
}

/// At most `most` characters on one line.
pub fn short(text: &str, most: usize) -> String {
    let line = visible(text).replace('\n', "⏎");
    if line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{cut}…")
}

/// Rows by length as bars, one line for each power of two.
pub fn histogram(lengths: &std::collections::BTreeMap<u64, u64>) -> String {
    let most = lengths.values().copied().max().unwrap_or(1).max(1);
    let mut out = String::new();
    for (bound, rows) in lengths {
        let eighths = (rows * 40 * 8).div_ceil(most) as usize;
        let (full, part) = (eighths / 8, eighths % 8);
        let mut bar = "█".repeat(full);
        if part > 0 {
            bar.extend("▏▎▍▌▋▊▉".chars().nth(part - 1));
        }
        out.push_str(&format!("  up to {bound:>7}  {rows:>9}  {bar}\n"));
    }
    out
}
