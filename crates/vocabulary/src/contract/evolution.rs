//! Whether a contract may change as it did. A contract accepts rows, and so does the contract that a version was trained
//! under; what one accepts the other must accept, too.
//!
//! Backward: the contract of today accepts the rows of before (retraining reads them from the log, and callers go on
//! sending them). Forward: the versions that are deployed accept the rows of today. A row is accepted where no value of
//! it is refused: what a repair mends or a warning lets pass is accepted. The rules are those of schema registries (new
//! columns that may be missing are safe both ways, those that may not break backward, columns taken away break forward).

use super::{Column, ColumnKind, Contract, Expectation, NullPolicy, Repair, Severity};
use crate::suggest;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// `compatibility` in a contract's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compatibility {
    /// Any change is allowed.
    None,
    #[default]
    Backward,
    Forward,
    /// Backward and forward.
    Full,
    /// Beside every registered version, not only those that are deployed.
    BackwardTransitive,
    ForwardTransitive,
    FullTransitive,
}

impl Compatibility {
    pub fn is_default(&self) -> bool {
        *self == Compatibility::default()
    }

    pub fn name(self) -> &'static str {
        match self {
            Compatibility::None => "none",
            Compatibility::Backward => "backward",
            Compatibility::Forward => "forward",
            Compatibility::Full => "full",
            Compatibility::BackwardTransitive => "backward_transitive",
            Compatibility::ForwardTransitive => "forward_transitive",
            Compatibility::FullTransitive => "full_transitive",
        }
    }

    pub fn is_transitive(self) -> bool {
        use Compatibility::*;
        matches!(self, BackwardTransitive | ForwardTransitive | FullTransitive)
    }

    /// Whether it asks for this direction.
    pub fn covers(self, direction: Direction) -> bool {
        use Compatibility::*;
        match self {
            None => false,
            Full | FullTransitive => true,
            Backward | BackwardTransitive => direction == Direction::Backward,
            Forward | ForwardTransitive => direction == Direction::Forward,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Today's contract reads rows of before.
    Backward,
    /// A version of before reads today's rows.
    Forward,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Direction::Backward => "backward",
            Direction::Forward => "forward",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Rows are refused, or read as something else.
    Breaks,
    /// Rows are accepted, but a value that was there is null now.
    Empties,
}

/// A version, as far as it depends on a contract.
#[derive(Clone, Debug)]
pub struct Registered<'a> {
    /// Such as `arrival@3`.
    pub name: String,
    /// What it is deployed as, such as `live`; none where it is registered alone.
    pub role: Option<String>,
    /// The contract that it was trained under.
    pub contract: &'a Contract,
    /// The columns that answers need: its pipeline's inputs, time and key.
    pub reads: Vec<String>,
}

/// One column of one version for which the change matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incompatibility {
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    pub direction: Direction,
    pub column: String,
    pub effect: Effect,
    /// Whether the contract's `compatibility` forbids it.
    pub forbidden: bool,
    pub what: String,
    /// How to make the change safe.
    pub remedy: String,
}

/// What the contract of today means for versions trained under it before. Versions that are not deployed count where
/// `compatibility` is transitive; the direction that it does not ask for is told, and forbids nothing.
pub fn incompatibilities(today: &Contract, versions: &[Registered<'_>]) -> Vec<Incompatibility> {
    let mode = today.compatibility;
    let mut found = Vec::new();
    for version in versions {
        if version.role.is_none() && !mode.is_transitive() {
            continue;
        }
        for direction in [Direction::Backward, Direction::Forward] {
            // What nobody asked for is worth a word only where it is deployed.
            if !mode.covers(direction) && version.role.is_none() {
                continue;
            }
            let comparison = Comparison::of(today, version, direction);
            found.extend(comparison.columns().chain(comparison.checks()).map(|breach| Incompatibility {
                version: version.name.clone(),
                role: version.role.clone(),
                direction,
                column: breach.column,
                effect: breach.effect,
                forbidden: breach.effect == Effect::Breaks && mode.covers(direction),
                what: breach.what,
                remedy: breach.remedy,
            }));
        }
    }
    found
}

/// Whether two contracts with one version number mean different things; then a person forgot to raise it.
pub fn is_unnumbered_change(today: &Contract, before: &Contract) -> bool {
    let bare = |contract: &Contract| {
        let mut bare = contract.clone();
        (bare.environments, bare.compatibility) = Default::default();
        bare.columns.iter_mut().for_each(|column| (column.severity, column.aliases) = Default::default());
        bare
    };
    today.version == before.version && bare(today) != bare(before)
}

/// Who reads whose rows.
struct Comparison<'a> {
    reader: &'a Contract,
    writer: &'a Contract,
    direction: Direction,
    version: &'a str,
    /// Of the reader's columns, those that matter; all without.
    reads: Option<&'a [String]>,
}

