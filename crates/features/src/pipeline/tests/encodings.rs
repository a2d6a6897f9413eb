//! Stories of derived columns, statistics, circles, texts and lists.

use super::*;
use vocabulary::model::{
    CountForm, CountSpec, CyclicSpec, DistanceSpec, ExpressionSpec, LetterCase, ListForm, ListSpec, RecencySpec,
    TargetStatistics, TextScale, TextSpec,
};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn expression(name: &str, sql: &str) -> ExpressionSpec {
    ExpressionSpec { name: name.to_owned(), sql: sql.to_owned() }
}

fn statistics(columns: &[&str], smoothing: f64) -> TargetStatistics {
    TargetStatistics { columns: names(columns), smoothing, min_rows: 2 }
}

fn counts(columns: &[&str]) -> CountSpec {
    CountSpec { columns: names(columns), gives: vec![CountForm::Log, CountForm::Share], min_rows: 1 }
}

fn recency(columns: &[&str], delay: &str) -> RecencySpec {
    let span = |text: &str| text.parse().unwrap();
    RecencySpec { columns: names(columns), delay: span(delay), most: span("365d"), min_rows: 1 }
}

fn text(column: &str) -> TextSpec {
    TextSpec {
        column: column.to_owned(),
        slots: 16,
        words: vec![1, 2],
        characters: vec![3],
        scale: None,
        case: LetterCase::Fold,
    }
}

/// Every encoding that format 3 brought, over [`wide_contract`].
pub(super) fn encoded_spec() -> ModelSpec {
    let cyclic = |column: &str, zone: &str| CyclicSpec {
        column: column.to_owned(),
        zone: zone.to_owned(),
        parts: vec![TimePart::Hour, TimePart::Weekday, TimePart::Month, TimePart::MinuteOfDay],
    };
    let all = crate::expression::tests::ALL.iter().enumerate();
    let pair = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
    ModelSpec {
        features: FeatureSpec {
            columns: names(&["bool_b", "int_a", "float_a", "string_a"]),
            expression: all.map(|(place, sql)| expression(&format!("e{place}"), sql)).collect(),
            distance: vec![DistanceSpec {
                name: "far".to_owned(),
                from: pair("float_a", "float_b"),
                to: pair("int_a", "float_b"),
            }],
            target_statistics: vec![statistics(&["string_a"], 3.0), statistics(&["e4", "int_b"], 0.0)],
            counts: vec![counts(&["string_b", "bool_b"]), counts(&["int_b"])],
            cross: vec![names(&["e5", "bool_b"])],
            cyclic: vec![cyclic("timestamp_a", "America/New_York"), cyclic("e9", "UTC")],
            text: vec![text("string_b")],
            lists: vec![ListSpec {
                column: "string_b".to_owned(),
                separator: "a".to_owned(),
                gives: vec![ListForm::Items, ListForm::Count, ListForm::Min, ListForm::Max, ListForm::Mean],
                slots: 8,
            }],
            ..FeatureSpec::default()
        },
        ..spec("bool_a")
    }
}

/// And what format 4 brought, for each recipe.
pub(super) fn recent_fits(seen: &RecordBatch) -> Vec<Pipeline> {
    let mut spec = ModelSpec { time: Some("timestamp_b".to_owned()), target: "goal".to_owned(), ..encoded_spec() };
    spec.features.recency = vec![recency(&["string_b", "bool_b"], "1d"), recency(&["e4"], "0s")];
    let mut contract = wide_contract();
    contract.columns.push(column("goal", ColumnKind::Int));
    let target: Vec<f64> = (0..seen.num_rows()).map(|row| (row % 3) as f64).collect();
    RECIPES.iter().map(|recipe| fit(&spec, &contract, *recipe, seen, &target)).collect()
}

