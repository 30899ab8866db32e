//! Text to tokens.

use super::ParseError;

/// Longest selector.
const MAX_LENGTH: usize = 64 * 1024;
/// Longest label key (Calico behaviour).
const MAX_KEY: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A label key or a word of the language.
    Word(String),
    /// Text in quotes, which are not part of it.
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// A token and where it begins, counted in characters from 1.
pub(super) type Placed = (usize, Token);

const SIGNS: [&str; 10] = ["==", "!=", "&&", "||", "!", "(", ")", "{", "}", ","];

pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, ParseError> {
    if text.len() > MAX_LENGTH {
        return Err(ParseError {
            position: 1,
            problem: format!("longer than {MAX_LENGTH} bytes"),
        });
    }
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let position = text[..text.len() - rest.len()].chars().count() + 1;
        let Some(first) = rest.chars().next() else {
            tokens.push((position, Token::End));
            return Ok(tokens);
        };
        let (token, length) = match first {
            '\'' | '"' => quoted(rest, first, position)?,
            _ => match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
                Some(sign) => (Token::Sign(sign), sign.len()),
                None => word(rest, position)?,
            },
        };
        tokens.push((position, token));
        rest = &rest[length..];
    }
}

fn quoted(rest: &str, quote: char, position: usize) -> Result<(Token, usize), ParseError> {
    match rest[1..].find(quote) {
        Some(end) => Ok((Token::Text(rest[1..=end].to_owned()), end + 2)),
        None => Err(ParseError {
            position,
            problem: format!("text without its closing {quote}"),
        }),
    }
}

fn word(rest: &str, position: usize) -> Result<(Token, usize), ParseError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    let end = rest.find(|c| !legal(c)).unwrap_or(rest.len());
    let problem = match end {
        0 => format!("unexpected {:?}", rest.chars().next().unwrap_or_default()),
        end if end > MAX_KEY => format!("label longer than {MAX_KEY} characters"),
        end => return Ok((Token::Word(rest[..end].to_owned()), end)),
    };
    Err(ParseError { position, problem })
}
