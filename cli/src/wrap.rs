//! Lines folded between words, where a terminal is narrower than they are.

/// Terminals narrower than this get their lines as they are.
#[cfg(unix)]
const NARROWEST: usize = 40;

/// Characters in a line of the terminal that standard output leads to; none where it leads to a file or a
/// program.
pub fn of_stdout() -> Option<usize> {
    width(std::io::stdout())
}

/// The same of standard error.
pub fn of_stderr() -> Option<usize> {
    width(std::io::stderr())
}

#[cfg(unix)]
fn width(stream: impl std::os::fd::AsFd) -> Option<usize> {
    let columns = rustix::termios::tcgetwinsize(stream).ok()?.ws_col;
    Some(usize::from(columns)).filter(|&columns| columns >= NARROWEST)
}

#[cfg(not(unix))]
fn width<S>(_: S) -> Option<usize> {
    None
}

/// `text` with lines of at most `width` characters where words allow it; what goes on in the next line is
/// indented by so many spaces.
pub fn folded(text: &str, width: Option<usize>, indent: usize) -> String {
    let Some(width) = width.filter(|&width| width > indent + 8) else { return text.to_string() };
    let lines: Vec<String> = text.split('\n').map(|line| fold(line, width, indent)).collect();
    lines.join("\n")
}

fn fold(line: &str, width: usize, indent: usize) -> String {
    let (mut out, mut rest, mut room) = (String::new(), line, width);
    loop {
        let Some((end, _)) = rest.char_indices().nth(room) else {
            out.push_str(rest);
            return out;
        };
        // Not within the blanks that a line begins with; a word longer than the line stays whole.
        let first = rest.len() - rest.trim_start().len();
        let fits = if rest[end..].starts_with(' ') { Some(end) } else { rest[..end].rfind(' ') };
        let cut = fits.filter(|&at| at > first);
        let Some(cut) = cut.or_else(|| Some(end + rest[end..].find(' ')?)) else {
            out.push_str(rest);
            return out;
        };
        out.push_str(rest[..cut].trim_end());
        rest = rest[cut..].trim_start();
        if rest.is_empty() {
            return out;
        }
        out.push('\n');
        out.push_str(&" ".repeat(indent));
        room = width - indent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_between_words_and_lose_none() {
        let text =
            "Memory     224 MB for the model, the rows and the program\n  short\n\nÄäh öde Wörter";
        let narrow = folded(text, Some(20), 4);
        assert!(narrow.lines().all(|line| line.chars().count() <= 20), "{narrow}");
        assert!(narrow.contains("\n    "), "{narrow}");
        let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        assert_eq!(words(&narrow), words(text));
        assert_eq!(folded(text, None, 4), text);
        assert_eq!(folded(text, Some(200), 4), text);
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let path = "/a/very/long/path/that/no/line/can/hold/report.html";
        let text = folded(&format!("  Open {path} in a browser"), Some(24), 2);
        assert_eq!(text, format!("  Open\n  {path}\n  in a browser"));
        assert_eq!(folded(path, Some(24), 2), path);
    }
}
