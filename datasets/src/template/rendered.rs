//! What a template makes of a row: text cut into spans.

use std::ops::Range;

/// Who speaks in a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What the model is given.
    Prompt,
    /// What the model should say.
    Answer,
}

/// A piece of the rendered text. Spans follow one another without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// Who speaks.
    pub role: Role,
    /// Whether its tokens count in the loss.
    pub trained: bool,
    /// Written by the template itself (then special tokens in it are meant as such), not by data.
    pub literal: bool,
}

/// A rendered row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// The whole text.
    pub text: String,
    /// Its pieces.
    pub spans: Vec<Span>,
    /// An answer of the data says nothing, though the template writes something for it, such as an end of turn.
    pub empty_answer: bool,
}

impl Rendered {
    /// Appends a piece; empty pieces leave no span, except an empty answer, which must be seen.
    pub fn push(&mut self, text: &str, role: Role, trained: bool, literal: bool) {
        if text.is_empty() && role == Role::Prompt {
            return;
        }
        let start = self.text.len();
        self.text.push_str(text);
        self.spans.push(Span { range: start..self.text.len(), role, trained, literal });
    }

    /// Prompt text written by the template.
    pub fn literal(&mut self, text: &str) {
        self.push(text, Role::Prompt, false, true);
    }

    /// Prompt text that comes from the data.
    pub fn data(&mut self, text: &str) {
        self.push(text, Role::Prompt, false, false);
    }

    /// A trained answer that comes from the data.
    pub fn answer(&mut self, text: &str) {
        self.push(text, Role::Answer, true, false);
    }

    /// Byte ranges of the answers: neighbouring trained spans are one answer.
    pub fn answers(&self) -> Vec<Range<usize>> {
        let mut answers: Vec<Range<usize>> = Vec::new();
        let mut open = false;
        for span in &self.spans {
            match (span.trained, answers.last_mut()) {
                (true, Some(last)) if open => last.end = span.range.end,
                (true, _) => answers.push(span.range.clone()),
                (false, _) => {}
            }
            open = span.trained;
        }
        answers
    }

    /// True if there is no answer, or one that is blank or to which only the template adds something.
    pub fn has_empty_answer(&self) -> bool {
        let answers = self.answers();
        self.empty_answer
            || answers.is_empty()
            || answers.iter().any(|a| self.text[a.clone()].trim().is_empty())
    }

    /// The text before the first answer, with its spans: what the model is given.
    pub fn prompt_only(&self) -> Rendered {
        let mut prompt = Rendered::default();
        for span in self.spans.iter().take_while(|span| !span.trained) {
            prompt.text.push_str(&self.text[span.range.clone()]);
            prompt.spans.push(span.clone());
        }
        prompt
    }

    /// The text of the last answer; empty if there is none.
    pub fn last_answer(&self) -> &str {
        self.answers().last().map_or("", |range| &self.text[range.clone()])
    }
}

/// Noncharacters that stand for something while a row is rendered. Text of the data must hold none of them.
const MARKS: [char; 4] = ['\u{fdd0}', '\u{fdd1}', '\u{fdd2}', '\u{fdd3}'];

/// Replaces them as unreadable characters are replaced.
pub(crate) fn replace_marks(text: &mut String) {
    if text.contains(MARKS) {
        *text = text.replace(MARKS, "\u{fffd}");
    }
}
