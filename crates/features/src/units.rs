//! Guessing a column's unit from its name. Conservative: a wrong unit is worse than none.

/// The unit that the name says, if it does.
pub(crate) fn unit(name: &str) -> Option<&'static str> {
    let words: Vec<String> = words(name);
    let last = words.last()?.as_str();
    if words.len() > 1
        && let Some((_, unit)) = SUFFIXES.iter().find(|(suffix, _)| *suffix == last)
    {
        return Some(unit);
    }
    // A word that is a unit in full speaks wherever it stands last, alone included.
    FULL.iter().find(|(word, _)| *word == last).map(|(_, unit)| *unit)
}

/// Suffixes that are units only after something that they measure.
const SUFFIXES: [(&str, &str); 24] = [
    ("us", "us"),
    ("ms", "ms"),
    ("s", "s"),
    ("sec", "s"),
    ("secs", "s"),
    ("min", "min"),
    ("mins", "min"),
    ("h", "h"),
    ("hrs", "h"),
    ("km", "km"),
    ("kmh", "km/h"),
    ("mph", "mph"),
    ("mi", "mi"),
    ("ft", "ft"),
    ("kg", "kg"),
    ("lbs", "lb"),
    ("usd", "USD"),
    ("eur", "EUR"),
    ("gbp", "GBP"),
    ("c", "°C"),
    ("f", "°F"),
    ("pct", "%"),
    ("hpa", "hPa"),
    ("mb", "MB"),
];

const FULL: [(&str, &str); 16] = [
    ("milliseconds", "ms"),
    ("millis", "ms"),
    ("seconds", "s"),
    ("minutes", "min"),
    ("hours", "h"),
    ("days", "d"),
    ("kilometers", "km"),
    ("kilometres", "km"),
    ("miles", "mi"),
    ("meters", "m"),
    ("metres", "m"),
    ("feet", "ft"),
    ("percent", "%"),
    ("percentage", "%"),
    ("dollars", "USD"),
    ("euros", "EUR"),
];

/// Physical words whose usual unit depends on the range of the values.
pub(crate) fn unit_by_range(name: &str, low: f64, high: f64) -> Option<&'static str> {
    let words = words(name);
    let has = |word: &str| words.iter().any(|w| w == word);
    if (has("humid") || has("humidity")) && (0.0..=100.0).contains(&low) && (2.0..=100.0).contains(&high) {
        return Some("%");
    }
    if has("pressure") && low > 850.0 && high < 1100.0 {
        return Some("hPa");
    }
    // Above 60 nowhere on Earth is it Celsius; below -20 or so, weather is more likely Celsius, but not surely.
    if (has("temp") || has("temperature")) && low > -60.0 && (60.0..=140.0).contains(&high) {
        return Some("°F");
    }
    None
}

/// The name's words in lower case: split at anything but letters and digits, and where a small letter meets a large.
pub(crate) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small_before = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && small_before) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        small_before = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_names_say() {
        for (name, expected) in [
            ("latency_ms", Some("ms")),
            ("delay_minutes", Some("min")),
            ("distanceKm", Some("km")),
            ("price_usd", Some("USD")),
            ("minutes", Some("min")),
            ("cpu_pct", Some("%")),
            ("c", None),
            ("class", None),
            ("status", None),
            ("vitamin_c_level", None),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }

    #[test]
    fn physical_words_need_a_fitting_range() {
        assert_eq!(unit_by_range("humid", 12.7, 100.0), Some("%"));
        assert_eq!(unit_by_range("humidity", 0.0, 1.0), None);
        assert_eq!(unit_by_range("pressure", 983.8, 1042.1), Some("hPa"));
        assert_eq!(unit_by_range("temp", 10.9, 100.0), Some("°F"));
        assert_eq!(unit_by_range("temp", -20.0, 41.0), None);
    }
}
