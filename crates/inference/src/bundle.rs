//! The artifact: one file that holds everything a version needs, named by the digest of its content.
//!
//! ```text
//! "HOMEOSTB"  u32 format  u32 sections
//! for each section, by name: u16 length of name, name, u64 length of content, 32 bytes BLAKE3 of content
//! 32 bytes BLAKE3 of all the above
//! the contents, one after the other
//! ```
//! Numbers are little-endian. Each byte is covered by a digest, so that any damage is found and named.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use vocabulary::Digest;

const MAGIC: &[u8; 8] = b"HOMEOSTB";

/// Version of the container on disk.
const FORMAT: u32 = 1;

/// More sections than this are damage, not a bundle.
const SECTIONS_MAX: usize = 256;

/// Longest name of a section, in bytes.
const NAME_MAX: usize = 128;

/// The sections of a version.
pub mod section {
    pub const MANIFEST: &str = "manifest.json";
    pub const CONTRACT: &str = "contract.json";
    pub const SPEC: &str = "spec.json";
    pub const PIPELINE: &str = "pipeline.json";
    pub const MODEL: &str = "model.bin";
    pub const CALIBRATION: &str = "calibration.json";
    pub const REFERENCE: &str = "reference.json";

    /// What an earlier training needs to answer.
    pub const TO_ANSWER: [&str; 4] = [MANIFEST, PIPELINE, MODEL, CALIBRATION];

    /// How the names of earlier trainings' sections begin.
    pub(crate) const EARLIER: &str = "earlier.";

    /// Where a section of the earlier training of this place is kept.
    pub(crate) fn earlier(place: usize, name: &str) -> String {
        format!("{EARLIER}{place}.{name}")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    sections: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("this is no bundle: it does not begin with HOMEOSTB")]
    Magic,
    #[error("the bundle has format {found}, this program reads {FORMAT}; use a newer program")]
    Format { found: u32 },
    #[error("the bundle ends after {found} bytes, where {expected} are expected; fetch it again")]
    Truncated { expected: u64, found: u64 },
    #[error("the bundle has {0} bytes after its last section; fetch it again")]
    Trailing(u64),
    #[error("the bundle's table of sections is damaged: {0}; fetch it again")]
    Table(String),
    #[error("the bundle's section \"{0}\" is damaged: its digest does not fit; fetch it again")]
    Section(String),
    #[error("the bundle has no section \"{0}\"; it was made by another program or is not a model's version")]
    Missing(String),
    #[error("the bundle's section \"{section}\" cannot be read")]
    Json { section: String, source: serde_json::Error },
    #[error("\"{0}\" cannot name a section: 1 to 128 printable ASCII characters are allowed")]
    Name(String),
    #[error("{0} sections are more than a bundle can hold ({SECTIONS_MAX})")]
    TooMany(usize),
}

impl Bundle {
    pub fn new(sections: BTreeMap<String, Vec<u8>>) -> Result<Bundle, BundleError> {
        if let Some(name) = sections.keys().find(|name| !good_name(name)) {
            return Err(BundleError::Name(name.clone()));
        }
        if sections.len() > SECTIONS_MAX {
            return Err(BundleError::TooMany(sections.len()));
        }
        Ok(Bundle { sections })
    }

