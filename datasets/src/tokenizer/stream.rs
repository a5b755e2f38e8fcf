//! Tokens become text as they arrive; a character that is not complete yet is held back.

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Tokens held back at most: a model may emit bytes that never become a character.
const MOST_HELD: usize = 32;

/// Decodes one token after another.
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// Tokens before this have been given out; they stay as context for the next.
    context: usize,
    given: usize,
    skip_special: bool,
}

impl<'a> StreamDecoder<'a> {
    /// Tokens decode as after `before` (the end of the prompt), so that a first word keeps its
    /// leading space. With `skip_special` control tokens leave no text.
    pub fn new(tokenizer: &'a Tokenizer, before: &[u32], skip_special: bool) -> Self {
        let context = before.len().saturating_sub(8);
        let ids = before[context..].to_vec();
        let given = ids.len();
        Self { tokenizer, ids, context: 0, given, skip_special }
    }

    /// Takes a token; gives the text that is complete now, often empty.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let (known, all) = self.texts()?;
        // A replacement character at the end may be the first half of a character.
        if all.ends_with('\u{fffd}') && self.ids.len() - self.given < MOST_HELD {
            return Ok(String::new());
        }
        Ok(self.give(&known, &all))
    }

    /// The rest, whole or not.
    pub fn finish(&mut self) -> Result<String> {
        let (known, all) = self.texts()?;
        Ok(self.give(&known, &all))
    }

    fn texts(&self) -> Result<(String, String)> {
        let known = &self.ids[self.context..self.given];
        let all = &self.ids[self.context..];
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, self.skip_special);
        Ok((decode(known)?, decode(all)?))
    }

    fn give(&mut self, known: &str, all: &str) -> String {
        let fresh = all.get(known.len()..).unwrap_or_default().to_string();
        self.context = self.given;
        self.given = self.ids.len();
        // Only the last few tokens can matter for the next.
        if self.context > 64 {
            self.ids.drain(..self.context);
            self.given -= self.context;
            self.context = 0;
        }
        fresh
    }
}
