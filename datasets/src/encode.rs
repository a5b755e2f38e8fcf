//! From rendered text to tokens and mask, by fixed rules:
//!
//! - the rendered example is tokenised once, as a whole, except that it is cut where a token would hold the end of
//!   an answer together with what follows it;
//! - a token is trained if its last character lies in a trained span;
//! - BOS stands first if the model has one and the template did not write it;
//! - EOS follows each answer and is trained; where the template itself wrote an end-of-turn token
//!   there, that one is trained instead.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::template::{Rendered, Role};
use crate::tokenizer::{Encoded, Tokenizer};

/// What happens to rows above the limit. An answer is never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverLength {
    /// Left out and counted.
    #[default]
    Drop,
    /// The prompt loses tokens from its beginning (BOS stays).
    CutPrompt,
    /// An error.
    Refuse,
    /// Cut into rows of at most the limit, one after the other: for plain text without a prompt.
    Pieces,
}

/// Settings of encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeOptions {
    /// Most tokens of an example.
    pub max_tokens: usize,
    /// What happens to longer ones.
    pub over_length: OverLength,
}

/// One training example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token numbers.
    pub tokens: Vec<u32>,
    /// Whether the token counts in the loss; as long as `tokens`.
    pub trained: Vec<bool>,
    /// Row number over all files of the run, in reading order.
    pub row: u64,
    /// Which template of the run (0 where there is one).
    pub template: u16,
    /// The prompt was cut.
    pub cut: bool,
}

impl Example {
    /// Tokens that count in the loss. The first token of a row never does: nothing predicts it.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().skip(1).filter(|t| **t).count()
    }
}

/// Why a row is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// The answer is blank, null or absent.
    EmptyAnswer,
    /// Above the limit.
    TooLong,
    /// The answer alone is above the limit.
    AnswerTooLong,
    /// No token is trained.
    NothingTrained,
}

impl DropReason {
    /// In words, to follow a number.
    pub fn words(self) -> &'static str {
        match self {
            Self::EmptyAnswer => "with an empty answer",
            Self::TooLong => "too long",
            Self::AnswerTooLong => "whose answer alone is too long",
            Self::NothingTrained => "without a trained token",
        }
    }
}

/// Tokens and mask of a row before the limit is looked at, with the facts that reports count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Token numbers.
    pub tokens: Vec<u32>,
    /// Whether each counts in the loss.
    pub trained: Vec<bool>,
    /// Answers.
    pub answers: usize,
    /// Answers that end in a trained EOS or end-of-turn token.
    pub answers_ended: usize,
    /// How often special-token text stood in user text.
    pub special_text: usize,
}

impl Encoding {
    /// What makes two rows equal: tokens and mask.
    pub fn key(&self) -> u128 {
        key_of(&self.tokens, &self.trained)
    }

    /// Whether the template wrote BOS twice at the beginning. Text of the data never becomes a control token; of a
    /// BOS that is none, nothing is said.
    pub fn begins_with_two_bos(&self, tokenizer: &Tokenizer) -> bool {
        let (Some(bos), [first, second, ..]) = (tokenizer.bos(), &self.tokens[..]) else {
            return false;
        };
        (*first, *second) == (bos, bos) && tokenizer.is_special(bos)
    }
}

/// 128 bits of SHA-256 over tokens and mask.
pub(crate) fn key_of(tokens: &[u32], trained: &[bool]) -> u128 {
    let mut bytes = Vec::with_capacity(tokens.len() * 5);
    tokens.iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()));
    bytes.extend(trained.iter().map(|t| u8::from(*t)));
    let digest = Sha256::digest(&bytes);
    digest.iter().take(16).fold(0, |key, byte| (key << 8) | u128::from(*byte))
}

