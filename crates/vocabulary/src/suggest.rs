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

/// A deserializer's message, with "did you mean" after its list of the names that were expected.
pub fn explained(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field") || message.starts_with("unknown variant"), quoted.next()) {
        (true, Some(wrong)) => format!("{message}{}", hint(wrong, quoted)),
        _ => message.to_owned(),
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
        let message = "unknown field `prot`, expected `port` or `clock`";
        assert_eq!(explained(message), format!("{message}; did you mean \"port\"?"));
        assert_eq!(explained("expected `a` of `b`"), "expected `a` of `b`");
    }
}
