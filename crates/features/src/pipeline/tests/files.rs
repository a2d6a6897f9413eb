//! What lands on disk: changed files are refused, and earlier ones give the bits that they gave.

use super::*;

#[test]
fn a_changed_or_newer_file_is_refused() {
    let pipeline = wide_fit(Recipe::Linear, &crate::testing::wide_batch());
    let text = String::from_utf8(pipeline.to_json()).unwrap();
    let reason = |changed: String| Pipeline::from_json(changed.as_bytes()).unwrap_err().to_string();
    assert!(reason(text.replacen("\"format\":2", "\"format\":5", 1)).contains("format 5 is not known"));
    assert!(reason(text.replacen("float_a:bin", "float_z:bin", 1)).contains("layout"));
    assert!(reason(text.replacen("\"scale\":1.0", "\"scale\":0.0", 1)).contains("scale"));
}

fn bits(pipeline: &Pipeline) -> Vec<u32> {
    let inputs = pipeline.transform(&crate::testing::wide_batch()).unwrap();
    inputs.dense.iter().map(|value| value.to_bits()).chain(inputs.slots).collect()
}

/// A pipeline of a file that was frozen when its format was new; it gives the bits that it gave then.
fn thawed(name: &str, file: &str) -> Pipeline {
    let frozen: serde_json::Value = serde_json::from_str(file).unwrap();
    let pipeline: Pipeline = serde_json::from_value(frozen["pipeline"].clone()).unwrap();
    assert_eq!(serde_json::json!(bits(&pipeline)), frozen["bits"], "{name}");
    assert_eq!(frozen["digest"], pipeline.digest().to_string());
    pipeline
}

/// As [`thawed`], of two files; and the same fits still give the same bytes.
fn thaw_as_fitted_now(files: [&str; 2], now: [(&str, Pipeline); 2]) {
    for (file, (name, now)) in files.into_iter().zip(now) {
        assert_eq!(thawed(name, file).digest(), now.digest(), "{name}: the same fit gives the same bytes");
    }
}

fn freeze(format: u32, pipelines: [(&str, Pipeline); 2]) {
    for (name, pipeline) in pipelines {
        let digest = pipeline.digest().to_string();
        let frozen = serde_json::json!({"pipeline": pipeline, "digest": digest, "bits": bits(&pipeline)});
        let path = format!("{}/testdata/{name}_{format}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, serde_json::to_string_pretty(&frozen).unwrap() + "\n").unwrap();
    }
}

/// Pipelines of the first release.
#[test]
fn format_1_reads_and_gives_its_bits() {
    thawed("trees", include_str!("../../../testdata/trees_1.json"));
    thawed("linear", include_str!("../../../testdata/linear_1.json"));
}

/// Pipelines with what format 2 brought.
fn format_2() -> [(&'static str, Pipeline); 2] {
    let batch = crate::testing::wide_batch();
    let mut spec = wide_spec();
    spec.features.vocabulary.min_rows = 2;
    let target = [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 2.0, 2.0];
    let network = fit(&spec, &wide_contract(), Recipe::Network, &batch, &target);
    spec.task = Task::Multiclass;
    spec.classes = ["x", "y", "z"].map(|name| Scalar::Text(name.to_owned())).to_vec();
    spec.features.reduce = Some(ReduceSpec { method: ReduceMethod::Pca, columns: Vec::new(), components: 2 });
    [("network", network), ("classes", fit(&spec, &wide_contract(), Recipe::Trees, &batch, &target))]
}

#[test]
fn format_2_reads_and_gives_its_bits() {
    thawed("network", include_str!("../../../testdata/network_2.json"));
    thawed("classes", include_str!("../../../testdata/classes_2.json"));
}

#[test]
#[ignore = "writes testdata/*_2.json; run once, when the format's number is raised"]
fn freeze_format_2() {
    freeze(2, format_2());
}

/// Pipelines with what format 3 brought.
fn format_3() -> [(&'static str, Pipeline); 2] {
    let mut fits = super::encodings::encoded_fits(&crate::testing::wide_batch());
    let linear = fits.swap_remove(2);
    [("encoded_trees", fits.swap_remove(0)), ("encoded_linear", linear)]
}

#[test]
fn format_3_reads_and_gives_its_bits() {
    let files = [
        include_str!("../../../testdata/encoded_trees_3.json"),
        include_str!("../../../testdata/encoded_linear_3.json"),
    ];
    thaw_as_fitted_now(files, format_3());
}

#[test]
#[ignore = "writes testdata/*_3.json; run once, when the format's number is raised"]
fn freeze_format_3() {
    freeze(3, format_3());
}

/// Pipelines with what format 4 brought.
fn format_4() -> [(&'static str, Pipeline); 2] {
    let mut fits = super::encodings::recent_fits(&crate::testing::wide_batch());
    let linear = fits.swap_remove(1);
    [("recent_trees", fits.swap_remove(0)), ("recent_linear", linear)]
}

#[test]
fn format_4_reads_and_gives_its_bits() {
    let files =
        [include_str!("../../../testdata/recent_trees_4.json"), include_str!("../../../testdata/recent_linear_4.json")];
    thaw_as_fitted_now(files, format_4());
}

#[test]
#[ignore = "writes testdata/*_4.json; run once, when the format's number is raised"]
fn freeze_format_4() {
    freeze(4, format_4());
}

/// What needs nothing of format 3 keeps the bytes of before.
#[test]
fn a_plain_pipeline_is_written_as_format_2() {
    let plain = wide_fit(Recipe::Trees, &crate::testing::wide_batch());
    let text = String::from_utf8(plain.to_json()).unwrap();
    assert!(text.starts_with("{\"format\":2,") && !text.contains("derived"));
    let text = String::from_utf8(format_3()[0].1.to_json()).unwrap();
    assert!(text.starts_with("{\"format\":3,"));
    // A tree that does not fit its columns is refused when it is read, not when a row comes.
    let changed = text.replacen("\"column\":0", "\"column\":40", 1);
    assert!(changed != text && Pipeline::from_json(changed.as_bytes()).is_err());
}
