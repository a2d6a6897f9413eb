//! The table of compatibility: each kind of change, in each mode, with its verdict and its words.

use super::*;
use crate::contract::{CheckRule, Scalar, Severities};

/// Orders as version 1 of the contract has them. The version in question reads price, shop and at.
fn before() -> Contract {
    let mut contract = Contract::new(
        "orders",
        vec![
            Column { nulls: NullPolicy::Forbid, ..Column::new("at", ColumnKind::Timestamp) },
            Column {
                nulls: NullPolicy::Forbid,
                range: Some([0.0, 100.0]),
                unit: Some("EUR".into()),
                ..Column::new("price", ColumnKind::Float)
            },
            Column {
                nulls: NullPolicy::Forbid,
                categories: Some(vec!["north".into(), "south".into()]),
                closed: true,
                ..Column::new("shop", ColumnKind::String)
            },
            Column { range: Some([1.0, 9.0]), ..Column::new("count", ColumnKind::Int) },
            Column { nulls: NullPolicy::Forbid, ..Column::new("unused", ColumnKind::Int) },
            Column::new("note", ColumnKind::String),
        ],
    );
    contract.time = Some("at".into());
    contract
}

fn reads() -> Vec<String> {
    ["at", "price", "shop", "count", "note"].map(str::to_owned).to_vec()
}

type Edit = fn(&mut Contract);

fn of<'a>(contract: &'a mut Contract, name: &str) -> &'a mut Column {
    contract.columns.iter_mut().find(|column| column.name == name).unwrap()
}

fn without(contract: &mut Contract, name: &str) {
    contract.columns.retain(|column| column.name != name);
}

fn forbidding(name: &str, kind: ColumnKind) -> Column {
    Column { nulls: NullPolicy::Forbid, ..Column::new(name, kind) }
}

/// A change, and for backward and forward what is said where it breaks.
struct Cell {
    change: &'static str,
    edit: Edit,
    backward: Option<&'static str>,
    forward: Option<&'static str>,
    remedies: &'static [&'static str],
}

const SAFE: Option<&str> = None;