struct Breach {
    column: String,
    effect: Effect,
    what: String,
    remedy: String,
}

impl<'a> Comparison<'a> {
    fn of(today: &'a Contract, version: &'a Registered<'a>, direction: Direction) -> Comparison<'a> {
        let (reader, writer, reads) = match direction {
            Direction::Backward => (today, version.contract, None),
            Direction::Forward => (version.contract, today, Some(version.reads.as_slice())),
        };
        Comparison { reader, writer, direction, version: &version.name, reads }
    }

    fn matters(&self, column: &str) -> bool {
        self.reads.is_none_or(|reads| reads.iter().any(|read| read == column))
    }

    fn columns(&self) -> impl Iterator<Item = Breach> {
        let columns = self.reader.columns.iter().filter(|column| self.matters(&column.name));
        columns.flat_map(|column| match self.written(column) {
            Some(written) => self.differences(column, written),
            None => self.missing(column).into_iter().collect(),
        })
    }

    /// The writer's column that the reader takes for this one. A server knows today's aliases, whichever version reads.
    fn written(&self, column: &Column) -> Option<&'a Column> {
        let forward = self.direction == Direction::Forward;
        let same = |other: &&Column| column.is_also(&other.name) || (forward && other.is_also(&column.name));
        self.writer.column(&column.name).or_else(|| self.writer.columns.iter().find(same))
    }

    fn missing(&self, column: &Column) -> Option<Breach> {
        let (name, version) = (&column.name, self.version);
        let renamed = self.renamed(column);
        let breach = |effect, what: String, remedy: String| Breach { column: name.clone(), effect, what, remedy };
        Some(match (self.direction, accepts_null(column)) {
            (Direction::Backward, true) => {
                let old = renamed.filter(|old| suggest::nearest(name, [old.name.as_str()]).is_some())?;
                let what = format!("is new, and null in rows of {version}, which have \"{}\" instead", old.name);
                breach(Effect::Empties, what, format!("if it is \"{0}\" renamed, write aliases = [\"{0}\"]", old.name))
            }
            (Direction::Backward, false) => {
                let alias = renamed.map_or_else(
                    || "; of a column that was renamed, write its old name: aliases = [\"OLD\"]".to_owned(),
                    |old| format!("; if it is \"{}\" renamed, write aliases = [\"{}\"]", old.name, old.name),
                );
                let remedy = format!("allow nulls, or write repair = \"default\" with a default{alias}");
                breach(Effect::Breaks, format!("is new: rows of {version} have none, and null is refused"), remedy)
            }
            (Direction::Forward, accepted) => {
                let alias = renamed.map_or_else(String::new, |new| {
                    format!("; if it is \"{}\" now, write aliases = [\"{name}\"] there", new.name)
                });
                let remedy = format!("keep the column until {version} is replaced by a version without it{alias}");
                match accepted {
                    true => {
                        breach(Effect::Empties, format!("is gone: {version} reads it, and takes it for null"), remedy)
                    }
                    false => breach(Effect::Breaks, format!("is gone: {version} reads it, and refuses null"), remedy),
                }
            }
        })
    }

