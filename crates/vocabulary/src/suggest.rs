//! "Did you mean": the nearest known name to one that is not known.

/// The candidate nearest to `name`, if it is near enough to be what was meant (Jaro-Winkler at least 0.8).
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "x"?` or nothing, ready to append to an error.
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, candidates) {
        Some(candidate) => format!("; did you mean \"{candidate}\"?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        assert_eq!(nearest("laerner", ["learner", "target"]), Some("learner"));
        assert_eq!(nearest("zebra", ["learner", "target"]), None);
        assert_eq!(hint("tarhet", ["target"]), "; did you mean \"target\"?");
    }
}
