//! Instants and lengths of time. Both are plain integers of microseconds; nobody here asks what time it is.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// An instant, in microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A length of time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub i64);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimeError {
    #[error("\"{0}\" is not an instant; write 2013-04-01 or 2013-04-01T05:00:00Z")]
    Instant(String),
    #[error("\"{0}\" is not a length of time; write a number and a unit, such as 90s, 15m, 2h or 7d")]
    Span(String),
}

impl Timestamp {
    pub const MIN: Timestamp = Timestamp(i64::MIN);

    pub fn from_millis(ms: i64) -> Self {
        Timestamp(ms * 1000)
    }

    pub fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Hour of the week in UTC, 0 to 167; 0 is Monday from midnight to one.
    pub fn hour_of_week(self) -> u16 {
        let hours = self.0.div_euclid(3_600_000_000);
        // 1970-01-01 was a Thursday: three days after Monday.
        ((hours + 3 * 24).rem_euclid(168)) as u16
    }

    /// Calendar date in UTC, `YYYY-MM-DD`.
    pub fn date(self) -> String {
        self.to_chrono().map_or_else(|| self.0.to_string(), |t| t.format("%Y-%m-%d").to_string())
    }

    /// Calendar month in UTC, `YYYY-MM`.
    pub fn month(self) -> String {
        self.date().chars().take(7).collect()
    }

    fn to_chrono(self) -> Option<DateTime<Utc>> {
        DateTime::<Utc>::from_timestamp_micros(self.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_chrono() {
            Some(t) => f.write_str(&t.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    /// Reads RFC 3339, `YYYY-MM-DD[ T]HH:MM[:SS[.f]]` (taken as UTC) or `YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let text = text.trim();
        if let Ok(t) = DateTime::parse_from_rfc3339(text) {
            return Ok(Timestamp(t.timestamp_micros()));
        }
        for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
            if let Ok(t) = NaiveDateTime::parse_from_str(text, format) {
                return Ok(Timestamp(t.and_utc().timestamp_micros()));
            }
        }
        if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Timestamp(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros()));
        }
        Err(TimeError::Instant(text.to_owned()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Span;
    fn sub(self, other: Timestamp) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl Span {
    pub const fn hours(n: i64) -> Span {
        Span(n * 3_600_000_000)
    }

    pub const fn days(n: i64) -> Span {
        Span(n * 86_400_000_000)
    }

    pub fn as_days(self) -> f64 {
        self.0 as f64 / 86_400e6
    }

    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

const UNITS: [(&str, i64); 6] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, micros) in UNITS {
            if self.0 % micros == 0 {
                return write!(f, "{}{unit}", self.0 / micros);
            }
        }
        write!(f, "{}us", self.0)
    }
}

impl FromStr for Span {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError::Span(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = trimmed.split_at(split);
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let micros = match unit {
            "us" => 1,
            _ => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        let total = number * micros as f64;
        if !total.is_finite() || total.abs() > i64::MAX as f64 / 2.0 {
            return Err(wrong());
        }
        Ok(Span(total.round() as i64))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_and_print() {
        let t: Timestamp = "2013-04-01T05:30:00Z".parse().unwrap();
        assert_eq!(t.to_string(), "2013-04-01T05:30:00Z");
        assert_eq!("2013-04-01 05:30".parse::<Timestamp>().unwrap(), t);
        assert_eq!(t.date(), "2013-04-01");
        assert_eq!(t.hour_of_week(), 5); // a Monday
        assert!("tomorrow".parse::<Timestamp>().is_err());
    }

    #[test]
    fn spans_read_and_print() {
        for text in ["90s", "15m", "2h", "3d", "2w", "250ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("1.5h".parse::<Span>().unwrap(), Span(5_400_000_000));
        assert!("soon".parse::<Span>().is_err() && "5".parse::<Span>().is_err());
    }
}