pub(super) fn encoded_fits(seen: &RecordBatch) -> Vec<Pipeline> {
    let classes = ModelSpec {
        task: Task::Multiclass,
        classes: ["x", "y", "z"].map(|name| Scalar::Text(name.to_owned())).to_vec(),
        ..encoded_spec()
    };
    let target: Vec<f64> = (0..seen.num_rows()).map(|row| (row % 3) as f64).collect();
    let each = RECIPES.iter().flat_map(|recipe| [(encoded_spec(), *recipe), (classes.clone(), *recipe)]);
    each.map(|(mut spec, recipe)| {
        // The target is not to be read by an expression.
        spec.target = "goal".to_owned();
        let mut contract = wide_contract();
        contract.columns.push(column("goal", ColumnKind::Int));
        fit(&spec, &contract, recipe, seen, &target)
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The release gate for what formats 3 and 4 brought: alone, in a batch, through JSON, and from the pipeline's file.
    #[test]
    fn an_encoded_row_gives_the_same_bits_everywhere(seen in canonical_batches(1..40), new in canonical_batches(1..12)) {
        let fits = || encoded_fits(&seen).into_iter().chain(recent_fits(&seen));
        for (pipeline, again) in fits().zip(fits()) {
            prop_assert_eq!(pipeline.digest(), again.digest());
            let back = Pipeline::from_json(&pipeline.to_json()).unwrap();
            prop_assert_eq!(back.digest(), pipeline.digest());
            for batch in [&seen, &new] {
                let report = parity::compare(&pipeline, batch).unwrap();
                prop_assert_eq!(report.first, None);
                let inputs = pipeline.transform(batch).unwrap();
                let bits = |inputs: &Inputs| inputs.dense.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&inputs), bits(&back.transform(batch).unwrap()));
                let trees = pipeline.recipe() == Recipe::Trees;
                let canonical = |x: &f32| x.to_bits() == f32::NAN.to_bits() && trees || x.is_finite() && x.to_bits() != 1 << 31;
                prop_assert!(inputs.dense.iter().all(canonical), "{:?}", inputs.dense);
                prop_assert_eq!(inputs.dense_width, pipeline.layout().dense.len());
            }
            let target: Vec<f64> = (0..seen.num_rows()).map(|row| (row % 3) as f64).collect();
            let training = pipeline.transform_training(&seen, &target, 7).unwrap();
            prop_assert!(pipeline.recipe() == Recipe::Trees || training.dense.iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn an_expression_is_a_column_like_any_other() {
    let gains: ArrayRef = Arc::new(Int64Array::from(vec![Some(10), Some(3), None, Some(0)]));
    let losses: ArrayRef = Arc::new(Int64Array::from(vec![4, 3, 1, 7]));
    let data = batch(&[
        ("gain", &gains),
        ("loss", &losses),
        ("job", &strings(&[Some(" Clerk"), Some("clerk "), None, Some("cook")])),
    ]);
    let contract = contract(vec![
        column("gain", ColumnKind::Int),
        column("loss", ColumnKind::Int),
        column("job", ColumnKind::String),
        column("y", ColumnKind::Bool),
    ]);
    let features = FeatureSpec {
        exclude: names(&["gain", "loss", "job"]),
        expression: vec![expression("net", "gain - loss"), expression("trade", "LOWER(TRIM(job))")],
        cross: vec![names(&["trade", "trade"])],
        ..FeatureSpec::default()
    };
    let spec = ModelSpec { features, ..spec("y") };
    let pipeline = fit(&spec, &contract, Recipe::Trees, &data, &[1.0, 0.0, 0.0, 1.0]);
    assert_eq!(dense_names(&pipeline)[..2], ["net", "trade"]);
    assert_eq!(
        pipeline.input_columns(),
        ["gain", "loss", "job"],
        "what the caller sends are the columns it is made of"
    );
    let inputs = pipeline.transform(&data).unwrap();
    assert_eq!([0, 1, 3].map(|row| inputs.dense_row(row)[0]), [6.0, 0.0, -7.0]);
    assert!(inputs.dense_row(2)[0].is_nan());
    assert_eq!(inputs.dense_row(0)[1], inputs.dense_row(1)[1], "both are clerks");
    let linear = fit(&spec, &contract, Recipe::Linear, &data, &[1.0, 0.0, 0.0, 1.0]);
    assert_eq!(linear.layout().slots, ["net:bin", "trade", "trade*trade"]);
}

#[test]
fn an_expression_does_not_read_what_is_no_input() {
    let data = crate::testing::wide_batch();
    let refused = |features: FeatureSpec| {
        let spec = ModelSpec { features, outcome_at: Some("timestamp_b".to_owned()), ..spec("bool_a") };
        let fitted = Pipeline::fit(&spec, &wide_contract(), Recipe::Trees, &data, &[0], &[0.0; 8], 1);
        fitted.unwrap_err().to_string()
    };
    let of = |sql: &str| FeatureSpec { expression: vec![expression("e", sql)], ..FeatureSpec::default() };
    let target = refused(of("int_a + CAST(bool_a AS BIGINT)"));
    assert!(
        target.contains(
            "features.expression \"e\": at character 14: column \"bool_a\" is not there, or is never an input"
        ),
        "{target}"
    );
    assert!(refused(of("timestamp_b IS NULL")).contains("never an input"));
    let taken = FeatureSpec { expression: vec![expression("int_b", "int_a")], ..FeatureSpec::default() };
    assert!(refused(taken).contains("which the contract declares too"));
    let twice = FeatureSpec {
        counts: vec![counts(&["int_a"]), CountSpec { gives: vec![CountForm::Log], ..counts(&["int_a"]) }],
        ..FeatureSpec::default()
    };
    assert!(refused(twice).contains("two declarations of features give \"int_a:count\""));
}

/// Three rows of one key, one of another: the statistic of a training row rests on those before it alone.
#[test]
fn target_statistics_are_ordered_for_every_task_and_recipe() {
    let at: Vec<i64> = (0..6).map(|hour| hour * HOUR).collect();
    let keys = strings(&[Some("a"), Some("a"), Some("b"), Some("a"), Some("b"), None]);
    let data = batch(&[("at", &instants(&at)), ("k", &keys)]);
    let contract = contract(vec![
        column("at", ColumnKind::Timestamp),
        column("k", ColumnKind::String),
        column("y", ColumnKind::Int),
    ]);
    let features = FeatureSpec {
        exclude: names(&["at", "k"]),
        expression: vec![expression("key", "k")],
        target_statistics: vec![statistics(&["key"], 4.0)],
        ..FeatureSpec::default()
    };
    let base = ModelSpec { features, time: Some("at".to_owned()), ..spec("y") };
    let classes: Vec<Scalar> = ["x", "y", "z"].map(|name| Scalar::Text(name.to_owned())).to_vec();
    let tasks = [
        (Task::Binary, Vec::new(), [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]),
        (Task::Regression, Vec::new(), [3.5, -2.0, 7.0, 0.5, 1.0, 9.0]),
        (Task::Multiclass, classes, [0.0, 2.0, 1.0, 2.0, 1.0, 0.0]),
    ];
    let mine: [usize; 3] = [0, 1, 3];
    for (task, classes, target) in tasks {
        let spec = ModelSpec { task, classes: classes.clone(), ..base.clone() };
        let outputs = classes.len().max(1);
        let hit = |row: usize, output: usize| match task {
            Task::Multiclass => f64::from(u8::from(target[row] as usize == output)),
            _ => target[row],
        };
        let known = |rows: &[usize], output: usize| {
            let prior = (0..6).map(|row| hit(row, output)).sum::<f64>() / 6.0;
            let sum: f64 = rows.iter().map(|row| hit(*row, output)).sum();
            ((sum + 4.0 * prior) / (rows.len() as f64 + 4.0)) as f32
        };
        let pipeline = fit(&spec, &contract, Recipe::Trees, &data, &target);
        assert!(pipeline.learns_from_targets());
        let at = dense_names(&pipeline).iter().position(|name| name.starts_with("key:target")).unwrap();
        let (training, serving) =
            (pipeline.transform_training(&data, &target, 1).unwrap(), pipeline.transform(&data).unwrap());
        for output in 0..outputs {
            for (seen, row) in mine.iter().enumerate() {
                assert_eq!(training.dense_row(*row)[at + output], known(&mine[..seen], output), "{task:?} row {row}");
                assert_eq!(serving.dense_row(*row)[at + output], known(&mine, output), "{task:?} row {row}");
            }
            assert!(training.dense_row(5)[at + output].is_nan());
        }
        for recipe in [Recipe::Linear, Recipe::Network] {
            let pipeline = fit(&spec, &contract, recipe, &data, &target);
            let at = dense_names(&pipeline).iter().position(|name| name.starts_with("key:target")).unwrap();
            let inputs = pipeline.transform(&data).unwrap();
            assert_eq!(dense_names(&pipeline)[at + outputs], "key:target_missing");
            assert_eq!((inputs.dense_row(5)[at], inputs.dense_row(5)[at + outputs]), (0.0, 1.0));
            // Standardised over the rows that have a key.
            let sum: f64 = (0..5).map(|row| f64::from(inputs.dense_row(row)[at])).sum();
            assert!(sum.abs() < 1e-5, "{task:?} {recipe:?}: {sum}");
            let training = pipeline.transform_training(&data, &target, 1).unwrap();
            assert!(training.dense_row(3)[at] != inputs.dense_row(3)[at]);
        }
    }
}

/// Without a time, the order is one that the seed chooses, and the same for the same seed.
#[test]
fn without_a_time_the_seed_orders() {
    let keys = strings(&[Some("a"); 50]);
    let data = batch(&[("k", &keys)]);
    let contract = contract(vec![column("k", ColumnKind::String), column("y", ColumnKind::Bool)]);
    let features = FeatureSpec { target_statistics: vec![statistics(&["k"], 1.0)], ..FeatureSpec::default() };
    let spec = ModelSpec { features, ..spec("y") };
    let target: Vec<f64> = (0..50).map(|row| f64::from(row % 2)).collect();
    let pipeline = fit(&spec, &contract, Recipe::Trees, &data, &target);
    let of = |seed| pipeline.transform_training(&data, &target, seed).unwrap().dense;
    let dense = |values: Vec<f32>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(dense(of(1)), dense(of(1)));
    assert!(dense(of(1)) != dense(of(2)));
}

#[test]
fn counts_and_shares_are_those_of_the_rows_learned_from() {
    let keys = strings(&[Some("a"), Some("a"), Some("a"), Some("b"), None]);
    let data = batch(&[("k", &keys)]);
    let contract = contract(vec![column("k", ColumnKind::String), column("y", ColumnKind::Bool)]);
    let features = FeatureSpec { exclude: names(&["y"]), counts: vec![counts(&["k"])], ..FeatureSpec::default() };
    let spec = ModelSpec { features, ..spec("y") };
    let pipeline = fit(&spec, &contract, Recipe::Trees, &data, &[0.0; 5]);
    assert!(!pipeline.learns_from_targets());
    let at = dense_names(&pipeline).iter().position(|name| *name == "k:count").unwrap();
    assert_eq!(dense_names(&pipeline)[at + 1], "k:share");
    let inputs = pipeline.transform(&data).unwrap();
    assert_eq!(inputs.dense_row(0)[at..at + 2], [4f64.ln() as f32, 0.6]);
    assert_eq!(inputs.dense_row(3)[at + 1], 0.2);
    assert!(inputs.dense_row(4)[at].is_nan());
    let unseen = pipeline.transform(&batch(&[("k", &strings(&[Some("z")]))])).unwrap();
    assert_eq!(unseen.dense_row(0)[at..at + 2], [0.0, 0.0]);
}

/// Hours 0, 1, 2, 30 and 30 of one key: with a delay of a day the fourth and fifth row see the first three, and neither
/// sees the other.
#[test]
fn recency_sees_what_is_older_by_the_delay() {
    let at: Vec<i64> = [0, 1, 2, 30, 30, 31, 40].iter().map(|hour| hour * HOUR).collect();
    let keys = strings(&[Some("a"), Some("a"), Some("a"), Some("a"), Some("a"), Some("b"), None]);
    let data = batch(&[("at", &instants(&at)), ("k", &keys)]);
    let contract = contract(vec![
        column("at", ColumnKind::Timestamp),
        column("k", ColumnKind::String),
        column("y", ColumnKind::Bool),
    ]);
    let features = FeatureSpec { recency: vec![recency(&["k"], "1d")], ..FeatureSpec::default() };
    let spec = ModelSpec { features, time: Some("at".to_owned()), ..spec("y") };
    let target = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
    let figure = |hours: f64| vocabulary::elementary::ln(1.0 + hours * 3600.0) as f32;
    let most = figure(365.0 * 24.0);

    let pipeline = fit(&spec, &contract, Recipe::Trees, &data, &target);
    let place = dense_names(&pipeline).iter().position(|name| *name == "k:since").unwrap();
    let training = pipeline.transform_training(&data, &target, 1).unwrap();
    let of = |inputs: &Inputs, row: usize| inputs.dense_row(row)[place];
    assert_eq!([0, 1, 2].map(|row| of(&training, row)), [most; 3], "nothing is a day older than they are");
    assert_eq!([3, 4].map(|row| of(&training, row)), [figure(28.0); 2], "the newest of those a day before");
    assert_eq!(of(&training, 5), most);
    assert!(of(&training, 6).is_nan());

    // Two days later: the key's last row was at hour 30; sooner than the delay counts as the delay, and so does the past.
    let later = |hours: i64, key| {
        let row = batch(&[("at", &instants(&[hours * HOUR])), ("k", &strings(&[key]))]);
        of(&pipeline.transform(&row).unwrap(), 0)
    };
    assert_eq!([later(78, Some("a")), later(31, Some("a")), later(-5, Some("a"))], [48.0, 24.0, 24.0].map(figure));
    assert_eq!([later(78, Some("new")), later(1_000_000, Some("a"))], [most; 2]);
    assert!(later(78, None).is_nan());
    assert!(pipeline.to_json().starts_with(b"{\"format\":4,"));

    for recipe in [Recipe::Linear, Recipe::Network] {
        let pipeline = fit(&spec, &contract, recipe, &data, &target);
        let place = dense_names(&pipeline).iter().position(|name| *name == "k:since").unwrap();
        assert_eq!(dense_names(&pipeline)[place + 1], "k:since_missing");
        let training = pipeline.transform_training(&data, &target, 1).unwrap();
        let column: Vec<f64> = (0..6).map(|row| f64::from(training.dense_row(row)[place])).collect();
        let (sum, squares): (f64, f64) = (column.iter().sum(), column.iter().map(|x| x * x).sum());
        assert!(sum.abs() < 1e-5 && (squares - 6.0).abs() < 1e-4, "standardised over what is learned from: {column:?}");
        assert_eq!(training.dense_row(6)[place..place + 2], [0.0, 1.0]);
    }
    let timeless = ModelSpec { time: None, ..spec };
    let said = Pipeline::check(&timeless, &contract, Recipe::Trees).unwrap_err().to_string();
    assert!(said.contains("features.recency needs the instant of a row"), "{said}");
}

#[test]
fn circles_join_the_ends_of_the_day_and_the_year() {
    let at = |text: &str| text.parse::<vocabulary::Timestamp>().unwrap().0;
    let data = batch(&[("at", &instants(&[at("2013-01-06T23:59:00Z"), at("2013-12-02T00:00:00Z")]))]);
    let contract = contract(vec![column("at", ColumnKind::Timestamp), column("y", ColumnKind::Bool)]);
    let parts = vec![TimePart::Hour, TimePart::Weekday, TimePart::Month];
    let cyclic = CyclicSpec { column: "at".to_owned(), zone: "UTC".to_owned(), parts };
    let features = FeatureSpec { cyclic: vec![cyclic], ..FeatureSpec::default() };
    let spec = ModelSpec { features, ..spec("y") };
    let pipeline = fit(&spec, &contract, Recipe::Trees, &data, &[0.0; 2]);
    let first = dense_names(&pipeline).iter().position(|name| *name == "at:hour:circle:sine").unwrap();
    let inputs = pipeline.transform(&data).unwrap();
    let point = |row: usize, part: usize| {
        let place = &inputs.dense_row(row)[first + 2 * part..][..2];
        (f64::from(place[0]), f64::from(place[1]))
    };
    assert_eq!(point(1, 0), (0.0, 1.0), "midnight is at the top");
    for (part, count) in [(0, 24.0), (1, 7.0), (2, 12.0)] {
        let ((x, y), (u, v)) = (point(0, part), point(1, part));
        let chord = ((x - u).powi(2) + (y - v).powi(2)).sqrt();
        let step = 2.0 * (std::f64::consts::PI / count).sin();
        assert!((chord - step).abs() < 1e-6, "the last value stands beside the first: {chord} {step}");
    }
    // A network has the circle of a declared hour by itself.
    let zone = "UTC".to_owned();
    let parts = TimeParts { column: "at".to_owned(), zone, parts: vec![TimePart::Hour] };
    let spec = ModelSpec { features: FeatureSpec { time_parts: vec![parts], ..spec.features.clone() }, ..spec };
    let network = fit(&spec, &contract, Recipe::Network, &data, &[0.0; 2]);
    assert_eq!(dense_names(&network).iter().filter(|name| name.starts_with("at:hour")).count(), 2);
    let missing: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None]).with_timezone("UTC"));
    assert!(network.transform(&batch(&[("at", &missing)])).unwrap().dense.iter().all(|value| *value == 0.0));
}

#[test]
fn texts_are_alike_where_their_words_are() {
    let titles = strings(&[
        Some("Red SHOES, size 42"),
        Some("red shoes size 42!"),
        Some("blue hat"),
        Some(""),
        None,
        Some("Straße"),
        Some("STRASSE straße"),
    ]);
    let data = batch(&[("title", &titles)]);
    let contract = contract(vec![column("title", ColumnKind::String), column("y", ColumnKind::Bool)]);
    let of = |declared: TextSpec, recipe| {
        let features = FeatureSpec { text: vec![declared], ..FeatureSpec::default() };
        fit(&ModelSpec { features, ..spec("y") }, &contract, recipe, &data, &[0.0; 7])
    };
    let declared = TextSpec { slots: 512, ..text("title") };
    let trees = of(declared.clone(), Recipe::Trees);
    assert_eq!(trees.layout().dense.len(), 512, "a text is no category beside its words");
    let inputs = trees.transform(&data).unwrap();
    assert_eq!(inputs.dense_row(0), inputs.dense_row(1));
    assert!(inputs.dense_row(0) != inputs.dense_row(2));
    // Four words, three pairs, and with marks 3, 5, 4 and 2 runs of three characters.
    assert_eq!(inputs.dense_row(0).iter().sum::<f32>(), 4.0 + 3.0 + 14.0);
    assert!(inputs.dense_row(3).iter().all(|count| *count == 0.0));
    assert!(inputs.dense_row(4).iter().all(|count| count.is_nan()));
    let common = inputs.dense_row(5).iter().zip(inputs.dense_row(6)).filter(|(a, b)| **a > 0.0 && **b > 0.0).count();
    assert!(common >= 7, "letters of any script fold: {common}");

    let linear = of(declared.clone(), Recipe::Linear).transform(&data).unwrap();
    let length: f64 = linear.dense_row(0).iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    assert!((length - 1.0).abs() < 1e-6 && linear.dense_row(4).iter().all(|x| *x == 0.0));
    let kept = TextSpec { case: LetterCase::Keep, scale: Some(TextScale::Presence), ..declared };
    let kept = of(kept, Recipe::Trees).transform(&data).unwrap();
    assert!(kept.dense_row(0) != kept.dense_row(1));
    assert!(kept.dense_row(0).iter().all(|x| [0.0, 1.0].contains(x)));
}

#[test]
fn lists_give_items_and_figures() {
    let tags = strings(&[Some("red|green"), Some("green | red"), Some("3|-1|blue"), Some(""), None]);
    let data = batch(&[("tags", &tags)]);
    let contract = contract(vec![column("tags", ColumnKind::String), column("y", ColumnKind::Bool)]);
    let list = ListSpec {
        column: "tags".to_owned(),
        separator: "|".to_owned(),
        gives: vec![ListForm::Items, ListForm::Count, ListForm::Min, ListForm::Max, ListForm::Mean],
        slots: 64,
    };
    let features = FeatureSpec { lists: vec![list], ..FeatureSpec::default() };
    let pipeline = fit(&ModelSpec { features, ..spec("y") }, &contract, Recipe::Trees, &data, &[0.0; 5]);
    assert_eq!(dense_names(&pipeline)[..4], ["tags:count", "tags:min", "tags:max", "tags:mean"]);
    assert_eq!(dense_names(&pipeline)[4], "tags:items:0");
    let inputs = pipeline.transform(&data).unwrap();
    assert_eq!(inputs.dense_row(2)[..4], [3.0, -1.0, 3.0, 1.0]);
    assert!(inputs.dense_row(3)[0] == 0.0 && inputs.dense_row(0)[1].is_nan() && inputs.dense_row(4)[0].is_nan());
    assert_eq!(inputs.dense_row(0)[4..], inputs.dense_row(1)[4..]);
    assert_eq!(inputs.dense_row(0)[4..].iter().sum::<f32>(), 2.0);
}

#[test]
fn a_pipeline_shows_itself() {
    let pipeline = encoded_fits(&crate::testing::wide_batch()).remove(0);
    let cards = pipeline.cards();
    let dense: usize = cards.iter().filter(|card| card.step != "column").map(|card| card.dense.len()).sum();
    assert_eq!(dense, pipeline.layout().dense.len());
    assert!(cards.iter().all(|card| !card.reads.is_empty() && !card.detail.is_empty()));
    let text = cards.iter().find(|card| card.step == "text").unwrap();
    assert_eq!(text.gives(), ["string_b:text:0 … string_b:text:15 (16)"]);
    let (dot, svg) = (pipeline.to_dot(), pipeline.to_svg());
    assert!(dot.starts_with("digraph pipeline {") && dot.contains("int_a + int_b * 2") && dot.ends_with("}\n"));
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert!(!svg.contains("&&") && svg.matches("<rect").count() > cards.len());
}
