//! Patterns of LIKE and pieces of texts, by characters.

use serde::{Deserialize, Serialize};

/// A pattern of LIKE: `%` stands for any characters, `_` for one, `\` takes the meaning from what follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Pattern {
    written: Written,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    text: String,
    #[serde(default)]
    letters: Letters,
}

/// Whether LIKE (`Exact`) or ILIKE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Letters {
    #[default]
    Exact,
    AnyCase,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Any,
    One,
    Is(char),
}

impl Pattern {
    pub(crate) fn new(text: &str, letters: Letters) -> Pattern {
        Written { text: text.to_owned(), letters }.into()
    }

    /// Whether the whole text fits.
    pub(crate) fn fits(&self, text: &str) -> bool {
        match self.written.letters {
            Letters::Exact => fits(&self.pieces, text),
            Letters::AnyCase => fits(&self.pieces, &text.to_lowercase()),
        }
    }
}

impl From<Written> for Pattern {
    fn from(written: Written) -> Pattern {
        let text = match written.letters {
            Letters::Exact => written.text.clone(),
            Letters::AnyCase => written.text.to_lowercase(),
        };
        let (mut pieces, mut characters) = (Vec::new(), text.chars());
        while let Some(character) = characters.next() {
            pieces.push(match character {
                '%' => Piece::Any,
                '_' => Piece::One,
                '\\' => Piece::Is(characters.next().unwrap_or('\\')),
                other => Piece::Is(other),
            });
        }
        Pattern { written, pieces }
    }
}

impl From<Pattern> for Written {
    fn from(pattern: Pattern) -> Written {
        pattern.written
    }
}

/// Goes back to the last `%` alone, so that the time is at most the product of the lengths.
fn fits(pieces: &[Piece], text: &str) -> bool {
    let (mut at, mut rest) = (0, text);
    let mut again: Option<(usize, &str)> = None;
    loop {
        let mut characters = rest.chars();
        match (pieces.get(at), characters.next()) {
            (None, None) => return true,
            (Some(Piece::Any), _) => {
                again = Some((at + 1, rest));
                at += 1;
            }
            (Some(Piece::One), Some(_)) => (at, rest) = (at + 1, characters.as_str()),
            (Some(Piece::Is(wanted)), Some(found)) if *wanted == found => (at, rest) = (at + 1, characters.as_str()),
            _ => {
                let Some((back, from)) = again else { return false };
                let mut skipped = from.chars();
                if skipped.next().is_none() {
                    return false;
                }
                again = Some((back, skipped.as_str()));
                (at, rest) = (back, skipped.as_str());
            }
        }
    }
}

/// `length` characters from the `start`-th on, counted from 1; places before the first count too. None for a length
/// below zero.
pub(crate) fn substring(text: &str, start: i64, length: Option<i64>) -> Option<&str> {
    let before = start.checked_sub(1)?;
    let end = match length {
        Some(length) if length < 0 => return None,
        Some(length) => before.saturating_add(length).max(0),
        None => i64::MAX,
    };
    let before = before.max(0);
    let place = |count: i64| {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if text.is_ascii() { count.min(text.len()) } else { byte(text, count) }
    };
    let (from, to) = (place(before), place(end));
    Some(if from < to { &text[from..to] } else { "" })
}

fn byte(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(place, _)| place)
}