/// Applies the rules to a rendered row.
pub fn encode(tokenizer: &Tokenizer, rendered: &Rendered) -> Result<Encoding> {
    let answers = rendered.answers();
    let encoded = encode_text(tokenizer, rendered, &answers)?;
    let mut out = Encoding {
        tokens: Vec::with_capacity(encoded.ids.len() + 2),
        trained: Vec::with_capacity(encoded.ids.len() + 2),
        answers: 0,
        answers_ended: 0,
        special_text: encoded.special_text,
    };
    if let Some(bos) = missing_bos(tokenizer, &encoded) {
        out.tokens.push(bos);
        out.trained.push(false);
    }
    let mut next = 0;
    for (i, &id) in encoded.ids.iter().enumerate() {
        let last = last_byte(&encoded, i);
        // Answers that end before this token: their end comes first.
        let mut ended_here = false;
        while answers.get(next).is_some_and(|answer| answer.end <= last) {
            ended_here |= end_answer(tokenizer, &mut out, Some(id));
            next += 1;
        }
        let trained = answers.get(next).is_some_and(|a| a.start <= last && last < a.end);
        out.tokens.push(id);
        out.trained.push(trained || ended_here);
    }
    for _ in next..answers.len() {
        end_answer(tokenizer, &mut out, None);
    }
    Ok(out)
}

/// Tokens of the whole text. Where a token straddles the end of an answer (Llama 3 has one for a full stop and the
/// line breaks after it), the text is cut there: the answer's own end is learned, then EOS.
fn encode_text(
    tokenizer: &Tokenizer,
    rendered: &Rendered,
    answers: &[std::ops::Range<usize>],
) -> Result<Encoded> {
    let literal = literal_ranges(rendered);
    let encoded = tokenizer.encode(&rendered.text, &literal)?;
    if !tokenizer.cuts_freely() {
        return Ok(encoded);
    }
    let cuts = straddled(tokenizer, &encoded, answers);
    if cuts.is_empty() {
        return Ok(encoded);
    }
    tokenizer.encode_cut(&rendered.text, &literal, &cuts)
}

/// Ends of answers that lie inside a token. A control token may take blanks before it along: that is no such case.
fn straddled(
    tokenizer: &Tokenizer,
    encoded: &Encoded,
    answers: &[std::ops::Range<usize>],
) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut next = 0;
    for (&id, &(start, end)) in encoded.ids.iter().zip(&encoded.offsets) {
        while answers.get(next).is_some_and(|answer| answer.end <= start) {
            next += 1;
        }
        let inside = answers[next..].iter().map(|a| a.end).take_while(|at| *at < end);
        for at in inside {
            if cuts.last().is_none_or(|last| *last < at) && !tokenizer.is_special(id) {
                cuts.push(at);
            }
        }
    }
    cuts
}

/// Ends an answer before token `next`. True if `next` itself is the template's end of turn.
fn end_answer(tokenizer: &Tokenizer, out: &mut Encoding, next: Option<u32>) -> bool {
    out.answers += 1;
    if out.trained.last() == Some(&true) && out.tokens.last().is_some_and(|t| ends(tokenizer, *t)) {
        // The trained span itself ended in the end-of-turn token.
        out.answers_ended += 1;
        return false;
    }
    if next.is_some_and(|id| tokenizer.is_special(id) && Some(id) != tokenizer.bos()) {
        out.answers_ended += 1;
        return true;
    }
    if let Some(eos) = tokenizer.eos() {
        out.tokens.push(eos);
        out.trained.push(true);
        out.answers_ended += 1;
    }
    false
}

fn ends(tokenizer: &Tokenizer, id: u32) -> bool {
    tokenizer.stops().contains(&id) || tokenizer.is_special(id)
}

/// The byte whose span decides whether token `i` is trained.
fn last_byte(encoded: &Encoded, i: usize) -> usize {
    let (start, end) = encoded.offsets[i];
    end.max(start + 1) - 1
}

fn literal_ranges(rendered: &Rendered) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for span in rendered.spans.iter().filter(|span| span.literal) {
        match ranges.last_mut() {
            Some(last) if last.end == span.range.start => last.end = span.range.end,
            _ => ranges.push(span.range.clone()),
        }
    }
    ranges
}

fn missing_bos(tokenizer: &Tokenizer, encoded: &Encoded) -> Option<u32> {
    tokenizer.bos().filter(|bos| encoded.ids.first() != Some(bos))
}

