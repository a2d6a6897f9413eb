//! Identifiers, each checked once where it enters.

use crate::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    #[error("\"{0}\" is not a digest: 64 hexadecimal digits are expected")]
    Digest(String),
    #[error("\"{0}\" is not a prediction id: 26 characters of Crockford's base 32 are expected")]
    Prediction(String),
    #[error("\"{0}\" is not a share; write a percentage such as 5% or 100%")]
    Share(String),
    #[error(
        "\"{0}\" is not a version; write model@7, model@live, model@candidate, model@fallback, or a digest of at least 8 digits"
    )]
    Version(String),
    #[error("\"{0}\" is not a name: letters, digits, '-' and '_' are allowed, 128 at most, starting with a letter")]
    Name(String),
}

/// Checks a model's, contract's or column-set's name: it becomes part of paths and URLs.
pub fn check_name(name: &str) -> Result<(), IdError> {
    let ok = name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if ok { Ok(()) } else { Err(IdError::Name(name.to_owned())) }
}

/// BLAKE3 digest of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// First twelve digits: enough for a person.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Digest(text.to_owned());
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Digest(bytes))
    }
}

/// Identifies one prediction: 48 bits of milliseconds and 80 bits that make it unique, in Crockford's base 32, so that
/// ids sort by time and name the partition of the log that holds them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PredictionId(pub u128);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl PredictionId {
    /// The `low` 80 bits must be unique within the millisecond.
    pub fn new(at: Timestamp, low: u128) -> Self {
        let ms = (at.millis().max(0) as u128) & ((1 << 48) - 1);
        PredictionId((ms << 80) | (low & ((1 << 80) - 1)))
    }

    /// The instant that the id carries, to the millisecond.
    pub fn at(&self) -> Timestamp {
        Timestamp::from_millis((self.0 >> 80) as i64)
    }
}

impl fmt::Display for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 26];
        for (i, slot) in text.iter_mut().enumerate() {
            *slot = CROCKFORD[((self.0 >> (125 - 5 * i)) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("base 32 is ASCII"))
    }
}

impl fmt::Debug for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PredictionId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Prediction(text.chars().take(64).collect());
        if text.len() != 26 {
            return Err(wrong());
        }
        let mut value: u128 = 0;
        for (i, byte) in text.bytes().enumerate() {
            let digit = CROCKFORD.iter().position(|c| *c == byte.to_ascii_uppercase()).ok_or_else(wrong)?;
            if i == 0 && digit > 7 {
                return Err(wrong());
            }
            value = (value << 5) | digit as u128;
        }
        Ok(PredictionId(value))
    }
}

/// A share of traffic, in basis points: 0 to 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    pub const ALL: Share = Share(10_000);
    pub const NONE: Share = Share(0);

    /// From basis points; more than the whole is the whole.
    pub fn from_bp(bp: u16) -> Share {
        Share(bp.min(10_000))
    }

    pub fn bp(self) -> u16 {
        self.0
    }

    /// Reads `5%` or `0.5%`.
    pub fn parse(text: &str) -> Result<Share, IdError> {
        let wrong = || IdError::Share(text.to_owned());
        let number: f64 = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=100.0).contains(&number) {
            return Err(wrong());
        }
        Ok(Share((number * 100.0).round() as u16))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

/// A version as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VersionRef {
    /// `model@7`
    Number { model: String, number: u32 },
    /// `model@live`, `model@candidate`, `model@fallback`, `model@frozen`
    Role { model: String, role: String },
    /// A digest, or at least eight of its first digits.
    Digest(String),
}

impl FromStr for VersionRef {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Version(text.to_owned());
        if let Some((model, version)) = text.split_once('@') {
            check_name(model)?;
            let model = model.to_owned();
            if let Ok(number) = version.parse() {
                return Ok(VersionRef::Number { model, number });
            }
            if ["live", "candidate", "fallback", "frozen"].contains(&version) {
                return Ok(VersionRef::Role { model, role: version.to_owned() });
            }
            return Err(wrong());
        }
        let hex = (8..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit());
        if hex { Ok(VersionRef::Digest(text.to_ascii_lowercase())) } else { Err(wrong()) }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionRef::Number { model, number } => write!(f, "{model}@{number}"),
            VersionRef::Role { model, role } => write!(f, "{model}@{role}"),
            VersionRef::Digest(digest) => f.write_str(digest),
        }
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

impl FromStr for Share {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Share::parse(text)
    }
}

serde_as_text!(Digest, PredictionId, Share, VersionRef);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prediction_ids_survive_text_and_sort_by_time() {
        let early = PredictionId::new(Timestamp(1_000_000_000_000_000), u128::MAX);
        let late = PredictionId::new(Timestamp(1_000_000_000_001_000), 0);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(late.at(), Timestamp(1_000_000_000_001_000));
        assert!("ZZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<PredictionId>().is_err());
        assert!("short".parse::<PredictionId>().is_err());
    }

    #[test]
    fn shares_and_versions() {
        assert_eq!(Share::parse("5%").unwrap().bp(), 500);
        assert_eq!(Share::from_bp(25).to_string(), "0.25%");
        assert!(Share::parse("5").is_err() && Share::parse("101%").is_err());
        assert_eq!("arrival@7".parse::<VersionRef>().unwrap().to_string(), "arrival@7");
        assert!("arrival@newest".parse::<VersionRef>().is_err());
        assert!("../x@1".parse::<VersionRef>().is_err());
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("deadbeef".parse::<VersionRef>().is_ok());
    }
}