    /// What the column may be called on the other side: of the same type, with no partner here, and alike in name or alone.
    fn renamed(&self, column: &Column) -> Option<&'a Column> {
        let known = |other: &&Column| self.reader.column_or_alias(&other.name).is_none();
        let alike: Vec<&Column> =
            self.writer.columns.iter().filter(|other| other.kind == column.kind).filter(known).collect();
        let named = suggest::nearest(&column.name, alike.iter().map(|other| other.name.as_str()));
        match (named, alike.as_slice()) {
            (Some(name), _) => self.writer.column(name),
            (None, [one]) => Some(one),
            _ => None,
        }
    }

    fn differences(&self, column: &Column, written: &Column) -> Vec<Breach> {
        let aspects = [
            self.kind(column, written),
            self.unit(column, written),
            self.nulls(column, written),
            self.range(column, written),
            self.categories(column, written),
            self.pattern(column, written),
            self.length(column, written),
            self.freshness(column, written),
        ];
        let breach = |(what, remedy): (String, String)| Breach {
            column: column.name.clone(),
            effect: Effect::Breaks,
            what,
            remedy,
        };
        aspects.into_iter().flatten().map(breach).collect()
    }

    fn until_replaced(&self, what: &str) -> String {
        format!("keep {what} until {} is replaced by a version that takes the new rows", self.version)
    }

    fn kind(&self, column: &Column, written: &Column) -> Option<(String, String)> {
        let widened = (written.kind, column.kind) == (ColumnKind::Int, ColumnKind::Float);
        if written.kind == column.kind || widened {
            return None;
        }
        let (was, is) = self.then_and_now(column.kind.name(), written.kind.name());
        let safe = "only int may become float; put the new values into a new column beside it";
        let remedy = match (self.direction, column.kind, written.kind) {
            (Direction::Forward, ColumnKind::Int, ColumnKind::Float) => self.until_replaced("type = \"int\""),
            _ => safe.to_owned(),
        };
        Some((format!("was of type {was} and is of type {is}, which {} cannot read", self.reads_as()), remedy))
    }

    fn unit(&self, column: &Column, written: &Column) -> Option<(String, String)> {
        let (Some(mine), Some(theirs)) = (&column.unit, &written.unit) else { return None };
        if mine == theirs {
            return None;
        }
        let (was, is) = self.then_and_now(mine, theirs);
        let remedy = "put the values in the new unit into a new column beside it".to_owned();
        Some((format!("was in {was} and is in {is}: {} would take the one for the other", self.reads_as()), remedy))
    }

    fn nulls(&self, column: &Column, written: &Column) -> Option<(String, String)> {
        if accepts_null(column) || !accepts_null(written) {
            return None;
        }
        let version = self.version;
        Some(match self.direction {
            Direction::Backward => (
                format!("must not be null any more, and in rows of {version} it may be"),
                "allow nulls, write repair = \"default\" with a default, or severity = { nulls = \"warn\" }".to_owned(),
            ),
            Direction::Forward => {
                (format!("may be null now, which {version} refuses"), self.until_replaced("nulls = \"forbid\""))
            }
        })
    }

    fn range(&self, column: &Column, written: &Column) -> Option<(String, String)> {
        let [low, high] = column.range.filter(|_| refuses(column, Expectation::Range))?;
        let theirs = written.range.filter(|_| refuses(written, Expectation::Range));
        if theirs.is_some_and(|[least, greatest]| low <= least && greatest <= high) {
            return None;
        }
        let may = theirs.map_or_else(|| "any number".to_owned(), |[low, high]| format!("{low} to {high}"));
        let wide = theirs.map_or_else(
            || "drop the range".to_owned(),
            |[least, greatest]| format!("widen it to range = [{}, {}]", low.min(least), high.max(greatest)),
        );
        Some(match self.direction {
            Direction::Backward => (
                format!("is limited to {low} to {high}, and rows of {} may hold {may}", self.version),
                format!("{wide}, write repair = \"clip\", or severity = {{ range = \"warn\" }}"),
            ),
            Direction::Forward => (
                format!("may hold {may} now, and {} refuses what is outside {low} to {high}", self.version),
                self.until_replaced(&format!("range = [{low}, {high}]")),
            ),
        })
    }

    fn categories(&self, column: &Column, written: &Column) -> Option<(String, String)> {
        let closed = |column: &'a Column| {
            column.categories.as_ref().filter(|_| column.closed && refuses(column, Expectation::Categories))
        };
        let mine = closed(self.reader.column(&column.name)?)?;
        let theirs = closed(self.writer.column(&written.name)?);
        let unknown: Option<Vec<&str>> =
            theirs.map(|theirs| theirs.iter().filter(|value| !mine.contains(value)).map(String::as_str).collect());
        let may = match &unknown {
            None => "any word".to_owned(),
            Some(unknown) if unknown.is_empty() => return None,
            Some(unknown) => listed(unknown),
        };
        Some(match self.direction {
            Direction::Backward => {
                let keep = match &unknown {
                    Some(unknown) => format!("keep {} among the categories", listed(unknown)),
                    None => "leave the set open (closed = false)".to_owned(),
                };
                let what = format!("has a closed set of categories, and rows of {} may hold {may}", self.version);
                (what, format!("{keep}, or write repair = \"null\""))
            }
            Direction::Forward => (
                format!("may hold {may} now, and {} refuses what it does not know", self.version),
                self.until_replaced("the closed set of categories"),
            ),
        })
    }

    fn pattern(&self, column: &Column, written: &Column) -> Option<(String, String)> {
        let mine = column.pattern.as_ref().filter(|_| refuses(column, Expectation::Pattern))?;
        let theirs = written.pattern.as_ref().filter(|_| refuses(written, Expectation::Pattern));
        if theirs == Some(mine) {
            return None;
        }
        Some(match self.direction {
            Direction::Backward => (
                format!("must match \"{mine}\", and rows of {} need not", self.version),
                "write severity = { pattern = \"warn\" }, or repair = \"null\"".to_owned(),
            ),
            Direction::Forward => (
                format!("need not match \"{mine}\" any more, which {} asks for", self.version),
                self.until_replaced("the pattern"),
            ),
        })
    }

    fn length(&self, column: &Column, written: &Column) -> Option<(String, String)> {
        let [low, high] = column.length.filter(|_| refuses(column, Expectation::Length))?;
        let theirs = written.length.filter(|_| refuses(written, Expectation::Length));
        if theirs.is_some_and(|[least, most]| low <= least && most <= high) {
            return None;
        }
        Some(match self.direction {
            Direction::Backward => (
                format!("is limited to {low} to {high} characters, and rows of {} are not", self.version),
                "widen the length, or write severity = { length = \"warn\" }".to_owned(),
            ),
            Direction::Forward => (
                format!("may be of another length now, and {} takes {low} to {high} characters", self.version),
                self.until_replaced("the length"),
            ),
        })
    }

    fn freshness(&self, column: &Column, written: &Column) -> Option<(String, String)> {
        let by_row = column.observed_at.is_some() || column.kind == ColumnKind::Timestamp;
        let mine = column.freshness.filter(|_| by_row && refuses(column, Expectation::Freshness))?;
        let theirs = written.freshness.filter(|_| refuses(written, Expectation::Freshness));
        if theirs.is_some_and(|theirs| theirs <= mine) {
            return None;
        }
        Some(match self.direction {
            Direction::Backward => (
                format!("must not be older than {mine}, and in rows of {} it may be", self.version),
                "write severity = { freshness = \"warn\" }".to_owned(),
            ),
            Direction::Forward => (
                format!("may be older than {mine} now, which {} refuses", self.version),
                self.until_replaced("the freshness"),
            ),
        })
    }

    /// Checks of the reader that the writer's rows need not pass.
    fn checks(&self) -> impl Iterator<Item = Breach> {
        let refusing = |check: &&super::CheckRule| {
            let refuses = matches!(check.repair, Repair::Reject | Repair::Quarantine);
            refuses && check.severity == Severity::Error
        };
        let read = |check: &&super::CheckRule| check.expect.columns().into_iter().all(|column| self.matters(column));
        let promised = move |check: &&super::CheckRule| {
            !self.writer.checks.iter().filter(refusing).any(|other| other.expect == check.expect)
        };
        self.reader.checks.iter().filter(refusing).filter(read).filter(promised).map(|check| {
            let (what, remedy) = match self.direction {
                Direction::Backward => (
                    format!("is expected to keep `{}`, and rows of {} need not", check.expect, self.version),
                    format!("write severity = \"warn\" in check \"{}\"", check.name),
                ),
                Direction::Forward => (
                    format!("need not keep `{}` any more, which {} asks for", check.expect, self.version),
                    self.until_replaced(&format!("check \"{}\"", check.name)),
                ),
            };
            Breach { column: check.blamed().to_owned(), effect: Effect::Breaks, what, remedy }
        })
    }

    fn reads_as(&self) -> &str {
        match self.direction {
            Direction::Backward => "this contract",
            Direction::Forward => self.version,
        }
    }

    /// The reader's and the writer's word, in the order of time.
    fn then_and_now<'b>(&self, reader: &'b str, writer: &'b str) -> (&'b str, &'b str) {
        match self.direction {
            Direction::Backward => (writer, reader),
            Direction::Forward => (reader, writer),
        }
    }
}

/// Whether a value that breaks the expectation makes the row refused.
fn refuses(column: &Column, expectation: Expectation) -> bool {
    if column.severity_of(expectation) == Severity::Warn {
        return false;
    }
    match column.repair {
        Repair::Reject | Repair::Quarantine => true,
        Repair::Null => column.nulls == NullPolicy::Forbid,
        Repair::Clip => expectation != Expectation::Range,
        Repair::Default => column.default.is_none(),
    }
}

fn accepts_null(column: &Column) -> bool {
    column.nulls == NullPolicy::Allow || !refuses(column, Expectation::Nulls)
}

fn listed(words: &[&str]) -> String {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = words.iter().take(SHOWN).map(|word| format!("\"{word}\"")).collect();
    if words.len() > SHOWN {
        shown.push(format!("{} more", words.len() - SHOWN));
    }
    shown.join(", ")
}