fn table() -> Vec<Cell> {
    let cell = |change, edit, backward, forward, remedies| Cell { change, edit, backward, forward, remedies };
    vec![
        cell("nothing", |_| {}, SAFE, SAFE, &[]),
        cell(
            "add a column that may be null",
            |c| c.columns.push(Column::new("tax", ColumnKind::Float)),
            SAFE,
            SAFE,
            &[],
        ),
        cell(
            "add a column that must not be null",
            |c| c.columns.push(forbidding("tax", ColumnKind::Bool)),
            Some("is new: rows of returned@1 have none"),
            SAFE,
            &[
                "write repair = \"default\" with a default; of a column that was renamed, write its old name: aliases = [\"OLD\"]",
            ],
        ),
        cell(
            "add a column with a default",
            |c| {
                let (repair, default) = (Repair::Default, Some(Scalar::Bool(false)));
                c.columns.push(Column { repair, default, ..forbidding("tax", ColumnKind::Bool) });
            },
            SAFE,
            SAFE,
            &[],
        ),
        cell(
            "remove a column that must not be null",
            |c| without(c, "shop"),
            SAFE,
            Some("is gone: returned@1 reads it, and refuses null"),
            &["keep the column until returned@1 is replaced"],
        ),
        cell("remove a column that may be null", |c| without(c, "note"), SAFE, SAFE, &[]),
        cell("remove a column that no input is made of", |c| without(c, "unused"), SAFE, SAFE, &[]),
        cell(
            "rename",
            |c| of(c, "shop").name = "shop_name".into(),
            Some("is new: rows of returned@1 have none"),
            Some("is gone: returned@1 reads it"),
            &["write aliases = [\"shop\"]", "if it is \"shop_name\" now, write aliases = [\"shop\"] there"],
        ),
        cell(
            "rename with an alias",
            |c| {
                of(c, "shop").aliases = vec!["shop".into()];
                of(c, "shop").name = "shop_name".into();
            },
            SAFE,
            SAFE,
            &[],
        ),
        cell(
            "widen a type",
            |c| of(c, "count").kind = ColumnKind::Float,
            SAFE,
            Some("was of type int and is of type float, which returned@1 cannot read"),
            &["keep type = \"int\" until returned@1 is replaced"],
        ),
        cell(
            "narrow a type",
            |c| of(c, "price").kind = ColumnKind::Int,
            Some("was of type float and is of type int, which this contract cannot read"),
            SAFE,
            &["a new column beside it"],
        ),
        cell(
            "another type",
            |c| of(c, "note").kind = ColumnKind::Bool,
            Some("was of type string and is of type bool, which this contract"),
            Some("was of type string and is of type bool, which returned@1"),
            &["a new column beside it", "a new column beside it"],
        ),
        cell(
            "widen a range",
            |c| of(c, "price").range = Some([0.0, 500.0]),
            SAFE,
            Some("may hold 0 to 500 now, and returned@1 refuses what is outside 0 to 100"),
            &["keep range = [0, 100] until returned@1 is replaced"],
        ),
        cell(
            "narrow a range",
            |c| of(c, "price").range = Some([10.0, 50.0]),
            Some("is limited to 10 to 50, and rows of returned@1 may hold 0 to 100"),
            SAFE,
            &["widen it to range = [0, 100], write repair = \"clip\""],
        ),
        cell(
            "narrow a range that is clipped",
            |c| (of(c, "price").range, of(c, "price").repair) = (Some([10.0, 50.0]), Repair::Clip),
            SAFE,
            Some("may hold any number now"),
            &["keep range = [0, 100]"],
        ),
        cell(
            "narrow a range that only warns",
            |c| {
                of(c, "price").range = Some([10.0, 50.0]);
                of(c, "price").severity = Severities::All(Severity::Warn);
                of(c, "price").nulls = NullPolicy::Allow;
            },
            SAFE,
            Some("may be null now, which returned@1 refuses"),
            &["keep nulls = \"forbid\"", "keep range"],
        ),
        cell(
            "drop a range",
            |c| of(c, "price").range = None,
            SAFE,
            Some("may hold any number now"),
            &["keep range = [0, 100]"],
        ),
        cell(
            "allow nulls",
            |c| of(c, "price").nulls = NullPolicy::Allow,
            SAFE,
            Some("may be null now, which returned@1 refuses"),
            &["keep nulls = \"forbid\" until returned@1 is replaced by a version that takes the new rows"],
        ),
        cell(
            "forbid nulls",
            |c| of(c, "note").nulls = NullPolicy::Forbid,
            Some("must not be null any more, and in rows of returned@1 it may be"),
            SAFE,
            &["allow nulls, write repair = \"default\""],
        ),
        cell(
            "forbid nulls with a default",
            |c| {
                let note = of(c, "note");
                (note.nulls, note.repair) = (NullPolicy::Forbid, Repair::Default);
                note.default = Some(Scalar::Text(String::new()));
            },
            SAFE,
            SAFE,
            &[],
        ),
        cell(
            "add a category to a closed set",
            |c| of(c, "shop").categories.as_mut().unwrap().push("web".into()),
            SAFE,
            Some("may hold \"web\" now, and returned@1 refuses"),
            &["keep the closed set of categories until"],
        ),
        cell(
            "take a category from a closed set",
            |c| of(c, "shop").categories = Some(vec!["north".into()]),
            Some("rows of returned@1 may hold \"south\""),
            SAFE,
            &["keep \"south\" among the categories, or write repair = \"null\""],
        ),
        cell(
            "open a closed set",
            |c| of(c, "shop").closed = false,
            SAFE,
            Some("may hold any word now"),
            &["keep the closed set"],
        ),
        cell(
            "close an open set",
            |c| (of(c, "note").categories, of(c, "note").closed) = (Some(vec!["a".into()]), true),
            Some("rows of returned@1 may hold any word"),
            SAFE,
            &["leave the set open (closed = false)"],
        ),
        cell(
            "another unit",
            |c| of(c, "price").unit = Some("USD".into()),
            Some("was in EUR and is in USD: this contract would take"),
            Some("was in EUR and is in USD: returned@1 would take"),
            &["a new column beside it", "a new column beside it"],
        ),
        cell(
            "ask for a pattern",
            |c| of(c, "note").pattern = Some("[a-z]+".into()),
            Some("must match \"[a-z]+\""),
            SAFE,
            &["severity = { pattern = \"warn\" }"],
        ),
        cell(
            "ask for a length",
            |c| of(c, "note").length = Some([1, 9]),
            Some("is limited to 1 to 9 characters"),
            SAFE,
            &["severity = { length = \"warn\" }"],
        ),
        cell(
            "expect something of two columns",
            |c| c.checks.push(CheckRule::new("cheap", "if shop = 'north' then price < 50".parse().unwrap())),
            Some("is expected to keep `if shop = 'north' then price < 50`"),
            SAFE,
            &["severity = \"warn\" in check \"cheap\""],
        ),
    ]
}

