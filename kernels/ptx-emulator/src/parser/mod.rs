//! Tokens to a tree: file level and statements. Names are resolved later, in `decode`.

mod operands;

use crate::ast::{Instruction, Kernel, Module, Operand, Space, Statement, Variable};
use crate::error::SourceError;
use crate::lexer::{Spanned, Token, tokens};

/// Reads one PTX file.
///
/// # Errors
/// The first error in the text, with its line.
pub fn parse(source: &str) -> Result<Module<'_>, SourceError> {
    let tokens = tokens(source)?;
    Parser { tokens, at: 0 }.module()
}

/// Largest variable that is accepted: more than any device's shared or constant memory.
const MAX_VARIABLE: u64 = 1 << 26;

struct Parser<'a> {
    tokens: Vec<Spanned<'a>>,
    at: usize,
}

type Parsed<T> = Result<T, SourceError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|spanned| spanned.token)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |spanned| spanned.line)
    }

    fn error<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(SourceError { line: self.line(), message: message.into() })
    }

    fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        match self.peek() {
            Some(token) => self.error(format!("expected {wanted}, found {token:?}")),
            None => self.error(format!("expected {wanted}, found the end of the text")),
        }
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn accept(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(Token::Punct(wanted));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: char) -> Parsed<()> {
        if self.accept(wanted) { Ok(()) } else { self.unexpected(&format!("`{wanted}`")) }
    }

    fn accept_word(&mut self, wanted: &str) -> bool {
        let found = self.peek() == Some(Token::Word(wanted));
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, wanted: &str) -> Parsed<&'a str> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => self.unexpected(wanted),
        }
    }

    fn integer(&mut self, wanted: &str) -> Parsed<u64> {
        match self.peek() {
            Some(Token::Int(value)) => {
                self.at += 1;
                Ok(value)
            }
            _ => self.unexpected(wanted),
        }
    }

    fn module(mut self) -> Parsed<Module<'a>> {
        let mut module =
            Module { version: (0, 0), target: "", variables: Vec::new(), kernels: Vec::new() };
        while let Some(token) = self.peek() {
            let Token::Word(word) = token else { return self.unexpected("a directive") };
            match word {
                ".version" => {
                    self.at += 1;
                    module.version = self.version()?;
                }
                ".target" => {
                    self.at += 1;
                    module.target = self.word("a target such as sm_80")?;
                }
                ".address_size" => {
                    self.at += 1;
                    if self.integer("64")? != 64 {
                        return self.error("only .address_size 64 is supported");
                    }
                }
                ".visible" | ".weak" | ".extern" => self.at += 1,
                ".entry" => module.kernels.push(self.kernel()?),
                _ => {
                    let variable = self.variable()?;
                    self.expect(';')?;
                    module.variables.push(variable);
                }
            }
        }
        if module.version == (0, 0) || module.target.is_empty() {
            return self.error("a PTX file begins with .version and .target");
        }
        Ok(module)
    }

    fn version(&mut self) -> Parsed<(u32, u32)> {
        let Some(Token::Float(version)) = self.next() else {
            self.at -= 1;
            return self.unexpected("a version such as 7.0");
        };
        let tenths = (version * 10.0).round() as u32;
        Ok((tenths / 10, tenths % 10))
    }

    fn kernel(&mut self) -> Parsed<Kernel<'a>> {
        let line = self.line();
        self.at += 1;
        let name = self.word("the kernel's name")?;
        let mut parameters = Vec::new();
        if self.accept('(') && !self.accept(')') {
            loop {
                parameters.push(self.variable()?);
                if !self.accept(',') {
                    break;
                }
            }
            self.expect(')')?;
        }
        let (mut max_threads, mut cluster) = (None, None);
        while let Some(Token::Word(word)) = self.peek() {
            self.at += 1;
            match word {
                ".maxntid" | ".reqntid" => {
                    max_threads = Some(self.sizes()?.into_iter().fold(1, u32::saturating_mul));
                }
                ".reqnctapercluster" => cluster = Some(self.sizes()?),
                ".explicitcluster" => {}
                ".minnctapersm" | ".maxnreg" | ".maxclusterrank" => {
                    self.integer("a number")?;
                }
                _ => {
                    self.at -= 1;
                    return self.error(format!("directive {word} is not supported"));
                }
            }
        }
        let body = self.body()?;
        Ok(Kernel { name, parameters, max_threads, cluster, body, line })
    }

    /// Sizes along x, y and z; those that are not written are 1.
    fn sizes(&mut self) -> Parsed<[u32; 3]> {
        let mut sizes = [1; 3];
        for (axis, size) in sizes.iter_mut().enumerate() {
            if axis > 0 && !self.accept(',') {
                break;
            }
            let number = self.integer("a size")?;
            *size = u32::try_from(number).unwrap_or(u32::MAX);
        }
        Ok(sizes)
    }

    fn body(&mut self) -> Parsed<Vec<Statement<'a>>> {
        self.expect('{')?;
        let mut out = Vec::new();
        let mut depth = 0_u32;
        loop {
            if self.accept('}') {
                if depth == 0 {
                    return Ok(out);
                }
                depth -= 1;
                out.push(Statement::Close);
            } else if self.accept('{') {
                depth += 1;
                out.push(Statement::Open);
            } else {
                self.statement(&mut out)?;
            }
        }
    }

    fn statement(&mut self, out: &mut Vec<Statement<'a>>) -> Parsed<()> {
        let line = self.line();
        match self.peek() {
            Some(Token::Word(".reg")) => {
                self.at += 1;
                self.registers(out)?;
            }
            Some(Token::Word(word)) if word.starts_with('.') => {
                self.accept_word(".extern");
                out.push(Statement::Variable(self.variable()?));
                self.expect(';')?;
            }
            Some(Token::Word(name)) => {
                self.at += 1;
                if self.accept(':') {
                    out.push(Statement::Label(name, line));
                } else {
                    out.push(Statement::Instruction(self.instruction(None, name, line)?));
                }
            }
            Some(Token::Punct('@')) => {
                self.at += 1;
                let negated = self.accept('!');
                let guard = self.word("a predicate")?;
                let name = self.word("an instruction")?;
                let guard = Some((guard, negated));
                out.push(Statement::Instruction(self.instruction(guard, name, line)?));
            }
            _ => return self.unexpected("a statement"),
        }
        Ok(())
    }

    fn registers(&mut self, out: &mut Vec<Statement<'a>>) -> Parsed<()> {
        let line = self.line();
        let ty = self.word("a register type")?;
        loop {
            let name = self.word("a register's name")?;
            let mut count = None;
            if self.accept('<') {
                let number = self.integer("a number of registers")?;
                if number > 4096 {
                    return self.error("more than 4096 registers of one name");
                }
                count = Some(number as u32);
                self.expect('>')?;
            }
            out.push(Statement::Register { ty, name, count, line });
            if !self.accept(',') {
                return self.expect(';');
            }
        }
    }

    /// `.shared .align 16 .b8 tile[1024]`, `.param .u64 x`, `.const .f32 k[2] = {1.0, 2.0}`.
    fn variable(&mut self) -> Parsed<Variable<'a>> {
        let space = match self.word("a state space")? {
            ".global" => Space::Global,
            ".shared" => Space::Shared,
            ".param" => Space::Param,
            ".const" => Space::Const,
            ".local" => Space::Local,
            other => {
                self.at -= 1;
                return self.error(format!("directive {other} is not supported"));
            }
        };
        let align = if self.accept_word(".align") { Some(self.integer("bytes")?) } else { None };
        let ty = self.word("a type")?;
        let Some(element) = size_of_type(ty) else {
            return self.error(format!("{ty} is no type for a variable"));
        };
        let align = align.unwrap_or(u64::from(element));
        if !align.is_power_of_two() || align > 1024 {
            return self.error(format!("alignment {align} is no power of two up to 1024"));
        }
        let name = self.word("a name")?;
        let mut count = 1;
        while self.accept('[') {
            let length =
                if self.peek() == Some(Token::Punct(']')) { 0 } else { self.integer("a length")? };
            count = length.saturating_mul(count);
            self.expect(']')?;
        }
        let size = count.saturating_mul(u64::from(element));
        if size > MAX_VARIABLE {
            return self.error(format!("{name} is larger than {MAX_VARIABLE} bytes"));
        }
        let initial = if self.accept('=') { self.initial(ty, element)? } else { Vec::new() };
        if initial.len() as u64 > size {
            return self.error(format!("{name} has more values than room"));
        }
        Ok(Variable { name, space, align: align as u32, size: size as u32, initial })
    }

    fn initial(&mut self, ty: &str, element: u32) -> Parsed<Vec<u8>> {
        let values = if self.accept('{') {
            let values = self.list()?;
            self.expect('}')?;
            values
        } else {
            vec![self.operand()?]
        };
        let mut out = Vec::new();
        for value in values {
            let bits = match (value, ty) {
                (Operand::Int(value), _) if !ty.starts_with(".f") => value,
                (Operand::F32(bits), ".f32") => u64::from(bits),
                (Operand::F64(bits), ".f64") => bits,
                (Operand::Float(value), ".f32") => u64::from((value as f32).to_bits()),
                (Operand::Float(value), ".f64") => value.to_bits(),
                _ => return self.error(format!("an initial value does not fit {ty}")),
            };
            out.extend_from_slice(&bits.to_le_bytes()[..element as usize]);
        }
        Ok(out)
    }

    fn instruction(
        &mut self,
        guard: Option<(&'a str, bool)>,
        name: &'a str,
        line: u32,
    ) -> Parsed<Instruction<'a>> {
        let operands = self.operands(';')?;
        self.expect(';')?;
        Ok(Instruction { guard, name, operands, line })
    }
}

fn size_of_type(ty: &str) -> Option<u32> {
    Some(match ty {
        ".b8" | ".u8" | ".s8" => 1,
        ".b16" | ".u16" | ".s16" | ".f16" => 2,
        ".b32" | ".u32" | ".s32" | ".f32" => 4,
        ".b64" | ".u64" | ".s64" | ".f64" => 8,
        _ => return None,
    })
}
