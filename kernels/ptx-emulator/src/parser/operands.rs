//! Operands of an instruction.

use super::{Parsed, Parser};
use crate::ast::Operand;
use crate::lexer::Token;

impl<'a> Parser<'a> {
    pub(super) fn operands(&mut self, end: char) -> Parsed<Vec<Operand<'a>>> {
        let mut out = Vec::new();
        if self.peek() == Some(Token::Punct(end)) {
            return Ok(out);
        }
        loop {
            let first = self.operand()?;
            if self.accept('|') {
                let second = self.atom()?;
                out.push(Operand::Pair(Box::new(first), Box::new(second)));
            } else {
                out.push(first);
            }
            if !self.accept(',') {
                return Ok(out);
            }
        }
    }

    pub(super) fn operand(&mut self) -> Parsed<Operand<'a>> {
        if self.accept('{') {
            let list = self.list()?;
            self.expect('}')?;
            return Ok(Operand::List(list));
        }
        if self.accept('[') { self.address() } else { self.atom() }
    }

    /// Lists do not nest, so this does not recurse.
    pub(super) fn list(&mut self) -> Parsed<Vec<Operand<'a>>> {
        let mut out = vec![self.atom()?];
        while self.accept(',') {
            out.push(self.atom()?);
        }
        Ok(out)
    }

    fn atom(&mut self) -> Parsed<Operand<'a>> {
        if self.accept('!') {
            return Ok(Operand::Not(self.word("a predicate")?));
        }
        let minus = self.accept('-');
        let operand = match (self.next(), minus) {
            (Some(Token::Word(word)), false) => Operand::Name(word),
            (Some(Token::Int(value)), false) => Operand::Int(value),
            (Some(Token::Int(value)), true) => Operand::Int(value.wrapping_neg()),
            (Some(Token::Float(value)), false) => Operand::Float(value),
            (Some(Token::Float(value)), true) => Operand::Float(-value),
            (Some(Token::F32(bits)), false) => Operand::F32(bits),
            (Some(Token::F64(bits)), false) => Operand::F64(bits),
            _ => {
                self.at -= 1;
                return self.unexpected("an operand");
            }
        };
        Ok(operand)
    }

    /// `[base + offset]`, or `[map, {x, y}]` of a tensor.
    fn address(&mut self) -> Parsed<Operand<'a>> {
        let base = self.atom()?;
        let mut offset = 0;
        let plus = self.accept('+');
        let minus = self.accept('-');
        if plus || minus {
            let Ok(magnitude) = i64::try_from(self.integer("an offset")?) else {
                return self.error("the offset is too large");
            };
            offset = if minus { -magnitude } else { magnitude };
        }
        if self.accept(',') {
            self.expect('{')?;
            let coordinates = self.list()?;
            self.expect('}')?;
            self.expect(']')?;
            return Ok(Operand::Tensor(Box::new(base), offset, coordinates));
        }
        self.expect(']')?;
        Ok(Operand::Address(Box::new(base), offset))
    }
}