    /// Adds what other bundles' own trainings need to answer, so that their answers can be averaged with this one's.
    pub fn with_earlier<'a>(mut self, others: impl IntoIterator<Item = &'a Bundle>) -> Result<Bundle, BundleError> {
        for (place, other) in others.into_iter().enumerate() {
            for name in section::TO_ANSWER {
                self.sections.insert(section::earlier(place, name), other.section(name)?.to_vec());
            }
        }
        Bundle::new(self.sections)
    }

    /// The earlier trainings in this bundle, each as a bundle that can answer.
    pub fn earlier(&self) -> impl Iterator<Item = Result<Bundle, BundleError>> {
        let count = (0..).take_while(|place| self.sections.contains_key(&section::earlier(*place, section::MANIFEST)));
        count.map(|place| {
            let part = |name: &str| Ok((name.to_owned(), self.section(&section::earlier(place, name))?.to_vec()));
            Bundle::new(section::TO_ANSWER.into_iter().map(part).collect::<Result<_, BundleError>>()?)
        })
    }

    /// What belongs to this training alone, without the earlier ones that are averaged in.
    pub fn own_sections(&self) -> BTreeMap<String, Vec<u8>> {
        let own = self.sections.iter().filter(|(name, _)| !name.starts_with(section::EARLIER));
        own.map(|(name, content)| (name.clone(), content.clone())).collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }

    pub fn section(&self, name: &str) -> Result<&[u8], BundleError> {
        self.sections.get(name).map(Vec::as_slice).ok_or_else(|| BundleError::Missing(name.to_owned()))
    }

    /// A section that holds JSON, read as `T`.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, BundleError> {
        let bytes = self.section(name)?;
        serde_json::from_slice(bytes).map_err(|source| BundleError::Json { section: name.to_owned(), source })
    }

    /// The same value always gives the same bytes, where its maps are ordered.
    pub fn json_section<T: Serialize>(name: &str, value: &T) -> Result<(String, Vec<u8>), BundleError> {
        match serde_json::to_vec(value) {
            Ok(bytes) => Ok((name.to_owned(), bytes)),
            Err(source) => Err(BundleError::Json { section: name.to_owned(), source }),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend((self.sections.len() as u32).to_le_bytes());
        for (name, content) in &self.sections {
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend((content.len() as u64).to_le_bytes());
            bytes.extend(Digest::of(content).0);
        }
        bytes.extend(Digest::of(&bytes).0);
        self.sections.values().for_each(|content| bytes.extend(content));
        bytes
    }

    /// BLAKE3 of [`Bundle::encode`]: the version's name.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// Reads what [`Bundle::encode`] wrote; every damage is found.
    pub fn decode(bytes: &[u8]) -> Result<Bundle, BundleError> {
        let mut reader = Reader { whole: bytes, at: 0 };
        if bytes.get(..8) != Some(MAGIC) {
            return Err(BundleError::Magic);
        }
        reader.at = 8;
        let found = u32::from_le_bytes(reader.take()?);
        if found != FORMAT {
            return Err(BundleError::Format { found });
        }
        let table = reader.table()?;
        let end = reader.at;
        let declared = Digest(reader.take()?);
        if Digest::of(&bytes[..end]) != declared {
            return Err(BundleError::Table("its digest does not fit".to_owned()));
        }
        let mut sections = BTreeMap::new();
        for entry in table {
            let content = reader.slice(entry.length)?;
            if Digest::of(content) != entry.digest {
                return Err(BundleError::Section(entry.name));
            }
            sections.insert(entry.name, content.to_vec());
        }
        match bytes.len() - reader.at {
            0 => Ok(Bundle { sections }),
            rest => Err(BundleError::Trailing(rest as u64)),
        }
    }
}

fn good_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

struct Entry {
    name: String,
    length: u64,
    digest: Digest,
}