fn told(today: &Contract, role: Option<&str>) -> Vec<Incompatibility> {
    let before = before();
    let role = role.map(str::to_owned);
    incompatibilities(today, &[Registered { name: "returned@1".into(), role, contract: &before, reads: reads() }])
}

#[test]
fn each_change_has_its_verdict_in_each_mode() {
    use Compatibility::*;
    for Cell { change, edit, backward, forward, remedies } in table() {
        let mut today = before();
        edit(&mut today);
        for mode in [None, Backward, Forward, Full, BackwardTransitive, ForwardTransitive, FullTransitive] {
            today.compatibility = mode;
            let found = told(&today, Some("live"));
            for (direction, expected) in [(Direction::Backward, backward), (Direction::Forward, forward)] {
                let breaks: Vec<&Incompatibility> =
                    found.iter().filter(|i| i.direction == direction && i.effect == Effect::Breaks).collect();
                assert_eq!(breaks.is_empty(), expected.is_none(), "{change}, {}: {breaks:?}", direction.name());
                assert!(breaks.iter().all(|i| i.forbidden == mode.covers(direction)), "{change}, {}", mode.name());
                let said = breaks.first().map_or("", |i| i.what.as_str());
                assert!(said.contains(expected.unwrap_or_default()), "{change}: {said}");
            }
            let breaks: Vec<&Incompatibility> = found.iter().filter(|i| i.effect == Effect::Breaks).collect();
            assert_eq!(breaks.len(), remedies.len(), "{change}: {breaks:?}");
            for (breach, remedy) in breaks.iter().zip(remedies) {
                assert!(breach.remedy.contains(remedy), "{change}: {}", breach.remedy);
                assert_eq!((breach.version.as_str(), breach.role.as_deref()), ("returned@1", Some("live")));
            }
        }
    }
}

#[test]
fn a_version_that_is_not_deployed_counts_where_the_rule_is_transitive() {
    for Cell { change, edit, backward, forward, .. } in table() {
        let mut today = before();
        edit(&mut today);
        for (mode, expected) in [
            (Compatibility::Full, 0),
            (Compatibility::BackwardTransitive, usize::from(backward.is_some())),
            (Compatibility::ForwardTransitive, usize::from(forward.is_some())),
            (Compatibility::FullTransitive, usize::from(backward.is_some()) + usize::from(forward.is_some())),
        ] {
            today.compatibility = mode;
            let mut directions: Vec<&str> =
                told(&today, Option::None).iter().filter(|i| i.forbidden).map(|i| i.direction.name()).collect();
            directions.dedup();
            assert_eq!(directions.len(), expected, "{change}, {}", mode.name());
        }
    }
}

#[test]
fn a_value_that_would_be_null_from_now_on_is_told_but_not_forbidden() {
    let mut today = before();
    today.compatibility = Compatibility::Full;
    of(&mut today, "note").name = "notes".into();
    let found = told(&today, Some("live"));
    let shown: Vec<_> = found.iter().map(|i| (i.direction, i.effect, i.forbidden)).collect();
    let empties = |direction| (direction, Effect::Empties, false);
    assert_eq!(shown, [empties(Direction::Backward), empties(Direction::Forward)]);
    assert!(found.iter().all(|i| i.remedy.contains("aliases = [\"note\"]")), "{found:?}");
}

#[test]
fn a_change_of_meaning_under_the_same_number_is_noticed() {
    let mut today = before();
    assert!(!is_unnumbered_change(&today, &before()));
    of(&mut today, "note").aliases = vec!["remark".into()];
    assert!(!is_unnumbered_change(&today, &before()), "an alias changes no meaning");
    of(&mut today, "price").unit = Some("USD".into());
    assert!(is_unnumbered_change(&today, &before()));
    today.version = 2;
    assert!(!is_unnumbered_change(&today, &before()));
}