/// Tokens of a prompt as generation needs them: BOS first, no EOS.
pub fn prompt_tokens(tokenizer: &Tokenizer, prompt: &Rendered) -> Result<Vec<u32>> {
    let prompt = prompt.prompt_only();
    let encoded = tokenizer.encode(&prompt.text, &literal_ranges(&prompt))?;
    let mut tokens: Vec<u32> = missing_bos(tokenizer, &encoded).into_iter().collect();
    tokens.extend(&encoded.ids);
    Ok(tokens)
}

/// Tokens of a plain text as generation needs them with `--raw`: BOS first, nothing else added.
pub fn raw_tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut tokens: Vec<u32> = tokenizer.bos().into_iter().collect();
    tokens.extend(tokenizer.encode_plain(text)?.ids);
    Ok(tokens)
}

/// Whether the prompt's own tokens begin the whole example's: if not, the model is asked another
/// question in use than it was taught.
pub fn prompt_is_prefix(tokenizer: &Tokenizer, rendered: &Rendered) -> Result<bool> {
    if rendered.spans.iter().all(|span| span.role == Role::Prompt) {
        return Ok(true);
    }
    let prompt = prompt_tokens(tokenizer, rendered)?;
    Ok(encode(tokenizer, rendered)?.tokens.starts_with(&prompt))
}

/// A long text as rows of at most `max_tokens`, with the same BOS before each. One encoding comes back as
/// it is when it is short enough.
pub fn pieces(tokenizer: &Tokenizer, encoding: Encoding, max_tokens: usize) -> Vec<Encoding> {
    let bos = encoding.tokens.first().copied().filter(|t| Some(*t) == tokenizer.bos());
    let head = usize::from(bos.is_some());
    if encoding.tokens.len() <= max_tokens || max_tokens <= head {
        return vec![encoding];
    }
    let room = max_tokens - head;
    let parts = encoding.tokens[head..].chunks(room).zip(encoding.trained[head..].chunks(room));
    let last = encoding.tokens[head..].len().div_ceil(room) - 1;
    parts
        .enumerate()
        .map(|(i, (tokens, trained))| Encoding {
            tokens: bos.into_iter().chain(tokens.iter().copied()).collect(),
            trained: bos.map(|_| false).into_iter().chain(trained.iter().copied()).collect(),
            answers: if i == last { encoding.answers } else { 0 },
            answers_ended: if i == last { encoding.answers_ended } else { 0 },
            special_text: if i == last { encoding.special_text } else { 0 },
        })
        .collect()
}

/// Fits an encoding into the limit.
pub fn fit(
    tokenizer: &Tokenizer,
    encoding: Encoding,
    row: u64,
    template: u16,
    options: EncodeOptions,
) -> Result<std::result::Result<Example, DropReason>> {
    let Encoding { mut tokens, mut trained, .. } = encoding;
    let mut cut = false;
    let excess = tokens.len().saturating_sub(options.max_tokens);
    if excess > 0 {
        let kept_bos =
            usize::from(tokens.first().copied() == tokenizer.bos() && !tokens.is_empty());
        let first_trained = trained.iter().position(|t| *t).unwrap_or(tokens.len());
        match options.over_length {
            OverLength::Drop | OverLength::Pieces => return Ok(Err(DropReason::TooLong)),
            OverLength::Refuse => {
                let (tokens, limit) = (tokens.len(), options.max_tokens);
                return Err(Error::TooLong { row, tokens, limit });
            }
            // One prompt token must stay to predict the answer's first.
            OverLength::CutPrompt if kept_bos + excess + 1 > first_trained => {
                return Ok(Err(DropReason::AnswerTooLong));
            }
            OverLength::CutPrompt => {
                tokens.drain(kept_bos..kept_bos + excess);
                trained.drain(kept_bos..kept_bos + excess);
                cut = true;
            }
        }
    }
    let example = Example { tokens, trained, row, template, cut };
    if example.trained_tokens() == 0 {
        return Ok(Err(DropReason::NothingTrained));
    }
    Ok(Ok(example))
}