struct Reader<'a> {
    whole: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn slice(&mut self, length: u64) -> Result<&'a [u8], BundleError> {
        let found = self.whole.len() as u64;
        let expected = (self.at as u64).saturating_add(length);
        if expected > found {
            return Err(BundleError::Truncated { expected, found });
        }
        let from = std::mem::replace(&mut self.at, expected as usize);
        Ok(&self.whole[from..self.at])
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let mut taken = [0; N];
        taken.copy_from_slice(self.slice(N as u64)?);
        Ok(taken)
    }

    fn table(&mut self) -> Result<Vec<Entry>, BundleError> {
        let damaged = |what: &str| BundleError::Table(what.to_owned());
        let count = u32::from_le_bytes(self.take()?) as usize;
        if count > SECTIONS_MAX {
            return Err(damaged("it announces too many sections"));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            let length = u16::from_le_bytes(self.take()?);
            let name = String::from_utf8(self.slice(u64::from(length))?.to_vec()).unwrap_or_default();
            if !good_name(&name) || entries.last().is_some_and(|last| last.name >= name) {
                return Err(damaged("a name is not printable or out of order"));
            }
            let length = u64::from_le_bytes(self.take()?);
            entries.push(Entry { name, length, digest: Digest(self.take()?) });
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bundle() -> Bundle {
        let sections = [("b.bin", vec![1u8, 2, 3]), ("a.json", b"{\"x\":1}".to_vec()), ("empty", vec![])];
        Bundle::new(sections.map(|(name, content)| (name.to_owned(), content)).into()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let decoded = Bundle::decode(&bundle().encode()).unwrap();
        assert_eq!(decoded, bundle());
        assert_eq!(decoded.digest(), Digest::of(&bundle().encode()));
        assert_eq!(decoded.names().collect::<Vec<_>>(), ["a.json", "b.bin", "empty"]);
        assert_eq!(decoded.json::<serde_json::Value>("a.json").unwrap()["x"], 1);
        assert!(matches!(decoded.section("c"), Err(BundleError::Missing(_))));
        assert!(matches!(decoded.json::<u8>("b.bin"), Err(BundleError::Json { .. })));
    }

    #[test]
    fn earlier_trainings_are_carried_without_their_own_earlier_ones() {
        let training = |model: &[u8]| {
            let sections = section::TO_ANSWER.map(|name| (name.to_owned(), model.to_vec()));
            Bundle::new(sections.into()).unwrap()
        };
        let second = training(b"2").with_earlier([&training(b"1")]).unwrap();
        let third = training(b"3").with_earlier([&second, &training(b"1")]).unwrap();
        let carried: Vec<Bundle> = Bundle::decode(&third.encode()).unwrap().earlier().map(Result::unwrap).collect();
        assert_eq!(carried, [training(b"2"), training(b"1")]);
        assert_eq!(third.section(section::MODEL).unwrap(), b"3");
        assert_eq!(third.own_sections(), training(b"3").own_sections());
        assert!(matches!(training(b"1").with_earlier([&bundle()]), Err(BundleError::Missing(_))));
    }

    /// The container's form is a promise: a version stored today is read by each later program.
    #[test]
    fn the_bytes_of_format_1_stay_as_they_are() {
        assert_eq!(bundle().digest().to_string(), "7b139afa49a6503b708d64a67106201e1727f978a61543b2ef8dbc25d4466d14");
    }

    #[test]
    fn each_damage_has_its_name() {
        let good = bundle().encode();
        let error = |bytes: &[u8]| Bundle::decode(bytes).unwrap_err().to_string();
        assert!(error(b"").contains("no bundle"));
        assert!(error(&good[..good.len() - 1]).contains("ends after"));
        assert!(error(&[&good[..], b"x"].concat()).contains("1 bytes after"));
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            error(&bytes)
        };
        assert!(flipped(0).contains("no bundle"));
        assert!(flipped(8).contains("format 0"));
        assert!(flipped(40).contains("table of sections is damaged"));
        assert!(flipped(good.len() - 1).contains("section \"b.bin\" is damaged"));
        assert!(Bundle::new([("no\nname".to_owned(), vec![])].into()).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_bundle_is_refused(at in 0usize..1000, bits in 1u8..=255) {
            let mut bytes = bundle().encode();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            prop_assert!(Bundle::decode(&bytes).is_err());
        }

        #[test]
        fn a_shortened_bundle_is_refused(length in 0usize..1000) {
            let bytes = bundle().encode();
            prop_assert!(Bundle::decode(&bytes[..length % bytes.len()]).is_err());
        }

        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Bundle::decode(&noise);
            let _ = Bundle::decode(&[&b"HOMEOSTB\x01\0\0\0"[..], &noise].concat());
        }
    }
}
