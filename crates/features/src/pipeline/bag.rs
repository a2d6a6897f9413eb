//! Texts and lists as counts of what is in them, each hashed into one of a fixed number of dense columns.

use super::derived::{items, text};
use crate::columns::Values;
use crate::hash::{Atom, Purpose, SlotHash, among};
use serde::{Deserialize, Serialize};
use vocabulary::model::{GRAM_MAX, LetterCase, TextScale};

/// What stands before and behind a word whose characters are counted; no word holds them.
const WORD_START: char = '\u{2}';
const WORD_END: char = '\u{3}';

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Content {
    /// Runs of so many words, and of so many characters of a word. A word is a run of letters and digits.
    Text { words: Vec<u32>, characters: Vec<u32>, case: LetterCase },
    /// What stands between separators.
    Items { separator: String },
}

impl Content {
    pub(super) fn sound(&self) -> bool {
        match self {
            Content::Text { words, characters, .. } => {
                words.iter().chain(characters).all(|length| (1..=GRAM_MAX).contains(length))
            }
            Content::Items { separator } => !separator.is_empty(),
        }
    }

    /// What it is called in the layout.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Content::Text { .. } => "text",
            Content::Items { .. } => "items",
        }
    }
}

/// The step at run time.
#[derive(Clone, Debug)]
pub(super) struct Bag {
    column: usize,
    content: Content,
    scale: TextScale,
    slots: u32,
    prefix: SlotHash,
    /// What a missing text gives in every slot.
    missing: f32,
}

impl Bag {
    pub(super) fn new(
        [column, slots]: [usize; 2],
        content: Content,
        scale: TextScale,
        (seed, name): (u64, &str),
        missing: f32,
    ) -> Bag {
        let purpose = match content {
            Content::Text { .. } => Purpose::Gram,
            Content::Items { .. } => Purpose::Item,
        };
        let prefix = SlotHash::prefix(seed, purpose, &[name]);
        Bag { column, content, scale, slots: slots as u32, prefix, missing }
    }

    /// Writes the slots of a row.
    pub(super) fn write(&self, columns: &[Values<'_>], row: usize, dense: &mut [f32]) {
        let dense = &mut dense[..self.slots as usize];
        let Some(text) = text(&columns[self.column], row) else { return dense.fill(self.missing) };
        dense.fill(0.0);
        self.each(text, &mut |hash| dense[among(hash, self.slots) as usize] += 1.0);
        match self.scale {
            TextScale::Count => {}
            TextScale::Presence => dense.iter_mut().for_each(|count| *count = count.min(1.0)),
            TextScale::Unit => {
                let squares: f64 = dense.iter().map(|count| f64::from(*count) * f64::from(*count)).sum();
                if squares > 0.0 {
                    let length = squares.sqrt();
                    dense.iter_mut().for_each(|count| *count = (f64::from(*count) / length) as f32);
                }
            }
        }
    }

    /// The hashes of what a row holds, and the slot of each.
    pub(super) fn contents(&self, columns: &[Values<'_>], row: usize, see: &mut dyn FnMut(u64, u32)) {
        if let Some(text) = text(&columns[self.column], row) {
            self.each(text, &mut |hash| see(hash, among(hash, self.slots)));
        }
    }

    fn each(&self, text: &str, see: &mut dyn FnMut(u64)) {
        match &self.content {
            Content::Items { separator } => {
                items(text, separator).for_each(|item| see(self.prefix.with(Atom::Text(item)).finish()));
            }
            Content::Text { words, characters, case } => {
                let folded;
                let text = match case {
                    LetterCase::Fold => {
                        folded = text.to_lowercase();
                        folded.as_str()
                    }
                    LetterCase::Keep => text,
                };
                self.grams(text, words, characters, see);
            }
        }
    }

    fn grams(&self, text: &str, words: &[u32], characters: &[u32], see: &mut dyn FnMut(u64)) {
        let found: Vec<&str> =
            text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        for length in words {
            let prefix = self.prefix.with(Atom::Bool(true)).with(Atom::Int(i64::from(*length)));
            for run in found.windows(*length as usize) {
                see(run.iter().fold(prefix, |hash, word| hash.with(Atom::Text(word))).finish());
            }
        }
        if characters.is_empty() {
            return;
        }
        let (mut marked, mut places) = (String::new(), Vec::new());
        for word in &found {
            marked.clear();
            marked.push(WORD_START);
            marked.push_str(word);
            marked.push(WORD_END);
            places.clear();
            places.extend(marked.char_indices().map(|(place, _)| place).chain([marked.len()]));
            for length in characters {
                let prefix = self.prefix.with(Atom::Bool(false)).with(Atom::Int(i64::from(*length)));
                for run in places.windows(*length as usize + 1) {
                    see(prefix.with(Atom::Text(&marked[run[0]..run[*length as usize]])).finish());
                }
            }
        }
    }
}
