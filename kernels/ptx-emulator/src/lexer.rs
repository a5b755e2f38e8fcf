//! PTX text to tokens. Total: any input gives tokens or an error with its line.

use crate::error::SourceError;

/// One token. A word is anything that may name something: `add.rn.f32`, `%r1`, `.reg`, `$L_1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A name, with its dots and double colons.
    Word(&'a str),
    /// An integer without its sign.
    Int(u64),
    /// A float written in decimals.
    Float(f64),
    /// A float written as bits, `0f3F800000`.
    F32(u32),
    /// A double written as bits, `0d3FF0000000000000`.
    F64(u64),
    /// Any other single character.
    Punct(char),
}

/// A token and the line it stands on, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spanned<'a> {
    /// The token.
    pub token: Token<'a>,
    /// Its line.
    pub line: u32,
}

/// Cuts `source` into tokens; comments and white space vanish.
///
/// # Errors
/// An unclosed comment, a malformed number, or a character that PTX does not use.
pub fn tokens(source: &str) -> Result<Vec<Spanned<'_>>, SourceError> {
    if let Some(at) = source.find(|c: char| !c.is_ascii()) {
        let line = source[..at].matches('\n').count() as u32 + 1;
        let message = "PTX is ASCII, in comments too".to_string();
        return Err(SourceError { line, message });
    }
    let mut lexer = Lexer { source, at: 0, line: 1 };
    let mut out = Vec::new();
    while let Some(spanned) = lexer.next_token()? {
        out.push(spanned);
    }
    Ok(out)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
}

fn starts_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

impl<'a> Lexer<'a> {
    fn byte(&self, ahead: usize) -> u8 {
        self.source.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error(&self, message: String) -> SourceError {
        SourceError { line: self.line, message }
    }

    fn skip_blank(&mut self) -> Result<(), SourceError> {
        loop {
            match (self.byte(0), self.byte(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                (b'/', b'*') => {
                    let Some(length) = self.rest().find("*/") else {
                        return Err(self.error("a comment that begins here has no end".into()));
                    };
                    let lines = self.rest()[..length].bytes().filter(|&byte| byte == b'\n').count();
                    self.line += lines as u32;
                    self.at += length + 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn next_token(&mut self) -> Result<Option<Spanned<'a>>, SourceError> {
        self.skip_blank()?;
        let line = self.line;
        let first = self.byte(0);
        let token = if self.at >= self.source.len() {
            return Ok(None);
        } else if first.is_ascii_digit() {
            self.number()?
        } else if starts_word(first) {
            self.word()
        } else if b"{}[]()<>,;:+-|!@=*\"".contains(&first) {
            self.at += 1;
            Token::Punct(first as char)
        } else {
            let found = self.rest().chars().next().unwrap_or('?');
            return Err(self.error(format!("unexpected character {found:?}")));
        };
        Ok(Some(Spanned { token, line }))
    }

    fn word(&mut self) -> Token<'a> {
        let start = self.at;
        loop {
            let c = self.byte(0);
            if c == b':' && self.byte(1) == b':' {
                self.at += 2;
            } else if starts_word(c) || c.is_ascii_digit() {
                self.at += 1;
            } else {
                return Token::Word(&self.source[start..self.at]);
            }
        }
    }

    fn number(&mut self) -> Result<Token<'a>, SourceError> {
        let start = self.at;
        while self.byte(0).is_ascii_alphanumeric()
            || self.byte(0) == b'.'
            || (matches!(self.byte(0), b'+' | b'-') && self.is_exponent(start))
        {
            self.at += 1;
        }
        let text = &self.source[start..self.at];
        parse_number(text).ok_or_else(|| self.error(format!("`{text}` is no number")))
    }

    /// A sign belongs to a number only after the `e` of a decimal float.
    fn is_exponent(&self, start: usize) -> bool {
        let so_far = &self.source[start..self.at];
        so_far.ends_with(['e', 'E']) && so_far.contains('.')
    }
}

fn parse_number(text: &str) -> Option<Token<'static>> {
    let lower = text.to_ascii_lowercase();
    if let Some(digits) = lower.strip_prefix("0f") {
        return (digits.len() == 8).then(|| u32::from_str_radix(digits, 16).ok())?.map(Token::F32);
    }
    if let Some(digits) = lower.strip_prefix("0d") {
        return (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?.map(Token::F64);
    }
    if lower.contains('.') {
        return lower.parse().ok().map(Token::Float);
    }
    let digits = lower.trim_end_matches('u');
    let parsed = if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16)
    } else if let Some(binary) = digits.strip_prefix("0b") {
        u64::from_str_radix(binary, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    parsed.ok().map(Token::Int)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_lines() {
        let found = tokens("add.f32 %r1, 0f3F800000; // one\n/* a\nb */ -0x1F 1.5e-3 $L:").unwrap();
        let list: Vec<_> = found.iter().map(|spanned| (spanned.token, spanned.line)).collect();
        assert_eq!(
            list,
            [
                (Token::Word("add.f32"), 1),
                (Token::Word("%r1"), 1),
                (Token::Punct(','), 1),
                (Token::F32(0x3F80_0000), 1),
                (Token::Punct(';'), 1),
                (Token::Punct('-'), 3),
                (Token::Int(31), 3),
                (Token::Float(1.5e-3), 3),
                (Token::Word("$L"), 3),
                (Token::Punct(':'), 3),
            ]
        );
    }

    #[test]
    fn bad_text_names_its_line() {
        assert_eq!(tokens("\n 12zz").unwrap_err().line, 2);
        assert_eq!(tokens("\n\n /* open").unwrap_err().line, 3);
        assert!(tokens("#").unwrap_err().message.contains('#'));
        assert_eq!(tokens("ret;\n// é").unwrap_err().line, 2, "as ptxas says it");
        assert!(tokens("0f12").is_err());
    }
}
