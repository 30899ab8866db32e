//! Tokens to an expression, by recursive descent with a bounded depth.

use std::collections::BTreeSet;

use super::lex::{Placed, Token, tokens};
use super::{Expression, ParseError, Test};

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(text: &str) -> Result<Expression, ParseError> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
    };
    if parser.peek() == &Token::End {
        return Ok(Expression::All);
    }
    let expression = parser.disjunction()?;
    match parser.peek() {
        Token::End => Ok(expression),
        _ => Err(parser.unexpected("&&, || or the end")),
    }
}

struct Parser {
    /// Ends with [`Token::End`], which is never consumed.
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let found = self.peek() == &Token::Sign(sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), ParseError> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(self.unexpected(sign))
        }
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        let (position, token) = &self.tokens[self.next];
        let found = match token {
            Token::Word(word) => format!("{word:?}"),
            Token::Text(text) => format!("the text {text:?}"),
            Token::Sign(sign) => format!("{sign:?}"),
            Token::End => "the end".to_owned(),
        };
        ParseError {
            position: *position,
            problem: format!("expected {expected}, found {found}"),
        }
    }

    fn disjunction(&mut self) -> Result<Expression, ParseError> {
        let mut parts = vec![self.conjunction()?];
        while self.take("||") {
            parts.push(self.conjunction()?);
        }
        Ok(joined(parts, Expression::Or))
    }

    fn conjunction(&mut self) -> Result<Expression, ParseError> {
        let mut parts = vec![self.negation()?];
        while self.take("&&") {
            parts.push(self.negation()?);
        }
        Ok(joined(parts, Expression::And))
    }

    fn negation(&mut self) -> Result<Expression, ParseError> {
        let mut negated = false;
        while self.take("!") {
            negated = !negated;
        }
        let inner = self.operand()?;
        Ok(if negated {
            Expression::Not(Box::new(inner))
        } else {
            inner
        })
    }

    fn operand(&mut self) -> Result<Expression, ParseError> {
        if self.peek() == &Token::Sign("(") {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(self.unexpected(&format!("at most {MAX_DEPTH} nested parentheses")));
            }
            self.advance();
            let inner = self.disjunction()?;
            self.expect(")")?;
            self.depth -= 1;
            return Ok(inner);
        }
        let Token::Word(word) = self.peek() else {
            return Err(self.unexpected("a label, has(label), all(), ! or ("));
        };
        let word = word.clone();
        self.advance();
        match (word.as_str(), self.peek()) {
            ("all" | "global", Token::Sign("(")) => {
                self.advance();
                self.expect(")")?;
                Ok(Expression::All)
            }
            ("has", Token::Sign("(")) => {
                self.advance();
                let Token::Word(key) = self.peek().clone() else {
                    return Err(self.unexpected("a label"));
                };
                self.advance();
                self.expect(")")?;
                Ok(Expression::Label(key, Test::Present))
            }
            _ => Ok(Expression::Label(word, self.test()?)),
        }
    }

    fn test(&mut self) -> Result<Test, ParseError> {
        if self.take("==") {
            return Ok(Test::Equal(self.text()?));
        }
        if self.take("!=") {
            return Ok(Test::NotEqual(self.text()?));
        }
        let expected = "==, !=, in, not in, contains, starts with or ends with";
        let Token::Word(word) = self.peek().clone() else {
            return Err(self.unexpected(expected));
        };
        match word.as_str() {
            "in" => {
                self.advance();
                Ok(Test::In(self.set()?))
            }
            "not" => {
                self.advance();
                self.word("in")?;
                Ok(Test::NotIn(self.set()?))
            }
            "contains" => {
                self.advance();
                Ok(Test::Contains(self.text()?))
            }
            "starts" => {
                self.advance();
                self.word("with")?;
                Ok(Test::StartsWith(self.text()?))
            }
            "ends" => {
                self.advance();
                self.word("with")?;
                Ok(Test::EndsWith(self.text()?))
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn word(&mut self, expected: &str) -> Result<(), ParseError> {
        match self.peek() {
            Token::Word(word) if word == expected => {
                self.advance();
                Ok(())
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn text(&mut self) -> Result<String, ParseError> {
        match self.peek().clone() {
            Token::Text(text) => {
                self.advance();
                Ok(text)
            }
            _ => Err(self.unexpected("a text in quotes")),
        }
    }

    fn set(&mut self) -> Result<BTreeSet<String>, ParseError> {
        self.expect("{")?;
        let mut values = BTreeSet::new();
        if self.take("}") {
            return Ok(values);
        }
        loop {
            values.insert(self.text()?);
            if self.take("}") {
                return Ok(values);
            }
            self.expect(",")?;
        }
    }
}

fn joined(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}
